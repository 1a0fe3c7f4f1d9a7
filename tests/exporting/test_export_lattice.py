"""The lattice of 8-bit images and its balls, in closed form."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import to_tensor

from blindspots.exporting.lattice import ball, in_levels, pixels
from blindspots.geometry import NORM_NAMES

RADII = {"linf": 5 / 255, "l2": 0.3, "l1": 1.5, "l0": 7.0}


def random_levels(count: int = 6, values: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 1, 1, values), generator=generator)


def test_export_every_level_reads_as_a_file_does() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    ours = pixels(torch.arange(256).double().unsqueeze(0), (1, 16, 16))[0]
    assert torch.equal(ours, to_tensor(every))
    assert np.array_equal(ours.numpy()[0], every.astype(np.float32) / 255)
    assert torch.equal(in_levels(ours.unsqueeze(0)), torch.arange(256).double().unsqueeze(0))


def test_export_levels_survive_other_ways_of_dividing() -> None:
    every = torch.arange(256, dtype=torch.float32).view(1, 1, 1, 256)
    by_product = every * torch.tensor(1 / 255)
    assert not torch.equal(by_product, every / 255)
    assert torch.equal(in_levels(by_product), every.view(1, 256).double())


@pytest.mark.parametrize("radius", [1, 2, 4, 8, 16])
def test_export_linf_ball_reaches_whole_levels_exactly(radius: int) -> None:
    """(100 + 8) / 255 - 100 / 255 in float32 may exceed 8 / 255: it must count as inside all the same."""
    clean = torch.arange(256, dtype=torch.float32).div(255).view(1, 1, 1, 256)
    around = ball(clean, "linf", radius / 255)
    levels = torch.arange(256).double()
    assert torch.equal(around.low[0], (levels - radius).clamp(0, 255))
    assert torch.equal(around.high[0], (levels + radius).clamp(0, 255))
    assert bool(around.inside(around.high).all())
    assert not bool(around.inside((around.low - 1).clamp(min=0)).any())


def test_export_rounds_to_nearest_and_does_not_truncate() -> None:
    clean = torch.full((1, 1, 1, 4), 100 / 255)
    asked = torch.tensor([[[[100.4, 100.6, 99.4, 99.6]]]]) / 255
    around = ball(clean, "linf", 8 / 255)
    assert around.nearest(asked).tolist() == [[100, 101, 99, 100]]


def test_export_linf_rounding_stays_inside_where_nearest_would_leave() -> None:
    clean, radius = torch.full((1, 1, 1, 2), 100 / 255), 2.7 / 255
    asked = torch.tensor([[[[102.7, 97.3]]]]) / 255
    around = ball(clean, "linf", radius)
    assert around.nearest(asked).tolist() == [[102, 98]]


def test_export_l1_pulls_back_the_values_that_were_rounded_furthest() -> None:
    clean = torch.full((1, 1, 1, 3), 100 / 255)
    asked = torch.tensor([[[[101.5001, 101.9, 101.6]]]]) / 255  # size 5.0001 levels, rounded to 2 + 2 + 2
    around = ball(clean, "l1", 5.1 / 255)
    assert around.nearest(asked).tolist() == [[101, 102, 102]]


@pytest.mark.parametrize("norm", NORM_NAMES)
@pytest.mark.parametrize("on_lattice", [True, False])
def test_export_rounding_stays_in_ball_and_lattice(norm: str, on_lattice: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    clean = random_levels().float() / 255
    if not on_lattice:
        clean = (clean + 0.3 / 255 * torch.rand(clean.shape, generator=generator)).clamp(0, 1)
    noise = torch.rand(clean.shape, generator=generator) - 0.5
    around = ball(clean, norm, RADII[norm])
    levels = around.nearest((clean + noise).clamp(0, 1))
    assert torch.equal(levels, levels.round())
    assert float(levels.min()) >= 0
    assert float(levels.max()) <= 255
    if norm == "l0" and not on_lattice:
        # Every value between two levels must change: no 8-bit image is so near.
        assert not bool(around.possible.any())
        assert not bool(around.inside(levels).any())
        return
    assert bool(around.possible.all())
    assert bool(around.inside(levels).all())
    stored = pixels(levels, tuple(clean.shape[1:])).double() - clean.double()
    measured = around.sizes(levels)
    assert torch.allclose(stored.flatten(1).abs().sum(1), measured["l1"], atol=1e-5)
    assert torch.allclose(stored.flatten(1).abs().amax(1), measured["linf"], atol=1e-6)
    assert bool((measured[norm] <= RADII[norm] + 1e-8).all())


def test_export_ball_without_lattice_images_says_so() -> None:
    clean = torch.tensor([[[[100.5, 40.0]]], [[[100.0, 40.0]]]]) / 255
    around = ball(clean, "linf", 0.2 / 255)
    assert around.possible.tolist() == [False, True]
    asked = torch.tensor([[[[100.6, 40.0]]], [[[100.1, 40.0]]]]) / 255
    levels = around.nearest(asked)
    assert levels.tolist() == [[101, 40], [100, 40]]
    assert around.inside(levels).tolist() == [False, True]


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_export_rounding_is_close_to_the_best_by_brute_force(norm: str) -> None:
    """Of all roundings of four values up or down that lie inside, ours is at most a level further than the nearest."""
    generator = torch.Generator().manual_seed(2)
    clean = torch.full((20, 1, 1, 4), 100.0)
    change = 6 * torch.rand(clean.shape, generator=generator)
    spent = change.flatten(1).sum(1) if norm == "l1" else change.flatten(1).norm(dim=1)
    for row in range(len(clean)):
        one = ball(clean[row : row + 1] / 255, norm, float(spent[row]) / 255 + 1e-6)
        asked = (clean + change)[row : row + 1].double()
        ours = one.nearest((asked / 255).float())
        corners = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4))) + asked.view(1, 4).floor()
        inside = torch.cat([corner.unsqueeze(0) for corner in corners if bool(one.inside(corner.unsqueeze(0)))])
        best = (inside - asked.view(1, 4)).norm(dim=1).min()
        assert float((ours - asked.view(1, 4)).norm()) <= float(best) + 1


@pytest.mark.parametrize("norm", ["l2", "l1", "l0"])
def test_export_pull_gives_up_what_costs_least(norm: str) -> None:
    """With a linear cost, the values that lower the margin most stay changed."""
    clean = torch.full((1, 1, 1, 8), 100 / 255)
    radius = {"l2": 4**0.5 / 255, "l1": 4 / 255, "l0": 4.0}[norm]
    around = ball(clean, norm, radius)
    slope = -torch.arange(1.0, 9.0, dtype=torch.float64).unsqueeze(0)
    pulled = around.pull(torch.full((1, 8), 101.0, dtype=torch.float64), lambda a, b: slope * (b - a))
    assert pulled.tolist() == [[100] * 4 + [101] * 4]
