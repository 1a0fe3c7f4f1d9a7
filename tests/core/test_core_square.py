"""Square: its schedule and shapes by hand, and what each image draws."""

from __future__ import annotations

import pytest
import torch

from blindspots import Classifier, Square
from blindspots.bumps import bumps


def test_the_schedule_halves_after_the_published_numbers_of_queries() -> None:
    """p = 0.8 of 28 x 28 pixels at first; the side is round(sqrt(p * 784))."""
    attack = Square(0.1, queries=10_000)
    expected = {0: 25, 10: 25, 11: 18, 50: 18, 51: 13, 200: 13, 201: 9, 501: 6, 1001: 4, 2001: 3, 4001: 2, 6001: 2}
    assert {step: attack.side(step, 28, 28) for step in expected} == expected
    assert attack.side(8001, 28, 28) == 1
    half = Square(0.1, queries=5000)
    assert [half.side(step, 28, 28) for step in (5, 6, 25, 26)] == [25, 18, 18, 13], "rescaled to the queries"


def test_sides_are_odd_and_at_least_3_in_l2() -> None:
    attack = Square(1, norm="l2", queries=10_000, share=0.1)
    assert [attack.side(step, 28, 28) for step in (0, 11, 51, 9999)] == [9, 7, 5, 3]
    assert attack.side(0, 2, 2) == 1


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("side", [1, 2, 3, 5, 8, 9])
def test_bumps_are_nested_squares_of_falling_weight(side: int, norm: str) -> None:
    """The published construction: squares round the centre of each half, the k-th with weight 1 / k^2 (l1: 1 / k^4)."""
    order, fall = {"l2": (2, 2), "l1": (1, 4)}[norm]
    parts = []
    for height, sign in ((side // 2, 1), (side - side // 2, -1)):
        half = torch.zeros(height, side, dtype=torch.float64)
        rows, columns = height // 2 + 1, side // 2 + 1
        for k in range(max(rows, columns)):
            top, left = rows - 1 - k, columns - 1 - k
            half[max(top, 0) : top + 2 * k + 1, max(left, 0) : left + 2 * k + 1] += 1 / (k + 1) ** fall
        parts.append(sign * half / half.flatten().norm(order).clamp(min=1e-30))
    expected = torch.cat(parts)
    shape = bumps(side, torch.empty(0, dtype=torch.float64), norm)
    torch.testing.assert_close(shape, expected / expected.flatten().norm(order))


def grey(count: int, channels: int = 1, size: int = 12) -> torch.Tensor:
    return torch.full((count, channels, size, size), 0.5, dtype=torch.float64)


def never() -> Classifier:
    """A model that is always right and whose margin falls with the sum of the image: some squares are accepted."""

    class Sum(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            total = x.flatten(1).mean(1)
            return torch.stack((100 - total, total), 1)

    return Classifier(Sum(), classes=2, batch=4)


def test_every_value_is_at_a_bound_in_linf() -> None:
    result = Square(0.1, queries=40)(never(), grey(3, 3), torch.zeros(3, dtype=torch.int64))
    change = (result.images - 0.5).abs()
    torch.testing.assert_close(change, torch.full_like(change, 0.1))


def test_the_whole_radius_is_used_in_l2() -> None:
    result = Square(1.5, norm="l2", queries=40)(never(), grey(3, 3), torch.zeros(3, dtype=torch.int64))
    torch.testing.assert_close(result.size["l2"], torch.full((3,), 1.5, dtype=torch.float64), rtol=2e-6, atol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_radius_is_kept_and_used_in_l1(channels: int) -> None:
    """Whatever is accepted lies on the sphere, and the projection leaves most values alone."""
    result = Square(4, norm="l1", queries=60)(never(), grey(3, channels), torch.zeros(3, dtype=torch.int64))
    torch.testing.assert_close(result.size["l1"], torch.full((3,), 4.0, dtype=torch.float64), rtol=2e-6, atol=0)
    assert (result.size["l0"] < 0.6 * 144 * channels).all()


def test_l1_square_beats_the_best_spread_change_of_a_linear_model() -> None:
    """The optimum puts the whole radius into the values of largest slope; a change of all values alike is far from it.

    With slopes 1 / rank and room of a half in each value, the optimum of radius 2 is half of the sum of the four
    largest slopes; spread over all values it would be the radius times the mean slope.
    """
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2, bias=True)).double()
    slope = (1 / torch.arange(1, 65, dtype=torch.float64))[torch.arange(64) * 23 % 64]
    with torch.no_grad():
        net[1].weight.copy_(torch.stack((slope, -slope)) / 2)
        net[1].bias.copy_(torch.tensor([50.0, -50.0]))
    images = torch.full((3, 1, 8, 8), 0.5, dtype=torch.float64)
    labels = torch.zeros(3, dtype=torch.int64)
    result = Square(2, norm="l1", queries=1000)(Classifier(net, classes=2, batch=4), images, labels)
    gain = 100 + 0.5 * float(slope.sum()) - result.margin
    best = 0.5 * float(slope.sort(descending=True).values[:4].sum())
    assert (gain <= best + 1e-9).all()
    assert (gain >= 3 * 2 * float(slope.mean())).all()


def test_a_longer_schedule_keeps_squares_large() -> None:
    """AutoAttack asks 5000 of the 10,000 queries for which the squares shrink."""
    short = Square(0.1, queries=5000, schedule=10_000)
    long = Square(0.1, queries=10_000)
    assert [short.side(step, 28, 28) for step in (0, 60, 4999)] == [long.side(step, 28, 28) for step in (0, 60, 4999)]


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_images_draw_their_own_squares(norm: str) -> None:
    """Trap 5: equal images with other numbers take other ways, and one of them alone takes the same way."""
    labels, radius = torch.zeros(4, dtype=torch.int64), {"linf": 0.1, "l1": 4.0}[norm]
    result = Square(radius, norm, queries=12)(never(), grey(4), labels)
    assert all((result.images[0] != result.images[i]).any() for i in (1, 2, 3))
    alone = Square(radius, norm, queries=12)(never(), grey(1), labels[:1], index=torch.tensor([2]))
    assert torch.equal(alone.images[0], result.images[2])


def test_linf_square_reaches_the_best_corner_of_a_linear_model() -> None:
    """On a linear model the optimum is a corner; with squares down to one pixel it is found exactly."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2)).double()
    with torch.no_grad():
        net[1].bias.copy_(torch.tensor([50.0, -50.0]))
    images = torch.full((3, 1, 4, 4), 0.5, dtype=torch.float64)
    result = Square(0.1, queries=600)(Classifier(net, classes=2, batch=4), images, torch.zeros(3, dtype=torch.int64))
    slope = (net[1].weight[0] - net[1].weight[1]).detach()
    best = 0.5 - 0.1 * slope.sign()
    torch.testing.assert_close(result.images, best.view(1, 1, 4, 4).expand(3, -1, -1, -1))
    assert not result.backwards.any()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("limit", [None, 100])
def test_steps_taken_ahead_are_those_of_one_after_the_other(victim, norm: str, limit: int | None) -> None:
    """A model batch with room for several points of an image tries squares ahead; nothing that is found changes."""
    radius = {"linf": 0.01, "l2": 0.07, "l1": 0.4}[norm]
    attack, rows = Square(radius, norm, queries=160), [0, 3, 7]
    results, calls = [], []
    for batch in (3, 24):
        net = Counted(victim.apart())
        model = Classifier(net, classes=5, batch=batch)
        given = (victim.images[rows], victim.labels[rows])
        results.append(attack(model, *given, index=victim.index[rows], budget=limit))
        calls.append(net.calls)
    for name in ("images", "success", "forwards", "steps", "margin"):
        assert torch.equal(getattr(results[0], name), getattr(results[1], name)), name
    assert not results[0].success.all(), "the test needs an image that goes on to the end"
    assert calls[1] < 0.6 * calls[0]


class Counted(torch.nn.Module):
    """Counts its calls."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net, self.calls = net, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        answer: torch.Tensor = self.net(x)
        return answer
