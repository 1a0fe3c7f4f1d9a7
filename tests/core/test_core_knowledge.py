"""What an attack may know: gradients, scores or decisions; and queries of several points an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from test_core_oracle import CLEAN, Pixels, oracle
from torch import Tensor

from blindspots import FGSM, Attack, BlindspotsError, Budget, Classifier
from blindspots.attacks import ATTACKS
from blindspots.objectives import Margin
from blindspots.spaces import Additive


def points(*values: list[float]) -> Tensor:
    """For each live row n images whose first logit has these values; below .5 the goal is reached."""
    first = torch.tensor(values, dtype=torch.float64)
    theta = CLEAN.repeat(*first.shape, 1)
    theta[..., 0] = first
    return theta.view(*first.shape, 3, 1, 1)


def first(o: Any) -> list[float]:
    return [round(v, 6) for v in o.close().theta[:, 0, 0, 0].tolist()]


@pytest.mark.parametrize("knowledge", ["scores", "decisions"])
def test_gradients_are_refused(knowledge: str) -> None:
    o = oracle(2, knowledge=knowledge)
    o.judge_clean()
    with pytest.raises(BlindspotsError) as caught:
        o.query(o.space.zero())
    sentence = f"an attack that declares knowledge = '{knowledge}' asked for gradients: let it ask for no more than it"
    assert str(caught.value) == sentence + " declares"
    assert o.close().backwards.tolist() == [0, 0]


def test_decisions_see_no_loss_and_no_logits() -> None:
    o = oracle(2, knowledge="decisions")
    o.judge_clean()
    for ask in (lambda: o.query(o.space.zero(), gradient=False), lambda: o.scores(points([0.8])), lambda: o.record):
        with pytest.raises(BlindspotsError, match="knowledge = 'decisions' asked for scores"):
            ask()
    assert o.decisions(points([0.3, 0.8], [0.7, 0.8])).tolist() == [[True, False], [False, False]]
    assert o.close().forwards.tolist() == [3, 3]


def test_an_attack_is_held_to_what_it_declares() -> None:
    @dataclass(frozen=True)
    class Liar(Attack):
        name, summary, norms, knowledge = "liar", "asks for more", ("linf",), "scores"

        def space(self, images: Tensor) -> Additive:
            return Additive(images, "linf", 0.1)

        def objective(self) -> Margin:
            return Margin()

        def search(self, oracle: Any) -> None:
            oracle.query(oracle.space.zero())

    images = CLEAN.view(1, 3, 1, 1)
    with pytest.raises(BlindspotsError, match="asked for gradients"):
        Liar()(Classifier(Pixels(), classes=3, batch=1), images, torch.tensor([0]))


def test_several_points_are_answered_counted_and_judged() -> None:
    o = oracle(3, knowledge="scores")
    o.judge_clean()
    loss = o.scores(points([0.8, 0.6, 0.7], [0.4, 0.3, 0.9], [0.95, 1.0, 0.6]))
    torch.testing.assert_close(
        loss, torch.tensor([[0.3, 0.1, 0.2], [-0.1, -0.2, 0.4], [0.45, 0.5, 0.1]], dtype=torch.float64)
    )
    assert o.record.forwards.tolist() == [4, 4, 4]
    assert o.success.tolist() == [False, True, False]
    assert o.active.tolist() == [True, False, True]
    assert first(o) == [0.6, 0.4, 0.6], "the first success, or else the lowest loss"


@pytest.mark.parametrize(("keep", "kept"), [("smallest", 0.45), ("lowest", 0.1)])
def test_the_best_point_stands_for_the_image(keep: str, kept: float) -> None:
    o = oracle(1, keep)
    o.judge_clean()
    o.decisions(points([0.4, 0.1, 0.45, 0.6]))
    assert first(o) == [kept]


def test_points_outside_the_set_are_answered_and_not_kept() -> None:
    """The box is [0, 1] and the radius .2: 1.1 and .3 lie outside, .75 inside."""
    o = oracle(2)
    o.space.radius = torch.full((2,), 0.2, dtype=torch.float64)
    o.space._bounds = None
    o.judge_clean()
    assert o.decisions(points([0.3, 0.75], [0.3, 1.1])).tolist() == [[True, False], [True, False]]
    assert o.success.tolist() == [False, False]
    assert first(o) == [0.75, 0.9]
    assert o.record.forwards.tolist() == [3, 3]


def test_only_what_is_wanted_is_asked() -> None:
    o = oracle(2)
    o.judge_clean()
    wanted = torch.tensor([[True, False], [False, False]])
    loss = o.scores(points([0.8, 0.3], [0.3, 0.3]), wanted)
    assert torch.isinf(loss).tolist() == [[False, True], [True, True]]
    assert o.record.forwards.tolist() == [2, 1]
    assert not o.success.any()
    assert not o.decisions(points([0.1], [0.1]), torch.zeros(2, 1, dtype=torch.bool)).any()


def test_the_budget_cuts_within_a_query() -> None:
    """Of five forwards one judged the image and one is kept for the verification: three of four points are asked."""
    o = oracle(2, "lowest", budget=Budget(forwards=5))
    o.judge_clean()
    o.decisions(points([0.8, 0.8, 0.8, 0.1], [0.8, 0.8, 0.1, 0.8]))
    assert o.record.forwards.tolist() == [4, 4]
    assert o.success.tolist() == [False, True]
    assert o.active.tolist() == [False, False]
    o.decisions(points([0.1], [0.1]))
    assert o.record.forwards.tolist() == [4, 4]


def test_every_attack_declares_what_it_knows() -> None:
    assert ATTACKS["pgd"].knowledge == "gradients"
    assert ATTACKS["square"].knowledge == "scores"
    assert all(kind.knowledge in ("gradients", "scores", "decisions") for kind in ATTACKS.values())


def test_starts_are_refused_by_attacks_that_begin_at_the_image() -> None:
    images = CLEAN.view(1, 3, 1, 1)
    with pytest.raises(BlindspotsError) as caught:
        FGSM(0.1)(Classifier(Pixels(), classes=3, batch=1), images, torch.tensor([0]), starts=images)
    assert str(caught.value) == (
        "starts were given, but fgsm begins at the image itself: leave them out, or choose an attack that begins far "
        "from it, such as boundary or brendel-bethge"
    )
