"""The oracle: keep rules, compaction, resting, traces and budgets, asked with queries made by hand.

The model answers with the pixels themselves: an image of three values is its own logits, so a query chooses the
verdict.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from blindspots import BlindspotsError, Budget, Classifier, Goal
from blindspots.descend import bracket, descend
from blindspots.geometry import NORMS
from blindspots.noise import key
from blindspots.objectives import Margin
from blindspots.optimisers import Steepest
from blindspots.oracle import Oracle
from blindspots.spaces import Additive

CLEAN = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)


class Pixels(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def oracle(count: int = 4, keep: str = "first", batch: int = 2, **settings: Any) -> Oracle:
    """Images with logits (.9, .5, .1) and label 0; the objective is the margin, .4 to begin with."""
    images = CLEAN.view(1, 3, 1, 1).repeat(count, 1, 1, 1)
    classifier = Classifier(Pixels(), classes=3, batch=batch)
    goal = Goal(torch.zeros(count, dtype=torch.int64))
    space = Additive(images, "linf", 1.0)
    keys = key(0, torch.arange(count))
    return Oracle(classifier, images, goal, space, Margin(), keys, keep=keep, **settings)


def asked(o: Oracle, *values: float, gradient: bool = False) -> Any:
    """Query each live row with its first logit set to this value; below .5 the goal is reached."""
    theta = o.images.clone()
    theta[:, 0, 0, 0] = torch.tensor(values, dtype=torch.float64)
    return o.query(theta, gradient=gradient)


def kept(o: Oracle) -> list[float]:
    return [round(v, 6) for v in o.record.theta[:, 0, 0, 0].tolist()]


def test_first_keeps_the_first_success_and_settles() -> None:
    o = oracle(3)
    o.judge_clean()
    asked(o, 0.8, 0.3, 0.7)
    asked(o, 0.6, 0.1, 0.9)
    asked(o, 0.4, 0.2, 0.95)
    assert kept(o) == [0.4, 0.3, 0.7]
    assert o.record.success.tolist() == [True, True, False]
    assert o.record.forwards.tolist() == [4, 2, 4]
    assert o.active.tolist() == [False, False, True]


def test_without_success_the_lowest_objective_is_kept() -> None:
    o = oracle(2)
    o.judge_clean()
    asked(o, 0.95, 0.7)
    asked(o, 1.0, 0.8)
    assert kept(o) == [0.9, 0.7]
    assert [round(v, 6) for v in o.record.loss.tolist()] == [0.4, 0.2]


def test_smallest_keeps_the_smallest_success_and_goes_on() -> None:
    """Trap 4: size 0 of the clean image does not win where the clean image is no success."""
    o = oracle(3, "smallest")
    o.judge_clean()
    asked(o, 0.2, 0.45, 0.8)
    asked(o, 0.4, 0.1, 0.7)
    asked(o, 0.3, 0.6, 0.85)
    assert kept(o) == [0.4, 0.45, 0.7]
    assert o.record.success.tolist() == [True, True, False]
    assert o.record.forwards.tolist() == [4, 4, 4]


def test_equal_sizes_up_to_rounding_keep_the_first() -> None:
    o = oracle(1, "smallest")
    o.judge_clean()
    asked(o, 0.4)
    asked(o, 0.4 + 1e-12)
    assert float(o.record.theta[0, 0, 0, 0]) == 0.4


def test_lowest_prefers_any_success_and_then_the_lowest_objective() -> None:
    o = oracle(2, "lowest")
    o.judge_clean()
    asked(o, 0.45, 0.6)
    asked(o, 0.2, 0.55)
    asked(o, 0.7, 0.9)
    assert kept(o) == [0.2, 0.55]
    assert o.record.success.tolist() == [True, False]


@pytest.mark.parametrize("keep", ["first", "smallest", "lowest"])
def test_an_image_that_is_wrong_before_is_settled_by_the_first_query(keep: str) -> None:
    """Trap 42: by every rule."""
    o = oracle(2, keep)
    o.images[0, 0] = 0.0
    o.judge_clean()
    assert o.active.tolist() == [False, True]
    asked(o, 0.2, 0.2)
    assert o.record.theta[0].flatten().tolist() == [0.0, 0.5, 0.1]
    assert o.record.forwards.tolist() == [1, 2]


def test_compaction_waits_until_it_saves_a_call() -> None:
    """Four rows in batches of two: with one settled there are still two calls, with two settled one."""
    o = oracle(4)
    o.judge_clean()
    assert o.compact() is None
    asked(o, 0.3, 0.8, 0.8, 0.8)
    assert o.compact() is None
    assert len(o.rows) == 4
    asked(o, 0.3, 0.8, 0.2, 0.8)
    assert o.compact().tolist() == [1, 3]
    assert o.rows.tolist() == [1, 3]
    assert len(o.images) == len(o.goal.labels) == len(o.space.zero()) == len(o.keys()) == 2
    asked(o, 0.7, 0.4)
    asked(o, 0.1, 0.3)
    assert kept(o) == [0.3, 0.1, 0.2, 0.4]
    assert o.compact().tolist() == []


def test_settled_rows_are_not_judged_again() -> None:
    o = oracle(2)
    o.judge_clean()
    asked(o, 0.3, 0.8)
    asked(o, 0.0, 0.8)
    assert kept(o)[0] == 0.3
    assert o.record.forwards.tolist() == [2, 3]


def test_revive_brings_back_what_is_not_settled() -> None:
    o = oracle(4)
    o.judge_clean()
    asked(o, 0.3, 0.3, 0.3, 0.8)
    assert o.compact().tolist() == [3]
    assert o.revive()
    assert o.rows.tolist() == [3]
    asked(o, 0.2)
    assert not o.revive()


def test_resting_rows_pause_until_the_next_run() -> None:
    o = oracle(2, "smallest")
    o.judge_clean()
    assert o.revive(rest=True)
    asked(o, 0.3, 0.8)
    assert o.resting.tolist() == [True, False]
    assert o.active.tolist() == [False, True]
    asked(o, 0.45, 0.8)
    assert kept(o)[0] == 0.3, "a resting image is not judged"
    assert o.revive(rest=True)
    assert o.active.tolist() == [True, True]
    asked(o, 0.45, 0.8)
    assert kept(o)[0] == 0.45


def test_settle_gives_up() -> None:
    o = oracle(2)
    o.judge_clean()
    o.settle(torch.tensor([False, True]))
    asked(o, 0.8, 0.1)
    assert o.record.success.tolist() == [False, False]
    assert o.record.forwards.tolist() == [2, 1]


def test_gradients_are_those_of_the_objective_and_are_counted() -> None:
    o = oracle(3, batch=2)
    o.judge_clean()
    answer = asked(o, 0.8, 0.3, 0.7, gradient=True)
    assert answer.gradient[[0, 2]].flatten(1).tolist() == [[1.0, -1.0, 0.0]] * 2
    assert answer.logits[:, 0].tolist() == pytest.approx([0.8, 0.3, 0.7])
    assert answer.loss.tolist() == pytest.approx([0.3, -0.2, 0.2])
    assert o.record.backwards.tolist() == [1, 0, 1], "a success needs no further gradient"


def test_broken_gradients_are_counted_and_left_out() -> None:
    """Trap 34: NaN does not spread, neither into the step nor into other images."""

    class Root(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1).sqrt()

    images = CLEAN.view(1, 3, 1, 1).repeat(2, 1, 1, 1)
    images[0, 1] = 0.0  # the root of 0 has no finite slope
    model = Classifier(Root(), classes=3, batch=2)
    goal = Goal(torch.tensor([0, 0]), torch.tensor([1, 1]))
    o = Oracle(model, images, goal, Additive(images, "linf", 1.0), Margin(), key(0, torch.arange(2)))
    gradient = o.query(o.space.zero()).gradient
    assert torch.isfinite(gradient).all()
    assert o.record.bad_gradients.tolist() == [1, 0]
    assert o.record.zero_gradients.tolist() == [0, 0]
    assert gradient[1].any()


def test_trace_has_an_entry_a_query_and_nan_for_what_was_not_asked() -> None:
    o = oracle(2, batch=1, traced=True)
    o.judge_clean()
    asked(o, 0.8, 0.3, gradient=True)
    o.compact()
    asked(o, 0.7)
    trace = o.record.trace
    assert [sorted(entry) for entry in trace] == [["loss", "size"], ["gradient", "loss", "size"], ["loss", "size"]]
    assert trace[0]["loss"].tolist() == pytest.approx([0.4, 0.4])
    assert trace[1]["size"].tolist() == pytest.approx([0.1, 0.6])
    assert float(trace[1]["gradient"][0]) == pytest.approx(2**0.5)
    assert trace[2]["loss"].tolist() == pytest.approx([0.2, float("nan")], nan_ok=True)


def test_a_row_without_budget_is_settled() -> None:
    """Of three forwards one is kept for the verification: the clean image and one query are left."""
    o = oracle(1, budget=Budget(forwards=3))
    o.judge_clean()
    assert o.active.tolist() == [True]
    asked(o, 0.8)
    assert o.active.tolist() == [False]
    asked(o, 0.1)
    assert not o.record.success.any()
    assert o.record.forwards.tolist() == [2]


def test_the_point_of_the_last_step_is_judged_when_backwards_run_out() -> None:
    o = oracle(1, budget=Budget(backwards=1))
    descend(o, o.space.zero(), Steepest("linf", 0.1), 5)
    assert o.record.forwards.tolist() == [2]
    assert o.record.backwards.tolist() == [1]
    assert kept(o) == [0.8]


def test_verification_takes_back_what_does_not_hold() -> None:
    """A module that answers otherwise the second time does not get away with a success."""

    class Fickle(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x.flatten(1) + (torch.tensor([0.0, 1.0, 0.0]) if self.calls == 2 else 0)

    images = CLEAN.view(1, 3, 1, 1).clone()
    model = Classifier(Fickle(), classes=3, batch=1)
    o = Oracle(model, images, Goal(torch.tensor([0])), Additive(images, "linf", 1.0), Margin(), key(0, torch.arange(1)))
    o.judge_clean()
    asked(o, 0.85)
    assert o.record.success.tolist() == [True]
    o.verify(torch.tensor([True]))
    assert o.record.success.tolist() == [False]
    assert o.record.logits[0].tolist() == pytest.approx([0.85, 0.5, 0.1])


def test_verification_takes_back_what_is_outside() -> None:
    o = oracle(2)
    o.judge_clean()
    asked(o, 0.3, 0.3)
    o.verify(torch.tensor([True, False]))
    assert o.record.success.tolist() == [True, False]


def test_k_steps_judge_k_plus_1_points_the_last_included() -> None:
    """Traps 2 and 3: 0.9 falls by 0.1 a step while .5 rises; the goal is reached by the second step alone."""
    for steps, success in ((1, False), (3, True)):
        o = oracle(1)
        descend(o, o.space.zero(), Steepest("linf", 0.1), steps)
        assert o.record.success.tolist() == [success]
    o = oracle(1)
    descend(o, o.space.zero(), Steepest("linf", 0.3), 1)  # one step is enough, and is judged
    assert o.record.success.tolist() == [True]
    assert o.record.forwards.tolist() == [2]
    assert o.record.backwards.tolist() == [1]
    assert o.record.steps.tolist() == [1]


def test_descend_stops_when_all_have_settled() -> None:
    o = oracle(3, batch=2)
    descend(o, o.space.zero(), Steepest("linf", 0.3), 100)
    assert o.record.steps.tolist() == [1, 1, 1]
    assert o.record.forwards.tolist() == [2, 2, 2]


def test_bracket_finds_the_threshold_of_each_image() -> None:
    thresholds = torch.tensor([0.3, 0.99, 2.0, 0.0], dtype=torch.float64)
    seen = []

    def attempt(values: Tensor) -> Tensor:
        seen.append(values.clone())
        return values >= thresholds

    low, high = bracket(attempt, torch.zeros(4).double(), torch.ones(4).double(), 20)
    assert len(seen) == 21
    for row in (0, 1, 3):
        assert float(low[row]) <= float(thresholds[row]) <= float(high[row])
        assert float(high[row] - low[row]) == pytest.approx(2**-20)
    assert torch.isnan(low[2])
    assert torch.isnan(high[2])
    assert torch.isnan(seen[1][2]), "what failed at the upper end is left alone"


def test_queries_run_the_model_on_live_rows_only() -> None:
    class Counts(Pixels):
        rows = 0

        def forward(self, x: Tensor) -> Tensor:
            Counts.rows += len(x)
            return super().forward(x)

    images = CLEAN.view(1, 3, 1, 1).repeat(5, 1, 1, 1)
    model = Classifier(Counts(), classes=3, batch=1)
    o = Oracle(
        model,
        images,
        Goal(torch.zeros(5, dtype=torch.int64)),
        Additive(images, "linf", 1.0),
        Margin(),
        key(0, torch.arange(5)),
    )
    o.judge_clean()
    asked(o, 0.1, 0.8, 0.1, 0.8, 0.1)
    o.compact()
    Counts.rows = 0
    asked(o, 0.7, 0.7)
    assert Counts.rows == 2


def test_unknown_keep_rule_is_refused() -> None:
    from blindspots import PGD

    with pytest.raises(BlindspotsError, match=r"PGD\.keep must be one of first, smallest, lowest, got 'last'"):
        PGD(0.1, keep="last")


def test_nearest_is_the_boundary_of_least_gap_over_gradient() -> None:
    """Logits are scaled pixels: gap_j = a_y x_y - a_j x_j, and the dual norm of its gradient is that of (a_y, -a_j)."""

    class Scaled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) * torch.tensor([1.0, 1.0, 9.0], dtype=x.dtype)

    images = torch.tensor([[0.9, 0.5, 0.02], [0.9, 0.85, 0.02]], dtype=torch.float64).view(2, 3, 1, 1)
    for targets, expected in ((None, ([0.72, 0.05], [9.0, 1.0], 2)), (torch.tensor([1, 1]), ([0.4, 0.05], [0, 0], 1))):
        goal = Goal(torch.zeros(2, dtype=torch.int64), targets)
        classifier = Classifier(Scaled(), classes=3, batch=2)
        space = Additive(images, "linf", 1.0)
        o = Oracle(classifier, images, goal, space, Margin(), key(0, torch.arange(2)), keep="smallest")
        answer = o.nearest(images, NORMS["linf"], 5)
        gaps, steepest, backwards = expected
        assert answer.gap.tolist() == pytest.approx(gaps)
        assert o.record.backwards.tolist() == [backwards] * 2
        assert o.record.forwards.tolist() == [1, 1]
        if targets is None:
            assert answer.gradient.flatten(1).abs().amax(1).tolist() == steepest
        else:
            assert answer.gradient.flatten(1).tolist() == [[1.0, -1.0, 0.0]] * 2


@pytest.mark.parametrize("batch", [1, 3, 4, 7, 16])
def test_few_rows_fill_the_batch_with_copies_that_look_at_other_classes(batch: int) -> None:
    """The same answers and counts as one image at a time, in fewer backwards of the model."""
    draw = torch.Generator().manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 6)).double()
    for weight in net.parameters():
        weight.data = torch.randn(weight.shape, generator=draw, dtype=torch.float64)
    backwards = []
    net[3].register_full_backward_hook(lambda *_: backwards.append(1))
    images = torch.rand(5, 1, 2, 3, generator=draw, dtype=torch.float64)
    goal = Goal(net(images).argmax(1))

    def ask(rows: slice, batch: int) -> Any:
        part = images[rows]
        o = Oracle(
            Classifier(net, classes=6, batch=batch), part, Goal(goal.labels[rows]), Additive(part, "l2", 1.0), Margin(),
            key(0, torch.arange(len(part))), keep="smallest",
        )  # fmt: skip
        o.judge_clean()
        backwards.clear()
        answer = o.nearest(part, NORMS["l2"], 5)
        assert o.record.backwards.tolist() == [5] * len(part)
        return answer, len(backwards)

    whole, calls = ask(slice(0, 5), batch)
    alone = [ask(slice(row, row + 1), 1)[0] for row in range(5)]
    torch.testing.assert_close(whole.gap, torch.cat([a.gap for a in alone]), rtol=1e-12, atol=0)
    torch.testing.assert_close(whole.gradient, torch.cat([a.gradient for a in alone]), rtol=1e-12, atol=1e-15)
    # Of the classes, two at a time where 2 rows are left for a batch of 4, three where 5 are for one of 16, and so on.
    assert calls == {1: 25, 3: 10, 4: 7, 7: 5, 16: 2}[batch]


def test_nearest_counts_gradients_that_are_not_finite() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            flat = x.flatten(1)
            return torch.stack((flat[:, 0], (flat[:, 1] - flat[:, 1].detach()).sqrt() + 0.4, flat[:, 2]), 1)

    images = CLEAN.view(1, 3, 1, 1).repeat(2, 1, 1, 1)
    classifier = Classifier(Broken(), classes=3, batch=2)
    goal = Goal(torch.zeros(2, dtype=torch.int64))
    o = Oracle(classifier, images, goal, Additive(images, "l2", 1.0), Margin(), key(0, torch.arange(2)))
    answer = o.nearest(images, NORMS["l2"], 2)
    assert torch.isfinite(answer.gradient).all()
    assert o.record.bad_gradients.tolist() == [1, 1]
    assert o.record.backwards.tolist() == [2, 2]


def test_turns_end_at_the_first_point_that_is_low_enough() -> None:
    """The margin is the first logit less .5; behind the first one below .25, or a success, nothing is answered."""
    o = oracle(3, batch=12)
    o.judge_clean()
    assert o.room == 4
    values = torch.tensor([[0.8, 0.7, 0.1, 0.2], [0.9, 0.8, 0.85, 0.95], [0.9, 0.4, 0.7, 0.7]], dtype=torch.float64)
    theta = o.images.unsqueeze(1).repeat(1, 4, 1, 1, 1)
    theta[:, :, 0, 0, 0] = values
    wanted = torch.ones(3, 4, dtype=torch.bool)
    wanted[1, 0] = False
    loss, answered = o.turns(theta, torch.full((3,), 0.25, dtype=torch.float64), wanted)
    assert answered.tolist() == [[True, True, False, False], [False, True, True, True], [True, True, False, False]]
    torch.testing.assert_close(loss[answered], values[answered] - 0.5)
    assert torch.isinf(loss[~answered]).all()
    assert o.record.forwards.tolist() == [3, 4, 3]
    assert o.record.steps.tolist() == [2, 3, 2]
    assert o.record.success.tolist() == [False, False, True]
    assert kept(o) == [0.7, 0.8, 0.4]


def test_turns_keep_the_budget() -> None:
    o = oracle(2, batch=8, budget=Budget(forwards=4))
    o.judge_clean()
    theta = o.images.unsqueeze(1).repeat(1, 4, 1, 1, 1)
    _, answered = o.turns(theta, torch.zeros(2, dtype=torch.float64), torch.ones(2, 4, dtype=torch.bool))
    assert answered.tolist() == [[True, True, False, False]] * 2, "one forward for the image, one for the verification"
    assert not o.active.any()


def test_known_logits_are_judged_without_a_call() -> None:
    known = CLEAN.repeat(2, 1)
    known[1, 1] = 0.95
    o = oracle(2, known=known)
    o.judge_clean()
    assert o.record.forwards.tolist() == [0, 0]
    assert o.record.success.tolist() == [False, True]
    assert o.record.loss[0] == pytest.approx(0.4)
