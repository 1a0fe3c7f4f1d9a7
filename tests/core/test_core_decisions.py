"""Attacks that know decisions alone: where they begin, the way back to the boundary, and what they reach."""

from __future__ import annotations

import pytest
import torch
from test_core_oracle import Pixels, oracle
from torch import Tensor

from blindspots import Attack, BlindspotsError, Boundary, Classifier, GeoDA, HopSkipJump
from blindspots.decisions import begin, bisect, shrunk


def far(*values: float) -> Tensor:
    theta = oracle(len(values)).space.zero()
    theta[:, 0, 0, 0] = torch.tensor(values, dtype=torch.float64)
    return theta


def test_bisection_ends_at_the_boundary_on_the_side_of_the_goal() -> None:
    """The goal is reached below .5; the way from .9 to .1 is halved ten times."""
    o = oracle(2, "smallest", knowledge="decisions")
    o.judge_clean()
    near = bisect(o, far(0.1, 0.3), "l2", 10)
    value = near[:, 0, 0, 0]
    assert (value < 0.5).all()
    assert value.tolist() == pytest.approx([0.5, 0.5], abs=0.8 * 2**-10)
    assert o.close().forwards.tolist() == [11, 11]
    assert o.close().theta[:, 0, 0, 0].tolist() == value.tolist(), "the nearest of all that were asked"


def test_rows_that_are_not_wanted_stay() -> None:
    o = oracle(2, "smallest", knowledge="decisions")
    o.judge_clean()
    near = bisect(o, far(0.1, 0.3), "l2", 4, torch.tensor([True, False]))
    assert float(near[0, 0]) == pytest.approx(0.45)
    assert float(near[1, 0]) == 0.3
    assert o.close().forwards.tolist() == [5, 1]


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_shrunk_scales_the_distance(norm: str) -> None:
    x, y = torch.rand(5, 1, 4, 4), torch.rand(5, 1, 4, 4)
    share = torch.tensor([0.0, 0.25, 0.5, 0.9, 1.0])
    order = 2 if norm == "l2" else float("inf")
    whole, part = ((z - x).flatten(1).norm(order, dim=1) for z in (y, shrunk(x, y, share, norm)))
    torch.testing.assert_close(part, share * whole)
    assert torch.equal(shrunk(x, y, share, norm)[4], y[4])


def test_begins_where_told_or_in_noise() -> None:
    starts = far(0.2, 0.8, 0.3)
    o = oracle(3, "smallest", knowledge="decisions", starts=starts)
    o.judge_clean()
    theta = begin(o, 50)
    assert torch.equal(theta[[0, 2]], starts[[0, 2]])
    assert int(theta[1].flatten().argmax()) != 0, "its start does not reach the goal, so noise was tried"
    record = o.close()
    assert record.forwards[[0, 2]].tolist() == [2, 2]
    assert int(record.forwards[1]) >= 3
    assert not record.unstarted.any()


class Stubborn(torch.nn.Module):
    """Answers 0 unless the mean of the image is above .9, where no noise ever is."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(1)
        return torch.stack((0.9 - mean, mean - 0.9), 1)


@pytest.mark.parametrize("make", [Boundary, HopSkipJump, GeoDA])
def test_no_start_is_no_success_and_is_said(make) -> None:
    images, labels = torch.full((2, 1, 8, 8), 0.25), torch.zeros(2, dtype=torch.int64)
    model = Classifier(Stubborn(), classes=2, batch=2)
    result = make(100.0, draws=5, queries=300)(model, images, labels)
    assert result.unstarted.all()
    assert not result.success.any()
    assert torch.equal(result.images, images)
    assert result.forwards.tolist() == [6, 6]
    assert [flag.code for flag in result.flags] == ["constant-output", "no-start"]
    starts = torch.stack((torch.ones(1, 8, 8), torch.full((1, 8, 8), 0.5)))
    result = make(100.0, draws=5, queries=300)(model, images, labels, starts=starts)
    assert result.unstarted.tolist() == [False, True]
    assert result.success.tolist() == [True, False]
    assert result.forwards.tolist() == [3, 7]


def test_starts_must_fit_the_images() -> None:
    images = torch.rand(2, 3, 1, 1)
    with pytest.raises(BlindspotsError, match=r"starts must have the shape of the images, \(2, 3, 1, 1\), got \(1, 3"):
        Boundary(1)(Classifier(Pixels(), classes=3, batch=1), images, torch.tensor([0, 0]), starts=images[:1])


class Plane(torch.nn.Module):
    """A linear margin: the nearest point of the other class is known."""

    def __init__(self, pixels: int = 16) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        slope = torch.randn(pixels, generator=draw, dtype=torch.float64)
        self.register_buffer("slope", slope / slope.norm())

    def forward(self, x: Tensor) -> Tensor:
        margin = 0.3 + (x.flatten(1) - 0.5) @ self.slope
        return torch.stack((margin, -margin), 1)


@pytest.mark.parametrize(
    ("attack", "factor"),
    [
        (Boundary(10.0, queries=3000, keep="smallest"), 1.02),
        (HopSkipJump(10.0, queries=3000, keep="smallest"), 1.02),
        (HopSkipJump(1.0, norm="linf", queries=3000, keep="smallest"), 1.05),
        (GeoDA(10.0, queries=3000, share=1.0, keep="smallest"), 1.02),
        (GeoDA(1.0, norm="linf", queries=3000, share=1.0, keep="smallest"), 1.05),
    ],
    ids=lambda v: f"{v.name}-{v.norm}" if isinstance(v, Attack) else "",
)
def test_the_distance_to_a_plane_is_found(attack, factor: float) -> None:
    """Trap 25: with a wrong scale or direction of the steps the walk ends far above the exact distance of 0.3."""
    net = Plane()
    images, labels = torch.full((3, 1, 4, 4), 0.5, dtype=torch.float64), torch.zeros(3, dtype=torch.int64)
    model = Classifier(net, classes=2, batch=4)
    model.dtype = torch.float64
    result = attack(model, images, labels)
    exact = 0.3 if attack.norm == "l2" else 0.3 / float(net.slope.abs().sum())
    assert result.success.all()
    assert (result.size[attack.norm] >= exact * (1 - 1e-9)).all()
    assert (result.size[attack.norm] <= exact * factor).all(), result.size[attack.norm] / exact
    assert (result.forwards <= attack.queries).all()
    assert not result.backwards.any()
