"""The two loops that attacks share: `descend` (ask, move, project) and `bracket` (bisect a radius per image)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from .optimisers import Optimiser
    from .oracle import Oracle
    from .record import Answer


def descend(
    oracle: Oracle,
    theta: Tensor,
    optimiser: Optimiser,
    steps: int,
    scale: Tensor | None = None,
    watch: Callable[[Tensor, Answer], None] | None = None,
) -> None:
    """Ask the oracle, let the optimiser move, project; k steps judge k + 1 points, the last one included.

    Args:
        oracle: answers for its live rows; what it kept is the result.
        theta: the first point (R, ...) of the live rows.
        optimiser: how to move.
        steps: number of moves.
        scale: factor (R,) of each image's step.
        watch: is shown every theta that was asked and its answer; their rows are the oracle's live ones.
    """
    state = optimiser.init(theta, scale, oracle.space.bounds())
    for _ in range(steps):
        answer = oracle.query(theta)
        assert answer.gradient is not None
        if watch is not None:
            watch(theta, answer)
        oracle.step()
        theta, state = optimiser.update(theta, answer.loss, answer.gradient, state)
        if "done" in state:
            oracle.rest(state["done"])
        going = oracle.compact()
        if going is not None:
            if not len(going):
                return
            theta, state = theta[going], {name: tensor[going] for name, tensor in state.items()}
        theta = oracle.space.project(theta)
    answer = oracle.query(theta, gradient=False)
    if watch is not None:
        watch(theta, answer)


def bracket(attempt: Callable[[Tensor], Tensor], lower: Tensor, upper: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    """Per-image bisection of the smallest value at which an attempt succeeds.

    Args:
        attempt: tries the values (N,) and says which succeeded, (N,) bool. Where the first attempt, at `upper`, has
            failed, later values are NaN and are to be left alone.
        lower, upper: where to look, (N,).
        rounds: halvings after the first attempt; the width is divided by 2^rounds.

    Returns:
        (lower, upper): the largest value that failed and the smallest that succeeded; both NaN where none did.
    """
    reached = attempt(upper)
    lower, upper = (torch.where(reached, bound, float("nan")) for bound in (lower, upper))
    for _ in range(rounds):
        middle = (lower + upper) / 2
        success = attempt(middle)
        lower, upper = torch.where(success, lower, middle), torch.where(success, middle, upper)
    return lower, upper
