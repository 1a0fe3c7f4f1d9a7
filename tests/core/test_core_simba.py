"""SimBA: its basis, and its way on a linear model, where every step can be foretold."""

from __future__ import annotations

import pytest
import torch

from blindspots import Classifier, SimBA
from blindspots.attacks.simba import _ranks, cosines

LIKE = torch.empty(0, dtype=torch.float64)


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_cosines_are_orthonormal_and_rise_in_frequency(n: int) -> None:
    waves = cosines(n, LIKE)
    torch.testing.assert_close(waves @ waves.T, torch.eye(n, dtype=torch.float64))
    changes = (waves[:, 1:].sign() != waves[:, :-1].sign()).sum(1)
    assert changes.tolist() == list(range(n))


def test_low_frequencies_come_first() -> None:
    ranks = _ranks((2, 32, 32), "dct", torch.device("cpu"))
    assert (ranks[:, :4, :4] == 0).all()
    assert (ranks[:, 4, :5] == 1).all()
    assert int((ranks == 0).sum()) == 2 * 16


def linear(bias: float) -> tuple[Classifier, torch.Tensor]:
    """The margin is 2 (bias + <w, x - 1/2>) with w of one sign: the best signs are known."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2)).double()
    slope = torch.linspace(0.5, 2, 16, dtype=torch.float64) * (-1.0) ** torch.arange(16)
    with torch.no_grad():
        net[1].weight.copy_(torch.stack((slope, -slope)))
        net[1].bias.copy_(torch.tensor([bias, -bias]) - net[1].weight.sum(1) / 2)
    return Classifier(net, classes=2, batch=4), slope


@pytest.mark.parametrize("loss", ["ce", "margin"])
def test_every_pixel_moves_once_against_the_slope(loss: str) -> None:
    """One query for a falling direction, two for a rising one: 16 directions take 24 queries."""
    model, slope = linear(10.0)
    images, labels = torch.full((3, 1, 4, 4), 0.5, dtype=torch.float64), torch.zeros(3, dtype=torch.int64)
    result = SimBA(10.0, step_size=0.1, queries=1 + 24 + 1, loss=loss)(model, images, labels)
    expected = 0.5 - 0.1 * slope.sign().view(1, 4, 4)
    torch.testing.assert_close(result.images, expected.expand(3, -1, -1, -1))
    assert result.forwards.tolist() == [25] * 3
    assert result.steps.tolist() == [24] * 3
    assert not result.backwards.any()


def test_steps_that_the_box_swallows_are_not_asked() -> None:
    """At black every other direction can only rise: what falls towards black is skipped without a query."""
    model, slope = linear(10.0)
    images, labels = torch.zeros(1, 1, 4, 4, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    result = SimBA(10.0, step_size=0.1, queries=1 + 16 + 1)(model, images, labels)
    expected = (slope < 0).double().mul(0.1).view(1, 1, 4, 4)
    torch.testing.assert_close(result.images, expected)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("basis", ["pixel", "dct"])
def test_the_change_stays_within_the_radius_and_succeeds(norm: str, basis: str) -> None:
    model, _ = linear(0.05)
    images, labels = torch.full((2, 1, 4, 4), 0.5, dtype=torch.float64), torch.zeros(2, dtype=torch.int64)
    result = SimBA(0.04, norm=norm, basis=basis, queries=200)(model, images, labels)
    assert result.success.all()
    assert (result.size[norm] <= 0.04 * (1 + 1e-6)).all()
    assert (result.forwards <= 200).all()
