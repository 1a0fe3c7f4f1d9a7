"""Euclidean projections onto ball and box together, against solvers that know nothing of the library's algorithms."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, NonlinearConstraint, minimize

from blindspots import projection
from blindspots.geometry import NORM_NAMES, NORMS
from blindspots.noise import key, normal, uniform

BALLS = ("linf", "l2", "l1", "l0")


def draw(seed: int, rows: int, n: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean points with some values at the bounds, and points to project, some far outside the box."""
    keys = key(seed, torch.arange(rows))
    x = (uniform(keys, (n,), dtype) * 1.4 - 0.2).clamp(0, 1)
    return x, x + normal(key(seed, keys), (n,), dtype) * 0.5


def project(norm: str, y: torch.Tensor, x: torch.Tensor, radius: float) -> torch.Tensor:
    return NORMS[norm].project(y, x, torch.full((len(x),), radius, dtype=x.dtype))


def by_dual(norm: str, y: np.ndarray, x: np.ndarray, radius: float) -> np.ndarray:
    """The projection by bisection of the one multiplier of the ball; the box is then met value by value."""

    def at(multiplier: float) -> np.ndarray:
        d = y - x
        if norm == "l2":  # argmin (z-y)^2 + multiplier (z-x)^2
            return np.clip(x + d / (1 + multiplier), 0, 1)
        return np.clip(x + np.sign(d) * np.maximum(np.abs(d) - multiplier, 0), 0, 1)

    def size(z: np.ndarray) -> float:
        return float(np.linalg.norm(z - x, 2 if norm == "l2" else 1))

    if size(at(0)) <= radius:
        return at(0)
    low, high = 0.0, 1.0
    while size(at(high)) > radius:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if size(at(middle)) > radius else (low, middle)
    return at(high)


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("radius", [0.05, 0.4, 1.0, 3.0])
def test_projection_is_the_one_of_the_dual(norm: str, radius: float) -> None:
    x, y = draw(1, 40, 12)
    z = project(norm, y, x, radius)
    for row in range(40):
        expected = by_dual(norm, y[row].numpy(), x[row].numpy(), radius)
        np.testing.assert_allclose(z[row].numpy(), expected, atol=2e-7)


@pytest.mark.parametrize("norm", ["l2", "l1", "linf"])
def test_projection_is_the_one_of_a_general_solver(norm: str) -> None:
    """SLSQP on the problem as it is written; l1 by splitting the change into its two signs."""
    x, y = draw(2, 6, 5)
    radius = 0.35
    z = project(norm, y, x, radius).numpy()
    for row in range(6):
        a, b = x[row].numpy(), y[row].numpy()
        if norm == "l1":
            split = np.concatenate([np.eye(5), -np.eye(5)], axis=1)
            answer = minimize(
                lambda u, a=a, b=b, split=split: np.sum((a + split @ u - b) ** 2),
                np.zeros(10),
                method="SLSQP",
                bounds=[(0, 1 - v) for v in a] + [(0, v) for v in a],
                constraints=[LinearConstraint(np.ones(10), -np.inf, radius)],
                options={"ftol": 1e-14, "maxiter": 500},
            )
            expected = a + split @ answer.x
        else:
            ball = (
                [NonlinearConstraint(lambda v, a=a: np.sum((v - a) ** 2), -np.inf, radius**2)] if norm == "l2" else []
            )
            reach = radius if norm == "linf" else 1.0
            answer = minimize(
                lambda v, b=b: np.sum((v - b) ** 2),
                a,
                method="SLSQP",
                bounds=[(max(0, v - reach), min(1, v + reach)) for v in a],
                constraints=ball,
                options={"ftol": 1e-14, "maxiter": 500},
            )
            expected = answer.x
        np.testing.assert_allclose(z[row], expected, atol=2e-5)


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 6])
def test_l0_projection_is_the_best_of_all_subsets(radius: int) -> None:
    x, y = draw(3, 20, 6)
    z = project("l0", y, x, radius)
    for row in range(20):
        a, b = x[row].numpy(), y[row].numpy()
        costs = []
        for chosen in combinations(range(6), radius):
            candidate = a.copy()
            candidate[list(chosen)] = np.clip(b, 0, 1)[list(chosen)]
            costs.append(np.sum((candidate - b) ** 2))
        assert int((z[row] != x[row]).sum()) <= radius
        assert float((z[row] - y[row]).square().sum()) == pytest.approx(min(costs), abs=1e-12)


def test_l1_projection_is_a_threshold_not_a_rescale() -> None:
    """Trap 13: (3, 1, 0) to radius 2 is (2, 0, 0), not (1.5, .5, 0); here a tenth of it, inside the box."""
    x = torch.full((1, 3), 0.5, dtype=torch.float64)
    y = x + torch.tensor([[0.3, 0.1, 0.0]], dtype=torch.float64)
    z = project("l1", y, x, 0.2)
    torch.testing.assert_close(z - x, torch.tensor([[0.2, 0.0, 0.0]], dtype=torch.float64), atol=1e-12, rtol=0)
    # With room for .15 only, what the first value cannot take goes to the second.
    x[0, 0] = 0.85
    y = x + torch.tensor([[0.3, 0.1, 0.0]], dtype=torch.float64)
    z = project("l1", y, x, 0.2)
    torch.testing.assert_close(z - x, torch.tensor([[0.15, 0.05, 0.0]], dtype=torch.float64), atol=1e-12, rtol=0)


