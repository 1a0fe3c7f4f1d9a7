"""Steepest steps, sizes and random draws of the four norms."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from blindspots import BlindspotsError
from blindspots.geometry import NORMS, norm, sizes
from blindspots.noise import key, normal, uniform

KEYS = key(0, torch.arange(400))


def dual_norm(name: str, g: torch.Tensor) -> torch.Tensor:
    if name == "linf":
        return g.abs().sum(1)
    return g.norm(dim=1) if name == "l2" else g.abs().amax(1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("scale", [1.0, 1e20, 1e-20, 1e-37, 1e-40])
@pytest.mark.parametrize("name", ["linf", "l2", "l1"])
def test_steepest_step_has_unit_size_and_reaches_the_dual_norm(name: str, scale: float, dtype: torch.dtype) -> None:
    """Trap 22: also for gradients whose squares vanish or overflow in float32."""
    g = normal(KEYS[:50], (3, 4, 4), torch.float64)
    step = NORMS[name].steepest((g * scale).to(dtype)).double().flatten(1)
    torch.testing.assert_close(NORMS[name].size(step), torch.ones(50, dtype=torch.float64), rtol=1e-5, atol=0)
    fall = -(step * g.flatten(1)).sum(1)
    torch.testing.assert_close(fall, dual_norm(name, g.flatten(1)), rtol=1e-3 if scale == 1e-40 else 1e-5, atol=0)


@pytest.mark.parametrize("name", NORMS)
def test_zero_gradient_gives_a_zero_step(name: str) -> None:
    step = NORMS[name].steepest(torch.zeros(2, 3, 4, 4))
    assert torch.equal(step, torch.zeros_like(step))


@pytest.mark.parametrize("name", NORMS)
def test_rows_do_not_see_each_other(name: str) -> None:
    """Trap 5: a maximum over the batch would move one image of eight."""
    g = normal(KEYS[:8], (20,), torch.float64) * 10.0 ** torch.arange(8).unsqueeze(1)
    together = NORMS[name].steepest(g)
    for row in range(8):
        assert torch.equal(together[row : row + 1], NORMS[name].steepest(g[row : row + 1]))


def test_sizes_are_those_of_the_change_in_float64() -> None:
    """Trap 21: the size of x' - x, by hand."""
    change = torch.tensor([[[[0.3, -0.4], [0.0, 0.0]]]])
    found = {name: float(size) for name, size in sizes(change).items()}
    assert found["l0"] == 2
    assert found["linf"] == pytest.approx(0.4, abs=1e-7)
    assert found["l2"] == pytest.approx(0.5, abs=1e-7)
    assert found["l1"] == pytest.approx(0.7, abs=1e-7)
    assert all(size.dtype == torch.float64 for size in sizes(change).values())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", NORMS)
def test_draws_stay_in_the_ball_and_the_box(name: str, dtype: torch.dtype) -> None:
    x = (uniform(KEYS, (30,), dtype) * 1.2 - 0.1).clamp(0, 1)
    radius = {"linf": 0.1, "l2": 0.5, "l1": 2.0, "l0": 4}[name]
    z = NORMS[name].sample(KEYS, x, torch.full((400,), radius, dtype=dtype))
    assert ((z >= 0) & (z <= 1)).all()
    assert (NORMS[name].size(z.double() - x.double()) <= radius * (1 + 1e-5)).all()
    assert (z != x).any(1).all()


@pytest.mark.parametrize("name", ["linf", "l2", "l1"])
def test_draws_are_uniform_in_the_ball(name: str) -> None:
    """(size / radius)^n is uniform on [0, 1] for a uniform point of an n-ball, and every orthant is as likely.

    The clean point is the centre of a box far larger than the ball. Fixed keys: the p-values are numbers, not luck.
    """
    n = 6
    keys = key(11, torch.arange(4000))
    x = torch.full((4000, n), 0.5, dtype=torch.float64)
    change = NORMS[name].sample(keys, x, torch.full((4000,), 0.2, dtype=torch.float64)) - x
    share = (NORMS[name].size(change) / 0.2) ** n
    assert stats.kstest(share.numpy(), "uniform").pvalue > 0.01
    orthant = ((change > 0) * 2 ** torch.arange(n)).sum(1)
    assert stats.chisquare(torch.bincount(orthant, minlength=2**n).numpy()).pvalue > 0.01
    # No axis is preferred, and no two values are correlated.
    assert stats.f_oneway(*change.square().T.numpy()).pvalue > 0.01
    correlation = torch.corrcoef(change.T) - torch.eye(n, dtype=torch.float64)
    assert correlation.abs().max() < 4 / 4000**0.5


def test_l0_draws_change_each_place_as_often() -> None:
    keys = key(12, torch.arange(3000))
    x = torch.full((3000, 10), 0.5, dtype=torch.float64)
    z = NORMS["l0"].sample(keys, x, torch.full((3000,), 3.0, dtype=torch.float64))
    assert ((z != x).sum(1) == 3).all()
    assert stats.chisquare((z != x).sum(0).numpy()).pvalue > 0.01
    assert stats.kstest(z[z != x].numpy(), "uniform").pvalue > 0.01


@pytest.mark.parametrize("name", NORMS)
def test_draws_depend_on_the_key_alone(name: str) -> None:
    x = uniform(KEYS[:20], (12,), torch.float64)
    radius = torch.full((20,), 2.0, dtype=torch.float64)
    together = NORMS[name].sample(KEYS[:20], x, radius)
    order = torch.randperm(20)
    assert torch.equal(NORMS[name].sample(KEYS[:20][order], x[order], radius), together[order])
    assert torch.equal(NORMS[name].sample(KEYS[7:8], x[7:8], radius[:1]), together[7:8])


def test_radius_zero_draws_the_point_itself() -> None:
    x = uniform(KEYS[:5], (12,), torch.float64)
    for name in NORMS:
        assert torch.equal(NORMS[name].sample(KEYS[:5], x, torch.zeros(5, dtype=torch.float64)), x)


def test_unknown_norm_is_refused() -> None:
    with pytest.raises(BlindspotsError, match="unknown norm 'l3': known: l0, l1, l2, linf"):
        norm("l3")
