"""The search among 8-bit images, on models where the answer is known."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from blindspots.classifiers import Classifier
from blindspots.exporting.lattice import ball, pixels
from blindspots.exporting.repair import repair
from blindspots.goal import Goal

SHAPE = (1, 1, 8)


class Counted(nn.Module):
    """A linear model of two classes whose margin at the clean image is given, and which counts its calls."""

    def __init__(self, weights: list[float], threshold: float) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights, dtype=torch.float64))
        self.threshold, self.calls = threshold, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        score = (images.flatten(1) * 255 - 100) @ self.weights - self.threshold
        return torch.stack([-score, score], dim=1)


def searched(model: Counted, norm: str, radius: float, asked: torch.Tensor, gradients: int = 20) -> tuple[bool, list]:
    wrapped = Classifier(model, batch=2)
    clean = torch.full((1, *SHAPE), 100 / 255)
    around = ball(clean, norm, radius)
    with wrapped.session():
        levels, found = repair(wrapped, Goal(torch.tensor([0])), around, asked, gradients)
    assert bool(around.inside(levels).all())
    if bool(found):
        assert wrapped.logits(pixels(levels, SHAPE)).argmax(1).item() == 1
    return bool(found), levels[0].tolist()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_export_repair_finds_the_direction_of_a_linear_model(norm: str) -> None:
    """Rounding 0.4 of a level loses everything; one level on all, or on the heavy values, reaches the goal."""
    model = Counted([1, -1, 1, -1, 1, -1, 1, -9], threshold=7.5)
    asked = torch.tensor([0.4, -0.4] * 4).view(1, *SHAPE).add(100).div(255)
    radius = {"linf": 1 / 255, "l2": 2 / 255, "l1": 3 / 255, "l0": 3.0}[norm]
    found, levels = searched(model, norm, radius, asked)
    assert found
    assert levels[-1] < 100


def test_export_repair_solves_the_linear_problem_in_linf_at_once() -> None:
    model = Counted([1.0] * 8, threshold=7.5)
    found, levels = searched(model, "linf", 1 / 255, torch.full((1, *SHAPE), 100.4 / 255), gradients=2)
    assert found
    assert levels == [101] * 8
    assert model.calls == 3  # two of the search, one of this test


def test_export_repair_is_bounded_and_says_when_there_is_no_answer() -> None:
    """The best point of the l2 ball reaches 4 of 4.5, as every 8-bit image shows."""
    model = Counted([1.0] * 8, threshold=4.5)
    asked = torch.full((1, *SHAPE), 100.7 / 255)
    corners = torch.tensor(list(itertools.product((0.0, 1.0, 2.0), repeat=8)))
    assert float(corners[corners.norm(dim=1) <= 2].sum(1).max()) == 4
    found, _ = searched(model, "l2", 2 / 255, asked, gradients=12)
    assert not found
    assert model.calls == 12


def test_export_repair_leaves_a_ball_without_8_bit_images_alone() -> None:
    model = Counted([1.0] * 8, threshold=0.0)
    wrapped = Classifier(model, batch=1)
    clean = torch.full((1, *SHAPE), 100.5 / 255)
    around = ball(clean, "linf", 0.1 / 255)
    with wrapped.session():
        levels, found = repair(wrapped, Goal(torch.tensor([0])), around, clean)
    assert not bool(found)
    assert model.calls == 0
    assert torch.equal(levels, around.nearest(clean))


def test_export_repair_of_one_image_does_not_depend_on_the_others() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3)).double()
    model = Classifier(net, batch=4)
    clean = torch.randint(0, 256, (10, *SHAPE)).float() / 255
    labels = model.logits(clean).argmax(1)
    asked = (clean + 0.02 * torch.randn(clean.shape)).clamp(0, 1)
    around, goal = ball(clean, "l2", 0.4), Goal(labels)
    with model.session():
        levels, found = repair(model, goal, around, asked)
        for row in range(len(clean)):
            one = torch.tensor([row])
            alone, hit = repair(model, goal.take(one), around.take(one), asked[one])
            assert bool(hit) == bool(found[row])
            assert torch.equal(alone[0], levels[row])
    assert bool(found.any())
