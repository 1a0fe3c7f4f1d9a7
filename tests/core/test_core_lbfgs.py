"""L-BFGS: minima of smooth, bounded and kinked functions, row by row, and rows that do not see each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional as F

from blindspots import BlindspotsError
from blindspots.optimisers import LBFGS, Metric, Smoothing
from blindspots.optimisers.quasi_newton import learn, newton_step, push

Function = Callable[[Tensor, Tensor], Tensor]  # theta (R, D) of these rows (R,) of the problems -> values (R,)
SEARCHES = pytest.mark.parametrize("line_search", ["backtracking", "strong-wolfe"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


@dataclass
class Run:
    theta: Tensor
    value: Tensor  # lowest value seen by each row
    asked: Tensor  # evaluations until the row had ended
    done: Tensor
    state: dict[str, Tensor]


def ask(function: Function, theta: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Values and gradients of all rows."""
    leaf = theta.clone().requires_grad_()
    loss = function(leaf, rows)
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    return loss.detach(), gradient


def one_by_one(function: Function) -> Function:
    """The function of each row by itself, so that what is left of a difference is the optimiser's."""
    return lambda x, rows: torch.cat([function(x[i : i + 1], rows[i : i + 1]) for i in range(len(x))])


def run(
    function: Function,
    start: Tensor,
    optimiser: LBFGS,
    bounds: tuple[Tensor, Tensor] | None = None,
    most: int = 2000,
    rows: Tensor | None = None,
) -> Run:
    rows = torch.arange(len(start)) if rows is None else rows
    theta, state = start.clone(), optimiser.init(start, bounds=bounds)
    value, asked = torch.full((len(start),), float("inf")).double(), torch.zeros(len(start), dtype=torch.int64)
    for _ in range(most):
        loss, gradient = ask(function, theta, rows)
        asked += ~state["done"]
        value = torch.fmin(value, loss.double())
        theta, state = optimiser.update(theta, loss, gradient, state)
        assert all(len(tensor) == len(theta) for tensor in state.values()), "state must have one row an image"
        if state["done"].all():
            break
    return Run(theta, value, asked, state["done"], state)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def curvature(rows: int, size: int, condition: float, seed: int = 0) -> Tensor:
    """Symmetric matrices (rows, size, size) with eigenvalues from 1 to the condition number."""
    basis = torch.linalg.qr(normal(rows, size, size, seed=seed))[0]
    exponents = torch.linspace(0, np.log10(condition), size, dtype=torch.float64)
    return (basis * 10**exponents) @ basis.mT


def quadratic(matrix: Tensor, centre: Tensor) -> Function:
    def function(x: Tensor, rows: Tensor) -> Tensor:
        away = x - centre[rows].to(x.dtype)
        return ((matrix[rows].to(x.dtype) * away.unsqueeze(1)).sum(2) * away).sum(1) / 2

    return function


def rosenbrock(x: Tensor, rows: Tensor) -> Tensor:
    return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(1)


def logistic(weights: Tensor, shift: Tensor) -> Function:
    def function(x: Tensor, rows: Tensor) -> Tensor:
        scores = (weights[rows] * x.unsqueeze(1)).sum(2) - shift[rows]
        return F.softplus(scores).sum(1) + 0.05 * x.square().sum(1) + 0.01 * x.pow(4).sum(1)

    return function


