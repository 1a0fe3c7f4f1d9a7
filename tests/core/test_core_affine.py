"""The affine attack: its grid against a search by hand, shifts in closed form, and its other solvers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import blindspots as bs
from blindspots import Affine, Classifier
from blindspots.spaces import Affine as Space

GRID = {"radius": 0.5, "rotations": 5, "shifts": 3, "zoom": 1.2, "zooms": 3}


def pixel(row: int, column: int, size: int = 7) -> Classifier:
    """z_0 - z_1 is the pixel there less 1/2."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(size * size, 2)).double()
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].weight[0, row * size + column] = 1
        net[1].bias.copy_(torch.tensor([-0.5, 0.0]))
    return Classifier(net, classes=2, batch=2)


def dot(row: int, column: int, size: int = 7) -> Tensor:
    image = torch.zeros(1, 1, size, size, dtype=torch.float64)
    image[0, 0, row, column] = 1
    return image


def enumerated(victim, attack: Affine) -> tuple[Tensor, Tensor]:
    """Margin (G, N) and share of the limits (G,) of the whole grid, one point after the other."""
    space = Space(victim.images, 30, 1, 1.2, radius=0.5)
    grid = space.grid(attack.rotations, attack.shifts, attack.zooms)
    goal = bs.Goal(victim.labels)
    with torch.no_grad():
        margins = [goal.margin(victim.module()(space.apply(t.expand(13, 4), slice(None)))) for t in grid]
    return torch.stack(margins), grid.abs().amax(1)


def test_the_lowest_of_the_grid_is_that_of_a_search_by_hand(victim) -> None:
    attack = Affine(**GRID, keep="lowest")
    result = attack(victim.classifier(), victim.images, victim.labels, index=victim.index)
    margins, _ = enumerated(victim, attack)
    right = ~victim.wrong
    torch.testing.assert_close(result.margin[right], margins.amin(0)[right], rtol=0, atol=1e-12)
    assert torch.equal(result.success[right], (margins < 0).any(0)[right])
    assert torch.equal(result.forwards[right], 5 * 9 * 3 + result.success[right].long())
    assert not result.backwards.any()


def test_the_first_success_is_the_smallest_of_the_grid(victim) -> None:
    attack = Affine(**GRID)
    result = attack(victim.classifier(), victim.images, victim.labels, index=victim.index)
    margins, share = enumerated(victim, attack)
    found = result.success & ~victim.wrong
    assert found.any()
    smallest = torch.where(margins < 0, share.unsqueeze(1), float("inf")).amin(0)
    torch.testing.assert_close(result.size["affine"][found], smallest[found])
    assert (result.forwards[found] < 5 * 9 * 3).any(), "what succeeds leaves early"
    thorough = Affine(**GRID, keep="smallest")(victim.classifier(), victim.images, victim.labels, index=victim.index)
    torch.testing.assert_close(thorough.size["affine"][found], result.size["affine"][found])


@pytest.mark.parametrize("solver", ["grid", "random", "gradient"])
def test_a_dot_is_shifted_away_by_half_a_pixel(solver) -> None:
    """Shifted down and right by a and b, the dot leaves (1 - |a|)(1 - |b|) behind: below 1/2 it is gone."""
    attack = Affine(radius=1, rotation=0, shift=1.0, shifts=5, solver=solver, steps=60)
    result = attack(pixel(3, 3), dot(3, 3), torch.tensor([0]))
    assert result.success.all()
    flow = result.flow[0]
    assert torch.equal(flow, flow[:, :1, :1].expand(2, 7, 7)), "a shift moves every pixel alike"
    left = (1 - flow[0, 0, 0].abs()) * (1 - flow[1, 0, 0].abs())
    torch.testing.assert_close(result.images[0, 0, 3, 3], left)
    assert left < 0.5
    torch.testing.assert_close(result.size["shift"], flow.abs().max().view(1))
    torch.testing.assert_close(result.size["flow"], flow[:, 0, 0].norm().view(1))
    assert float(result.size["rotation"]) == 0
    assert float(result.size["zoom"]) == 1
    torch.testing.assert_close(result.size["flow_loss"], torch.tensor([4 * 49 * 1e-4], dtype=torch.float64))
    if solver == "grid":
        assert sorted(flow[:, 0, 0].abs().tolist()) == [0.5, 0.5], "half a pixel both ways is the smallest of the grid"


def test_a_quarter_turn_reads_where_the_flow_says() -> None:
    """Turned by 90 degrees counter-clockwise the dot right of the middle stands above it."""
    attack = Affine(rotation=90, shift=0, rotations=3, solver="grid")
    result = attack(pixel(3, 5), dot(3, 5), torch.tensor([0]))
    assert result.success.all()
    assert float(result.size["rotation"]) == 90
    row, column = divmod(int(result.images[0, 0].argmax()), 7)
    assert (row, column) in ((1, 3), (5, 3))
    moved = result.flow[0, :, row, column] + torch.tensor([row, column])
    torch.testing.assert_close(moved, torch.tensor([3.0, 5.0], dtype=torch.float64), rtol=0, atol=1e-9)


def test_the_radius_shrinks_all_limits_together() -> None:
    result = Affine(radius="1/2", rotation=40, shift=2.0, zoom=4.0, keep="lowest", rotations=3, shifts=3, zooms=3)(
        pixel(3, 3), dot(3, 3), torch.tensor([0])
    )
    assert float(result.size["rotation"]) <= 20
    assert float(result.size["shift"]) <= 1
    assert 0.5 <= float(result.size["zoom"]) <= 2
    assert float(result.size["affine"]) == 0.5


def test_the_shift_is_a_tenth_of_the_image_by_default() -> None:
    for size, shift in ((7, 1), (28, 3), (32, 3), (224, 22)):
        assert Affine().space(torch.zeros(1, 1, size, size)).shift == shift
