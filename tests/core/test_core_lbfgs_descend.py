"""L-BFGS in the shared loop: bounds of the space, images that have ended, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from blindspots import Budget, Classifier, Goal
from blindspots.attack import Attack
from blindspots.descend import descend
from blindspots.noise import key
from blindspots.objectives import CrossEntropy, Margin, Objective, Point, SquaredSize, Weighted
from blindspots.optimisers import LBFGS
from blindspots.oracle import Oracle
from blindspots.record import Keep
from blindspots.spaces import Additive, Space


@dataclass(frozen=True)
class Bowl(Objective):
    """The squared distance to a point outside the box of some pixels, steeper for images of higher label."""

    def __call__(self, point: Point) -> Tensor:
        size = point.theta[0].numel()
        centre = torch.linspace(-0.5, 1.5, size, dtype=torch.float64).to(point.theta)
        steep = torch.linspace(1, 50, size).to(point.theta) ** point.goal.labels.unsqueeze(1)
        return (steep * (point.theta.flatten(1) - centre).square()).sum(1)


def oracle(labels: list[int], radius: float = 1.0, **settings: Any) -> Oracle:
    """Images of nine grey pixels, whose logits never reach the goal."""
    images = torch.full((len(labels), 1, 3, 3), 0.5, dtype=torch.float64)
    model = Classifier(Counts(), classes=3, batch=1)
    goal = Goal(torch.tensor(labels), torch.full((len(labels),), 2))
    keys = key(0, torch.arange(len(labels)))
    return Oracle(model, images, goal, Additive(images, "linf", radius), Bowl(), keys, keep="lowest", **settings)


class Counts(nn.Module):
    rows = 0

    def forward(self, x: Tensor) -> Tensor:
        Counts.rows += len(x)
        return x.flatten(1)[:, :3] * torch.tensor([1.0, 1.0, 0.0]) + torch.tensor([1.0, 1.0, 0.0])


@pytest.mark.parametrize("line_search", ["backtracking", "strong-wolfe"])
@pytest.mark.parametrize(("radius", "low", "high"), [(1.0, 0.0, 1.0), (0.25, 0.25, 0.75)])
def test_the_minimum_in_ball_and_box_is_found(line_search: Any, radius: float, low: float, high: float) -> None:
    o = oracle([0, 1, 1, 0], radius)
    descend(o, o.space.zero(), LBFGS(line_search=line_search), 100)
    minimum = torch.linspace(-0.5, 1.5, 9, dtype=torch.float64).clamp(low, high)
    torch.testing.assert_close(o.record.theta.flatten(1), minimum.expand(4, 9), rtol=0, atol=1e-5)


def test_images_that_have_ended_cost_nothing() -> None:
    o = oracle([0, 1, 0, 1])
    Counts.rows = 0
    descend(o, o.space.zero(), LBFGS(), 100)
    forwards = o.record.forwards
    assert forwards[0] < forwards[1] < 50, "the steep bowl takes longer"
    assert torch.equal(forwards[:2], forwards[2:])
    assert Counts.rows == forwards.sum(), "with batches of one, each counted forward is one row of the model"
    assert not o.active.any()
    assert not o.record.success.any()
    assert o.revive()
    assert o.active.all()


def test_a_budget_is_kept() -> None:
    o = oracle([1, 1], budget=Budget(forwards=7))
    descend(o, o.space.zero(), LBFGS(), 100)
    assert (o.record.forwards <= 6).all()


@dataclass(frozen=True)
class Szegedy(Attack):
    """A loss and the squared size over the box, by L-BFGS-B."""

    name: ClassVar[str] = "test-lbfgs"
    summary: ClassVar[str] = ""
    norms: ClassVar[tuple[str, ...]] = ("l2",)
    line_search: Any = "backtracking"
    margin: bool = False

    @property
    def rule(self) -> Keep:
        return "smallest"

    def space(self, images: Tensor) -> Space:
        return Additive(images, "linf", 1.0)

    def objective(self) -> Objective:
        return Weighted(((3.0, Margin(0.1) if self.margin else CrossEntropy()), (1.0, SquaredSize())))

    def search(self, oracle: Oracle) -> None:
        descend(oracle, oracle.space.zero(), LBFGS(line_search=self.line_search), 60)


@pytest.mark.parametrize("line_search", ["backtracking", "strong-wolfe"])
@pytest.mark.parametrize("margin", [False, True])
def test_an_attack_finds_the_same_for_an_image_alone_and_among_others(victim, line_search: Any, margin: bool) -> None:
    attack, targets = Szegedy(line_search, margin), (victim.labels + 1) % victim.classes
    model = victim.classifier()
    whole = attack(model, victim.images, victim.labels, targets=targets, index=victim.index)
    assert whole.success.double().mean() > 0.5
    assert ((whole.images >= 0) & (whole.images <= 1)).all()
    rows = torch.tensor([11, 4, 7])
    part = attack(model, victim.images[rows], victim.labels[rows], targets=targets[rows], index=victim.index[rows])
    split = attack(model, victim.images, victim.labels, targets=targets, index=victim.index, population=3)
    for other, mine in ((part, rows), (split, torch.arange(13))):
        assert torch.equal(other.success, whole.success[mine])
        assert torch.equal(other.forwards, whole.forwards[mine])
        torch.testing.assert_close(other.images, whole.images[mine], rtol=0, atol=1e-9)
