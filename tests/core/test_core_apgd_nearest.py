"""Auto-PGD towards the nearest classes: which class comes next, when a run is given up, and what that saves."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from blindspots import APGDT, APGDNearest, Classifier
from blindspots.optimisers.apgd import checkpoints


class Walls(nn.Module):
    """Class 0 on every image; class 1 is near but flat, class 2 further but can be reached, class 3 far and flat."""

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        still = flat[:, 0] * 0
        return torch.stack((still + 1.0, still + 0.9, 10 * (flat[:, 1] - 0.5), still - 5.0), 1)


IMAGES, LABELS = torch.full((3, 1, 2, 2), 0.3), torch.zeros(3, dtype=torch.long)


def test_an_image_turns_to_the_class_that_has_come_nearest() -> None:
    """The opening follows the cross entropy, and shows that class 2 moves: it is next, before the nearer class 1."""
    model = Classifier(Walls(), classes=4, batch=2)
    result = APGDNearest(0.25, opening=10, steps=10, rivals=1)(model, IMAGES, LABELS)
    assert not result.success.any(), "2 stops at a logit of .5, .5 below"
    assert (result.forwards <= 1 + 11 + 11).all()
    reached = APGDNearest(0.35, opening=1, steps=10, rivals=2)(model, IMAGES, LABELS)
    assert reached.success.all()
    assert (reached.prediction == 2).all()


def test_a_run_whose_gap_stands_still_is_given_up() -> None:
    """The second run ends at its first checkpoint from half of its steps on: of 40, w_3 = 23."""

    class Flat(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            still = x.flatten(1)[:, 0] * 1e-6
            return torch.stack((still + 1.0, still * 0, still * 2), 1)

    model = Classifier(Flat(), classes=3, batch=2)
    patient = APGDNearest(0.2, opening=40, steps=40, patience=0.0)(model, IMAGES, LABELS)
    assert patient.forwards.tolist() == [1 + 41 + 2 * 41] * 3
    hasty = APGDNearest(0.2, opening=40, steps=40)(model, IMAGES, LABELS)
    # It is asked at its start and after each of 23 steps.
    assert hasty.forwards.tolist() == [1 + 2 * 41 + 24] * 3
    assert hasty.backwards.tolist() == [2 * 40 + 24] * 3


class Diary(nn.Module):
    """Writes down what the network answered, one image at a time."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.answers = net, []

    def forward(self, x: Tensor) -> Tensor:
        answer = self.net(x)
        self.answers.append(answer.detach()[0])
        return answer


@pytest.mark.parametrize(("norm", "radius"), [("linf", 0.02), ("l2", 0.15), ("l1", 0.7)])
def test_runs_end_where_the_stated_rule_says(victim, norm: str, radius: float) -> None:
    """The number of forwards is told from the logits alone, by the rule as the class states it."""
    steps, patience, given_up = 30, 1.0, 0
    marks = checkpoints(steps)
    for row in range(len(victim.images)):
        diary = Diary(victim.module())
        label = victim.labels[row : row + 1]
        attack = APGDNearest(radius, norm, opening=5, steps=steps, rivals=4, patience=patience)
        result = attack(Classifier(diary, classes=5, batch=1), victim.images[row : row + 1], label)
        if bool(result.success):
            continue
        logits = torch.stack(diary.answers)
        gaps = logits[:, label] - logits
        gaps[:, label] = float("inf")
        at, tried = 1 + 6, []
        for place in range(4):
            # Towards the class that has come nearest so far, of those not tried yet.
            seen = gaps[:at].amin(0)
            seen[tried] = float("inf")
            tried.append(int(seen.argmin()))
            own = gaps[at : at + steps + 1, tried[-1]].cummin(0).values
            asked = steps + 1
            for j, k in pairwise(marks):
                if (
                    place
                    and k < steps
                    and 2 * k >= steps
                    and own[k] > patience * (own[j] - own[k]) / (k - j) * (steps - k)
                ):
                    asked, given_up = k + 1, given_up + 1
                    break
            at += asked
        assert at == len(logits) == int(result.forwards)
    assert given_up > 3, "the test needs runs that are given up"


def test_fast_keeps_the_verdict_of_the_long_search(victim) -> None:
    """On this victim the short runs fool what a hundred steps towards every class fool, for a fraction of the calls."""
    model = victim.classifier()
    for norm, radius in (("linf", 0.04), ("l2", 0.3), ("l1", 1.5)):
        fast = APGDNearest(radius, norm)(model, victim.images, victim.labels, index=victim.index)
        long = APGDT(radius, norm, rivals=4)(model, victim.images, victim.labels, index=victim.index)
        assert int((long.success & ~fast.success).sum()) == 0
        standing = ~fast.success
        if bool(standing.any()):
            assert fast.backwards[standing].sum() <= 0.8 * long.backwards[standing].sum()


def test_a_target_is_the_only_rival(victim) -> None:
    one = APGDNearest(0.08)(victim.classifier(), victim.images, victim.labels, targets="second", index=victim.index)
    assert torch.equal(one.success, one.prediction == one.targets)
    assert int(one.forwards.max()) <= 2 + 1 + 21 + 101
