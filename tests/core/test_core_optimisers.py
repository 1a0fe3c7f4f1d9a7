"""Optimisers: formulas, and no row that sees another."""

from __future__ import annotations

import pytest
import torch

from blindspots import BlindspotsError
from blindspots.optimisers import Adam, AdaptiveSteps, Momentum, SparseSteps, Steepest

OPTIMISERS = {
    "steepest-linf": Steepest("linf", 0.1),
    "steepest-l2": Steepest("l2", 0.1),
    "steepest-l1": Steepest("l1", 0.1),
    "steepest-l1-share": Steepest("l1", 0.1, 0.3),
    "steepest-l0": Steepest("l0", 0.1),
    "momentum-linf": Momentum("linf", 0.1, 0.9),
    "momentum-l2": Momentum("l2", 0.1),
    "adam": Adam(0.1),
    "adaptive-linf": AdaptiveSteps("linf", 0.1, 5),
    "adaptive-l2": AdaptiveSteps("l2", 0.1, 5),
    "sparse": SparseSteps(0.1, 5),
}
LOSS = torch.zeros(6)  # most of these optimisers go by the gradient alone
EACH = pytest.mark.parametrize("optimiser", OPTIMISERS.values(), ids=OPTIMISERS)


def walk(optimiser, theta: torch.Tensor, gradients: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
    state = optimiser.init(theta, scale)
    for gradient in gradients:
        theta, state = optimiser.update(theta, LOSS[: len(theta)], gradient, state)
        assert all(len(tensor) == len(theta) for tensor in state.values()), "state must have one row an image"
    return theta


def problem() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    theta = torch.rand(6, 2, 3, 3, generator=draw, dtype=torch.float64)
    gradients = torch.randn(5, 6, 2, 3, 3, generator=draw, dtype=torch.float64)
    return theta, gradients * 10.0 ** torch.arange(-3, 3).view(1, 6, 1, 1, 1)


@EACH
def test_rows_do_not_see_each_other(optimiser) -> None:
    theta, gradients = problem()
    whole = walk(optimiser, theta, gradients)
    for rows in ([3], [5, 0, 2]):
        assert torch.equal(walk(optimiser, theta[rows], gradients[:, rows]), whole[rows])


@EACH
def test_state_can_be_narrowed_between_steps(optimiser) -> None:
    """When other images settle, an image goes on as if nothing had happened."""
    theta, gradients = problem()
    state, rows = optimiser.init(theta), [4, 1]
    moved, state = optimiser.update(theta, LOSS, gradients[0], state)
    part = optimiser.update(moved[rows], LOSS[rows], gradients[1][rows], {n: t[rows] for n, t in state.items()})[0]
    assert torch.equal(part, walk(optimiser, theta, gradients[:2])[rows])


@EACH
def test_nothing_is_changed_in_place(optimiser) -> None:
    theta, gradients = problem()
    state = optimiser.init(theta)
    kept = {name: tensor.clone() for name, tensor in state.items()}
    copy = theta.clone()
    optimiser.update(theta, LOSS, gradients[0], state)
    assert torch.equal(theta, copy)
    assert all(torch.equal(state[name], kept[name]) for name in kept)


@EACH
def test_scale_multiplies_the_step_of_each_image(optimiser) -> None:
    theta, gradients = problem()
    scale = torch.tensor([1.0, 2.0, 0.5, 0.0, 3.0, 1.0], dtype=torch.float64)
    plain, scaled = walk(optimiser, theta, gradients[:1]), walk(optimiser, theta, gradients[:1], scale)
    torch.testing.assert_close(scaled - theta, (plain - theta) * scale.view(6, 1, 1, 1), rtol=1e-9, atol=1e-15)


@EACH
def test_a_zero_gradient_from_the_start_moves_nothing(optimiser) -> None:
    theta, gradients = problem()
    assert torch.equal(walk(optimiser, theta, gradients * 0), theta)


@EACH
def test_the_first_step_goes_downhill(optimiser) -> None:
    theta, gradients = problem()
    moved = walk(optimiser, theta, gradients[:1]) - theta
    assert ((moved * gradients[0]).flatten(1).sum(1) < 0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_adam_is_the_adam_of_torch_for_every_row(dtype: torch.dtype) -> None:
    theta, gradients = problem()
    theta, gradients = theta.to(dtype), gradients.to(dtype)
    mine = walk(Adam(0.05, 0.8, 0.95, 1e-6), theta, gradients)
    for row in range(len(theta)):
        parameter = torch.nn.Parameter(theta[row].clone())
        theirs = torch.optim.Adam([parameter], lr=0.05, betas=(0.8, 0.95), eps=1e-6)
        for gradient in gradients:
            parameter.grad = gradient[row].clone()
            theirs.step()
        tolerance = 1e-12 if dtype == torch.float64 else 1e-6
        torch.testing.assert_close(mine[row], parameter.detach(), rtol=tolerance, atol=tolerance)


def test_momentum_by_hand() -> None:
    """Trap 12: what accumulates is g / ||g||_1 of each image, not its sign."""
    theta = torch.zeros(1, 2, dtype=torch.float64)
    first, second = torch.tensor([[3.0, -1.0]]).double(), torch.tensor([[-1.0, -1.0]]).double()
    optimiser = Momentum("l2", 1.0, 0.5)
    _, state = optimiser.update(theta, LOSS, first, optimiser.init(theta))
    assert state["direction"].tolist() == [[0.75, -0.25]]
    moved, state = optimiser.update(theta, LOSS, second, state)
    assert state["direction"].tolist() == [[-0.125, -0.625]]
    torch.testing.assert_close(moved, -state["direction"] / state["direction"].norm())


def test_momentum_without_decay_is_steepest_descent() -> None:
    theta, gradients = problem()
    torch.testing.assert_close(
        walk(Momentum("linf", 0.1, 0.0), theta, gradients), walk(Steepest("linf", 0.1), theta, gradients)
    )


def test_sparse_l1_steps_share_the_size_and_skip_what_is_stuck() -> None:
    theta = torch.tensor([[0.0, 0.5, 0.5, 1.0, 0.5]], dtype=torch.float64)
    gradient = torch.tensor([[9.0, -5.0, 4.0, -8.0, 1.0]], dtype=torch.float64)  # first and fourth push outwards
    moved, _ = Steepest("l1", 0.2, 0.4).update(theta, LOSS, gradient, {})
    torch.testing.assert_close(moved - theta, torch.tensor([[0.0, 0.1, -0.1, 0.0, 0.0]], dtype=torch.float64))


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Steepest("l9", 0.1), "unknown norm 'l9': known: l0, l1, l2, linf"),
        (lambda: Momentum("l9", 0.1), "unknown norm 'l9': known: l0, l1, l2, linf"),
        (lambda: Momentum("l2", 0.1, -1.0), "Momentum.decay must be at least 0, got -1.0"),
        (
            lambda: Steepest("l2", 0.1, 0.5),
            "Steepest.share must be from 0 to 1, and 0 unless the norm is l1, got 0.5",
        ),
        (lambda: Steepest("l1", 0.1, 1.5), "Steepest.share must be from 0 to 1, and 0 unless the norm is l1, got 1.5"),
        (lambda: Adam(0.0), "Adam.rate must be above 0, got 0.0"),
        (lambda: Adam(0.1, epsilon=0.0), "Adam.epsilon must be above 0, got 0.0"),
    ],
)
def test_impossible_settings_are_refused(build, sentence: str) -> None:
    with pytest.raises(BlindspotsError) as caught:
        build()
    assert str(caught.value) == sentence
