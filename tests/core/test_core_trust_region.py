"""The smallest change beyond a plane and within reach, compared with a general solver."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from blindspots import halfspace
from blindspots.trust_region import smallest

PIXELS, COUNT = 6, 12
SIZES = {"l2": 2, "linf": float("inf"), "l1": 1}


def problem(seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Images, changes that lie near planes, the planes, and reaches from too short to long enough for the best."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.rand(COUNT, PIXELS, generator=draw, dtype=torch.float64)
    y = torch.rand(COUNT, PIXELS, generator=draw, dtype=torch.float64) - x
    g = torch.randn(COUNT, PIXELS, generator=draw, dtype=torch.float64)
    g = torch.where(((g * y).sum(1) > 0).unsqueeze(1), -g, g)
    b = (g * y).sum(1) - 0.02
    reach = torch.tensor([0.05, 0.15, 0.3, 2.0], dtype=torch.float64).repeat(COUNT // 4)
    return x, y, g, b, reach


def solved(norm: str, x: np.ndarray, y: np.ndarray, g: np.ndarray, b: float, reach: float) -> float:
    """The least size, by sequential quadratic programming on bounds u >= |z|."""
    n = len(x)

    def start(point: np.ndarray) -> np.ndarray:
        bound = np.abs(point)
        return np.concatenate([point, bound if norm == "l1" else bound.max(keepdims=True)])

    width = {"l2": 0, "linf": 1, "l1": n}[norm]
    size = (lambda v: v @ v) if norm == "l2" else (lambda v: v[n:].sum())
    constraints = [
        {"type": "ineq", "fun": lambda v: b - g @ v[:n]},
        {"type": "ineq", "fun": lambda v: reach**2 - ((v[:n] - y) ** 2).sum()},
    ]
    if width:
        constraints += [
            {"type": "ineq", "fun": lambda v: v[n:] - v[:n]},
            {"type": "ineq", "fun": lambda v: v[n:] + v[:n]},
        ]
    bounds = [*zip(-x, 1 - x, strict=True), *[(0, 1)] * width]
    first = y if norm == "l2" else start(y)
    found = minimize(size, first, bounds=bounds, constraints=constraints, method="SLSQP", options={"maxiter": 500})
    return float(np.linalg.norm(found.x[:n], SIZES[norm])) if found.success else float("nan")


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_as_small_as_a_general_solver_finds(norm: str) -> None:
    x, y, g, b, reach = problem()
    z = smallest(norm, x, y, g, b, reach)
    size = torch.linalg.vector_norm(z, SIZES[norm], dim=1)
    assert (x + z >= -1e-12).all()
    assert (x + z <= 1 + 1e-12).all()
    assert ((z - y).norm(dim=1) <= reach * (1 + 1e-9)).all()
    assert ((g * z).sum(1) <= b + 1e-5).all()
    compared = 0
    for row in range(COUNT):
        expected = solved(norm, x[row].numpy(), y[row].numpy(), g[row].numpy(), float(b[row]), float(reach[row]))
        if np.isfinite(expected):
            compared += 1
            # The ball is kept to, but not to the last digit.
            assert float(size[row]) <= expected * (1 + 1e-6) + 0.02 * float(reach[row])
            assert float(size[row]) >= expected * (1 - 1e-4)
    assert compared >= 8


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_with_a_long_reach_it_is_the_step_from_the_image(norm: str) -> None:
    x, y, g, b, _ = problem(1)
    z = smallest(norm, x, y, g, b, torch.full_like(b, 10.0))
    torch.testing.assert_close(z, halfspace.step(norm, g, (-b).clamp(min=0), x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_a_plane_out_of_reach_is_approached(norm: str) -> None:
    x, y, g, b, _ = problem(2)
    reach = torch.full_like(b, 1e-3)
    z = smallest(norm, x, y, g, b, reach)
    torch.testing.assert_close((z - y).norm(dim=1), reach, rtol=1e-6, atol=0)
    assert ((g * z).sum(1) < (g * y).sum(1)).all()


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_where_the_image_itself_is_beyond_the_plane_it_is_approached(norm: str) -> None:
    x, y, g, _, reach = problem(3)
    z = smallest(norm, x, y, g, torch.ones_like(reach) * 10, reach)
    before, after = (torch.linalg.vector_norm(change, SIZES[norm], dim=1) for change in (y, z))
    assert (after < before).all()
    assert (after[3::4] == 0).all(), "the reach of these is long enough for the image"


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_each_row_is_solved_on_its_own(norm: str) -> None:
    given = [tensor.float() for tensor in problem(4)]
    whole = smallest(norm, *given)
    for row in range(COUNT):
        assert torch.equal(smallest(norm, *(tensor[row : row + 1] for tensor in given))[0], whole[row])
