"""Descent without gradients: they are estimated from scores at pairs of opposite points, for each image on its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from .optimisers import Optimiser
    from .oracle import Oracle


def estimated(oracle: Oracle, theta: Tensor, draws: Tensor, width: float) -> tuple[Tensor, Tensor]:
    """The objective (R,) at theta (R, ...) and its gradient from central differences along draws (R, m, ...).

    g = sum_j (L(x + width u_j) - L(x - width u_j)) u_j / (2 width m), from 1 + 2 m scores. The points are clipped to
    the box, since a model takes images only; differences that are not finite are left out.
    """
    point, step = theta.unsqueeze(1), width * draws
    loss = oracle.scores(torch.cat((point, (point + step).clamp(0, 1), (point - step).clamp(0, 1)), 1))
    count = draws.shape[1]
    rise = loss[:, 1 : 1 + count] - loss[:, 1 + count :]
    rise = torch.where(torch.isfinite(rise), rise, 0).view(*rise.shape, *[1] * (theta.ndim - 1))
    return loss[:, 0], (rise * draws).sum(1) / (2 * width * count)


def descend_estimated(
    oracle: Oracle, optimiser: Optimiser, draw: Callable[[Tensor], Tensor], width: float, steps: int
) -> None:
    """The loop of `descend` with estimated gradients, from the clean images, which have been judged.

    Args:
        oracle: answers with scores; what it kept is the result.
        optimiser: how to move.
        draw: the directions (R, m, ...) from noise keys (R,).
        width: distance of the points from theta, in units of the draws.
        steps: number of moves; the point after the last one is judged if the budget allows.
    """
    if oracle.compact() is not None and not len(oracle.rows):
        return
    theta = oracle.space.zero()
    state = optimiser.init(theta, None, oracle.space.bounds())
    for step in range(steps):
        loss, gradient = estimated(oracle, theta, draw(oracle.keys(draw=step)), width)
        oracle.step()
        theta, state = optimiser.update(theta, loss, gradient, state)
        going = oracle.compact()
        if going is not None:
            if not len(going):
                return
            theta, state = theta[going], {name: tensor[going] for name, tensor in state.items()}
        theta = oracle.space.project(theta)
    oracle.scores(theta.unsqueeze(1))