def slack(function: Function, theta: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """The largest entry of the projected gradient of each row: 0 at a point of Karush, Kuhn and Tucker."""
    _, gradient = ask(function, theta, torch.arange(len(theta)))
    return ((theta - gradient).clamp(lower, upper) - theta).abs().amax(1)


def scipy_minimum(function: Function, start: Tensor, row: int, bounds: Any, tolerance: float) -> float:
    def one(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = ask(function, torch.tensor(x).unsqueeze(0), torch.tensor([row]))
        return value.item(), gradient[0].numpy()

    options = {"ftol": 0.0, "gtol": tolerance, "maxfun": 5000}
    found = minimize(one, start.numpy(), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return float(found.fun)


def bounded_problems(kind: str, rows: int = 50, size: int = 20) -> tuple[Function, Tensor, Tensor, Tensor]:
    """A convex function of each row, its start, and bounds of which many hold at the minimum."""
    lower = normal(rows, size, seed=1) - 1
    width = torch.rand(rows, size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    if kind == "quadratic":
        function = quadratic(curvature(rows, size, 1e3, seed=3), normal(rows, size, seed=4))
    else:
        function = logistic(normal(rows, 30, size, seed=5), 2 * normal(rows, 30, seed=6))
    upper = lower + 2 * width
    return function, torch.zeros(rows, size).double().clamp(lower, upper), lower, upper


@SEARCHES
def test_quadratics_of_condition_10000_are_solved(line_search: Any) -> None:
    centre = normal(12, 20, seed=1)
    optimiser = LBFGS(line_search=line_search, tolerance_gradient=1e-7, tolerance_change=0)
    found = run(quadratic(curvature(12, 20, 1e4), centre), torch.zeros(12, 20).double(), optimiser)
    assert found.done.all()
    torch.testing.assert_close(found.theta, centre, rtol=0, atol=1e-6)


@SEARCHES
@DTYPES
@pytest.mark.parametrize("size", [2, 10])
def test_rosenbrock_valleys_are_followed_to_the_end(line_search: Any, dtype: torch.dtype, size: int) -> None:
    start = torch.cat((torch.tensor([-1.2, 1.0]).repeat(1, size // 2), 1 + 0.5 * normal(7, size))).to(dtype)
    found = run(rosenbrock, start, LBFGS(line_search=line_search, tolerance_gradient=1e-6, tolerance_change=0))
    assert found.done.all()
    assert found.asked.max() < 300
    # Chains of ten have a second minimum, of value 3.98658.
    close = 1e-12 if dtype == torch.float64 else 1e-9
    first, second = found.value < close, (found.value - 3.986579112347).abs() < 1e-6
    assert (first | second).all()
    assert first.any()
    assert not second.any() or size == 10


@SEARCHES
@pytest.mark.parametrize("kind", ["quadratic", "logistic"])
def test_bounded_minima_are_those_of_scipy(line_search: Any, kind: str) -> None:
    """100 random problems for each line search."""
    function, start, lower, upper = bounded_problems(kind)
    optimiser = LBFGS(line_search=line_search, tolerance_gradient=1e-6, tolerance_change=0)
    found = run(function, start, optimiser, (lower, upper))
    assert found.done.all()
    assert ((found.theta >= lower) & (found.theta <= upper)).all()
    assert slack(function, found.theta, lower, upper).max() < 1e-5
    at_bound = ((found.theta == lower) | (found.theta == upper)).double().mean(1)
    assert (at_bound > 0).all()
    assert (at_bound < 1).any()
    for row in range(len(start)):
        bounds = list(zip(lower[row].tolist(), upper[row].tolist(), strict=True))
        theirs = scipy_minimum(function, start[row], row, bounds, 1e-6)
        assert float(found.value[row]) == pytest.approx(theirs, rel=1e-6, abs=1e-9)


@SEARCHES
def test_infinite_bounds_are_no_bounds_and_closed_ones_hold_theta(line_search: Any) -> None:
    centre = normal(4, 6, seed=1)
    function, start = quadratic(curvature(4, 6, 10.0), centre), torch.zeros(4, 6).double()
    optimiser = LBFGS(line_search=line_search, tolerance_gradient=1e-9, tolerance_change=0)
    everywhere = torch.full_like(start, float("inf"))
    torch.testing.assert_close(run(function, start, optimiser, (-everywhere, everywhere)).theta, centre)
    held = run(function, start, optimiser, (start, start))
    assert torch.equal(held.theta, start)
    assert held.asked.tolist() == [1] * 4


@SEARCHES
@DTYPES
def test_kinks_do_not_stall_it(line_search: Any, dtype: torch.dtype) -> None:
    centre = normal(16, 6, seed=1).to(dtype)
    start = 3 * normal(16, 6, seed=2).to(dtype)
    optimiser = LBFGS(line_search=line_search)

    def corner(x: Tensor, rows: Tensor) -> Tensor:
        return (x - centre[rows]).abs().sum(1)

    def cone(x: Tensor, rows: Tensor) -> Tensor:
        return (x - centre[rows]).square().sum(1).sqrt()

    def hinge(x: Tensor, rows: Tensor) -> Tensor:
        """A margin over a root, as in an attack by flow."""
        rough = ((x[:, 1:] - x[:, :-1]).square() + 1e-8).sqrt().sum(1)
        return torch.relu((x - centre[rows]).sum(1) + 3) + 0.05 * rough

    first = torch.arange(16)
    for function, share in ((corner, 1e-2), (cone, 1e-5), (hinge, 1e-3)):
        found = run(function, start, optimiser, most=400)
        assert (found.value / function(start, first)).median() < share
    assert (run(corner, start, optimiser, most=400).value < 0.05 * corner(start, first)).all()


def test_the_largest_of_several_slopes_is_nearly_minimised() -> None:
    start = 3 * normal(16, 6, seed=2)
    found = run(lambda x, rows: x.abs().amax(1), start, LBFGS(), most=400)
    assert (found.value / start.abs().amax(1)).median() < 1e-2


def test_kinks_between_two_steep_pieces_are_followed_to_their_lowest_points() -> None:
    """f = max(<a, x> + m, 0) + x'Qx / 2 has its minimum on the kink: x = -m Q^-1 a / (a'Q^-1 a). With steep pieces a
    search that only drops its history there ends at twice the minimum and more."""
    form, slope = curvature(16, 8, 50.0), 20 * F.normalize(normal(16, 8, seed=1))
    centre = normal(16, 8, seed=2)

    def function(x: Tensor, rows: Tensor) -> Tensor:
        away = x - centre[rows]
        bend = (form[rows] * away.unsqueeze(1)).sum(2)
        return torch.relu((slope[rows] * away).sum(1) + 1.0) + (bend * away).sum(1) / 2

    pull = torch.linalg.solve(form, slope.unsqueeze(2)).squeeze(2)
    least = centre - pull / (slope * pull).sum(1, keepdim=True)
    lowest = function(least, torch.arange(16))
    found = run(function, torch.zeros(16, 8).double(), LBFGS(), most=1000)
    assert (found.value >= lowest * (1 - 1e-9)).all()
    assert ((found.value - lowest) / lowest).quantile(0.6) < 1e-3


class Diagonal(Metric):
    """A metric of its own for each entry, those of a quadratic's inverse curvatures."""

    def __init__(self, factors: Tensor) -> None:
        self.factors = factors

    def __call__(self, theta: Tensor) -> Tensor:
        return theta * self.factors


def test_smoothing_is_the_inverse_of_one_plus_the_graph_laplacian() -> None:
    height, width, sides = 4, 6, 0.7
    count = height * width
    laplacian = torch.zeros(count, count).double()
    for r in range(height):
        for c in range(width):
            for down, right in ((1, 0), (0, 1)):
                if r + down < height and c + right < width:
                    edge = torch.zeros(count).double()
                    edge[r * width + c], edge[(r + down) * width + c + right] = 1, -1
                    laplacian += torch.outer(edge, edge)
    dense = torch.linalg.inv(torch.eye(count).double() + sides**2 * count * laplacian)
    fields = normal(5, 2, height, width)
    found = Smoothing(sides)(fields)
    torch.testing.assert_close(found.flatten(2), fields.flatten(2) @ dense)
    single = fields.float()
    whole = Smoothing(sides)(single)
    for rows in (slice(0, 1), slice(3, 5)):
        assert torch.equal(Smoothing(sides)(single[rows]), whole[rows])
    with pytest.raises(BlindspotsError, match="sides"):
        Smoothing(0)


@SEARCHES
@pytest.mark.parametrize("bounded", [False, True])
def test_a_metric_that_is_the_inverse_hessian_needs_few_steps_and_ends_at_the_same_point(
    line_search: Any, bounded: bool
) -> None:
    stiff = 10 ** torch.linspace(0, 3, 24, dtype=torch.float64)
    centre = normal(6, 24, seed=1)
    limit = torch.full((6, 24), 0.8 if bounded else float("inf"), dtype=torch.float64)

    def function(x: Tensor, rows: Tensor) -> Tensor:
        return (stiff * (x - centre[rows]).square()).sum(1) / 2

    start = torch.zeros(6, 24).double()
    asked = []
    for metric in (None, Diagonal(1 / stiff)):
        optimiser = LBFGS(line_search=line_search, tolerance_gradient=1e-7, tolerance_change=0, metric=metric)
        found = run(function, start, optimiser, (-limit, limit) if bounded else None)
        assert found.done.all()
        torch.testing.assert_close(found.theta, centre.clamp(-limit, limit), rtol=0, atol=1e-5)
        asked.append(found.asked.max())
    assert asked[1] <= 40 < asked[0]


@SEARCHES
@pytest.mark.parametrize("kind", ["quadratic", "logistic"])
def test_bounded_minima_do_not_depend_on_the_metric(line_search: Any, kind: str) -> None:
    """Even one that has nothing to do with the problem: fields of 4 x 5."""
    function, start, lower, upper = bounded_problems(kind)
    shape = (len(start), 1, 4, 5)

    def flat(x: Tensor, rows: Tensor) -> Tensor:
        return function(x.flatten(1), rows)

    optimiser = LBFGS(line_search=line_search, tolerance_gradient=1e-6, tolerance_change=0, metric=Smoothing(0.5))
    bounds = lower.view(shape), upper.view(shape)
    found = run(flat, start.view(shape), optimiser, bounds)
    assert found.done.all()
    plain = run(function, start, LBFGS(tolerance_gradient=1e-6, tolerance_change=0), (lower, upper))
    torch.testing.assert_close(found.value, plain.value, rtol=1e-6, atol=1e-9)


@SEARCHES
@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("bounded", [False, True])
def test_rows_are_bit_for_bit_the_same_alone_together_and_permuted(
    line_search: Any, bounded: bool, smooth: bool
) -> None:
    logistic, start, lower, upper = bounded_problems("logistic", rows=19, size=33)
    start, lower, upper = (tensor.view(19, 1, 3, 11) for tensor in (start, lower, upper))
    function = one_by_one(lambda x, rows: logistic(x.flatten(1), rows))
    optimiser = LBFGS(memory=4, line_search=line_search, metric=Smoothing(1.0) if smooth else None)
    whole = run(function, start, optimiser, (lower, upper) if bounded else None, most=30)
    for rows in (torch.tensor([7]), torch.tensor([3, 18]), torch.arange(18, -1, -1), torch.arange(2, 15)):
        bounds = (lower[rows], upper[rows]) if bounded else None
        part = run(function, start[rows], optimiser, bounds, most=30, rows=rows)
        assert torch.equal(part.theta, whole.theta[rows])
        assert torch.equal(part.value, whole.value[rows])


@SEARCHES
def test_narrowing_the_state_changes_nothing(line_search: Any) -> None:
    function, start, *_ = bounded_problems("logistic", rows=9)
    function, optimiser, rows = one_by_one(function), LBFGS(line_search=line_search), torch.arange(9)
    whole = run(function, start, optimiser, most=25)
    theta, state = start.clone(), optimiser.init(start)
    for query in range(25):
        theta, state = optimiser.update(theta, *ask(function, theta, rows), state)
        if query in (4, 11):
            kept = torch.arange(len(rows))[::2].flip(0)
            theta, rows, state = theta[kept], rows[kept], {name: tensor[kept] for name, tensor in state.items()}
    assert torch.equal(theta, whole.theta[rows])


@SEARCHES
def test_a_broken_row_harms_no_other_and_ends(line_search: Any) -> None:
    function, start, *_ = bounded_problems("logistic", rows=6)
    function = one_by_one(function)
    whole = run(function, start, LBFGS(line_search=line_search))

    def broken(x: Tensor, rows: Tensor) -> Tensor:
        poison = torch.tensor([1.0, float("nan"), 1.0, float("inf"), 1.0, 1.0], dtype=torch.float64)
        return function(x, rows) * poison[rows]

    found = run(broken, start, LBFGS(line_search=line_search))
    fine = torch.tensor([0, 2, 4, 5])
    assert torch.equal(found.theta[fine], whole.theta[fine])
    assert found.asked[[1, 3]].tolist() == [1, 1]
    assert torch.equal(found.theta[[1, 3]], start[[1, 3]])


@SEARCHES
def test_trials_that_are_not_finite_are_stepped_back_from(line_search: Any) -> None:
    """log x has no value beyond 0, where the first step from .1 leads."""
    start = torch.full((1, 2), 0.1, dtype=torch.float64)
    found = run(lambda x, rows: (x - x.log()).sum(1) if (x > 0).all() else x.sum(1) * float("nan"),
                start, LBFGS(line_search=line_search, first_step=50.0))  # fmt: skip
    torch.testing.assert_close(found.theta, torch.ones(1, 2).double(), rtol=0, atol=1e-4)
    optimiser = LBFGS()
    theta, state = optimiser.update(start, torch.ones(1).double(), torch.ones_like(start), optimiser.init(start))
    again, _ = optimiser.update(theta, torch.tensor([float("nan")]).double(), torch.ones_like(start), state)
    torch.testing.assert_close(again - start, (theta - start) / 2)


@DTYPES
def test_rounding_ends_the_search(dtype: torch.dtype) -> None:
    """Far from 0, differences of f are lost in its rounding long before the gradient is 0."""
    centre = normal(8, 5, seed=1).to(dtype)
    optimiser = LBFGS(tolerance_gradient=0, tolerance_change=0)
    found = run(lambda x, rows: 1e4 + (x - centre).square().sum(1), torch.zeros(8, 5, dtype=dtype), optimiser, most=500)
    assert found.done.all()
    assert found.asked.max() < 100
    torch.testing.assert_close(found.theta, centre, rtol=0, atol=1e-4 if dtype == torch.float64 else 0.2)


def test_each_tolerance_ends_a_row_at_its_own_time() -> None:
    scales = torch.tensor([1e-9, 1.0, 1e3], dtype=torch.float64)
    centre = normal(3, 5, seed=1)

    def function(x: Tensor, rows: Tensor) -> Tensor:
        return scales * (x - centre).square().sum(1)

    found = run(function, torch.zeros(3, 5).double(), LBFGS())
    assert found.asked[0] == 1, "flat from the start"
    assert (found.asked[1:] > 1).all()
    loose = run(rosenbrock, torch.tensor([[-1.2, 1.0]]).double(), LBFGS(tolerance_change=0.1))
    tight = run(rosenbrock, torch.tensor([[-1.2, 1.0]]).double(), LBFGS(tolerance_change=1e-12))
    assert loose.asked[0] < tight.asked[0]


def test_the_history_wraps_and_more_memory_helps() -> None:
    function, start = quadratic(curvature(6, 30, 1e3), normal(6, 30, seed=1)), torch.zeros(6, 30).double()
    asked = []
    for memory in (2, 20):
        found = run(function, start, LBFGS(memory=memory, tolerance_gradient=1e-6, tolerance_change=0))
        assert found.done.all()
        assert (found.state["pushed"] > memory).all()
        assert found.state["history"].shape == (6, 2 * memory, 30)
        asked.append(found.asked.sum())
    assert asked[1] < asked[0]


def test_with_full_memory_a_quadratic_ends_like_conjugate_gradients() -> None:
    """With exact line searches D + 1 gradients would do; inexact ones need little more."""
    function, start = quadratic(curvature(5, 6, 50.0), normal(5, 6, seed=1)), torch.zeros(5, 6).double()
    found = run(function, start, LBFGS(memory=20, tolerance_gradient=1e-7, tolerance_change=0))
    assert found.asked.max() <= 40


@pytest.mark.parametrize("metric", [None, Diagonal(torch.linspace(0.5, 2, 7, dtype=torch.float64))])
def test_the_step_is_minus_the_inverse_bfgs_matrix_times_the_gradient(metric: Metric | None) -> None:
    """Against the dense update H <- (1 - r s y') H (1 - r y s') + r s s', r = 1 / y's; the ring wraps."""
    memory, size, hessian = 4, 7, curvature(3, 7, 10.0)
    shape = metric or (lambda x: x)
    for count in (1, 3, 4, 6, 9):
        history, pushed = torch.zeros(3, 2 * memory, size).double(), torch.zeros(3, dtype=torch.int64)
        products, every, pairs = torch.zeros(3, 2 * memory, memory).double(), torch.ones(3, dtype=torch.bool), []
        for pair in range(count):
            s = normal(3, size, seed=10 + pair)
            y = (hessian @ s.unsqueeze(2)).squeeze(2)
            pairs.append((s, y))
            push(history, pushed, s, shape(y), every)
            learn(products, history, pushed, y, every)
            pushed = pushed + 1
        g, free = normal(3, size, seed=5), torch.ones(3, size, dtype=torch.bool)
        step, used = newton_step(history, pushed, g, 1e-16, products, shaped=shape(g))
        assert used.all()
        if metric is None:
            torch.testing.assert_close(newton_step(history, pushed, g, 1e-16, free=free)[0], step)
        for row in range(3):
            one = torch.eye(size).double()
            s, y = pairs[-1]
            dense = shape(one) * (s[row] @ y[row]) / (y[row] @ shape(y[row]))
            for s, y in pairs[-memory:]:
                rho = 1 / (s[row] @ y[row])
                left = one - rho * torch.outer(s[row], y[row])
                dense = left @ dense @ left.T + rho * torch.outer(s[row], s[row])
            torch.testing.assert_close(step[row], -dense @ g[row])


def test_scale_multiplies_the_first_step() -> None:
    theta, gradient = torch.zeros(3, 4).double(), normal(3, 4)
    scale = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    optimiser = LBFGS(first_step=0.1)
    moved, _ = optimiser.update(theta, torch.ones(3).double(), gradient, optimiser.init(theta, scale))
    torch.testing.assert_close(moved.norm(dim=1), 0.1 * scale)
    torch.testing.assert_close(F.normalize(moved), -F.normalize(gradient))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"memory": 0}, "LBFGS.memory must be at least 1, got 0"),
        ({"line_search": "armijo"}, "LBFGS.line_search must be one of backtracking, strong-wolfe, got 'armijo'"),
        ({"max_trials": 0}, "LBFGS.max_trials must be at least 1, got 0"),
        ({"first_step": 0.0}, "LBFGS.first_step must be above 0, got 0.0"),
        ({"tolerance_gradient": -1.0}, "LBFGS.tolerance_gradient must be at least 0, got -1.0"),
        ({"tolerance_change": float("nan")}, "LBFGS.tolerance_change must be at least 0, got nan"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BlindspotsError) as caught:
        LBFGS(**settings)
    assert str(caught.value) == sentence