def test_l2_projection_gives_the_room_of_clipped_values_to_the_others() -> None:
    """Scaling to the ball and clipping afterwards would stop short of the radius: it is no projection."""
    x = torch.tensor([[0.9, 0.5]], dtype=torch.float64)
    z = project("l2", x + torch.tensor([[4.0, 4.0]], dtype=torch.float64), x, 0.4)
    torch.testing.assert_close(z - x, torch.tensor([[0.1, 0.15**0.5]], dtype=torch.float64), atol=1e-7, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("norm", BALLS)
def test_points_inside_stay_bit_for_bit(norm: str, dtype: torch.dtype) -> None:
    """Trap 20: a point well inside the ball is not inflated, even where other rows are outside."""
    x, y = draw(4, 30, 50, dtype)
    radius = {"linf": 0.2, "l2": 0.5, "l1": 2.0, "l0": 5}[norm]
    once = project(norm, y, x, radius)
    inside = x + (once - x) * 0.5
    inside = torch.where(once == x, x, inside)
    mixed = torch.where(torch.arange(30).unsqueeze(1) % 2 == 0, inside, y)
    again = project(norm, mixed, x, radius)
    assert torch.equal(again[::2], inside[::2])
    assert torch.equal(again[1::2], once[1::2])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("n", [1, 2, 7, 300, 12288])
def test_the_ball_and_the_box_hold_and_repeating_changes_nothing(norm: str, dtype: torch.dtype, n: int) -> None:
    """Trap 45, also for radii that are small against the rounding of float32 (1/255 and less)."""
    x, y = draw(5, 8, n, dtype)
    for radius in (0, 1, 3, 17) if norm == "l0" else (0.0, 1e-4, 1 / 255, 8 / 255, 0.3, 1.0, 7.0):
        z = project(norm, y, x, radius)
        assert ((z >= 0) & (z <= 1)).all()
        size = NORMS[norm].size(z.double() - x.double())
        assert (size <= radius * (1 + 1e-6)).all(), (radius, size)
        assert torch.isfinite(z).all()
        again = project(norm, z, x, radius)
        tolerance = 0 if norm in ("linf", "l0") else (1e-12 if dtype == torch.float64 else 1e-6)
        assert (again - z).abs().max() <= tolerance


@pytest.mark.parametrize("norm", BALLS)
def test_each_row_has_its_own_radius(norm: str) -> None:
    """No reduction runs over the rows: together and alone give the same, for radii from zero to beyond everything."""
    x, y = draw(6, 6, 9)
    radii = torch.tensor([0, 1, 2, 3, 9, 40], dtype=torch.float64)
    together = NORMS[norm].project(y, x, radii)
    for row in range(6):
        one = slice(row, row + 1)
        assert torch.equal(together[one], NORMS[norm].project(y[one], x[one], radii[one]))
    assert torch.equal(together[0], x[0])
    assert torch.equal(together[5], y[5].clamp(0, 1))


def test_l0_keeps_exactly_k_of_ties() -> None:
    """Trap 17: equal changes do not all get through."""
    x = torch.full((2, 6), 0.5)
    z = project("l0", x + 0.25, x, 3)
    assert (z != x).sum(1).tolist() == [3, 3]


def test_l0_counts_what_the_box_lets_through() -> None:
    """A value that is pushed far out of the box gains less than its distance says."""
    x = torch.tensor([[1.0, 0.5]], dtype=torch.float64)
    y = torch.tensor([[9.0, 0.6]], dtype=torch.float64)
    assert project("l0", y, x, 1).tolist() == [[1.0, 0.6]]


def test_linf_bounds_round_inwards_in_float32() -> None:
    x = uniform(key(7, torch.arange(4)), (5000,), torch.float32)
    for radius in (1 / 255, 8 / 255, 0.3, 1e-9):
        low, high = projection.linf_bounds(x, torch.full((4,), radius, dtype=torch.float64))
        assert ((x.double() - low.double()) <= radius).all()
        assert ((high.double() - x.double()) <= radius).all()
        assert ((low <= x) & (x <= high)).all()


@given(
    st.sampled_from(["l2", "l1", "linf"]),
    st.floats(0, 3),
    st.lists(st.tuples(st.floats(0, 1), st.floats(-5, 5)), min_size=1, max_size=6),
)
def test_no_feasible_point_is_nearer(norm: str, radius: float, pairs: list[tuple[float, float]]) -> None:
    """The variational inequality <y - z, v - z> <= 0 for feasible v: the projection is the nearest point, for any "
    "input."""
    x = torch.tensor([[a for a, _ in pairs]], dtype=torch.float64)
    y = torch.tensor([[b for _, b in pairs]], dtype=torch.float64)
    z = project(norm, y, x, radius)
    _, others = draw(8, 20, len(pairs))
    others = project(norm, others, x.expand(20, -1), radius)
    assert ((y - z) * (others - z)).sum(1).max() <= 1e-6


def test_an_image_keeps_its_shape() -> None:
    x = torch.rand(2, 3, 4, 5)
    for name in NORM_NAMES:
        assert NORMS[name].project(x + 0.1, x, torch.ones(2)).shape == x.shape
