"""The loops that attacks share.

`descend`: ask, move, project. `march`: the same for searches with a rule of their own. `bracket`: bisect a radius per
image. `toward_rivals`: one class after another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .lazy import torch
from .objectives import Toward

if TYPE_CHECKING:
    from torch import Tensor

    from .optimisers import Optimiser, State
    from .oracle import Oracle
    from .record import Answer

# Asks the oracle at theta (R, ...), given the optimiser's state and the number of the step.
Asker = Callable[["Tensor", "State", int], "Answer"]


def descend(
    oracle: Oracle,
    theta: Tensor,
    optimiser: Optimiser,
    steps: int,
    scale: Tensor | None = None,
    watch: Callable[[Tensor, Answer], None] | None = None,
    ask: Asker | None = None,
) -> None:
    """Ask the oracle, let the optimiser move, project; k steps judge k + 1 points, the last one included.

    Args:
        oracle: answers for its live rows; what it kept is the result.
        theta: the first point (R, ...) of the live rows.
        optimiser: how to move.
        steps: number of moves.
        scale: factor (R,) of each image's step.
        watch: is shown every theta that was asked and its answer; their rows are the oracle's live ones.
        ask: asks the oracle instead of a plain query. It must judge theta, and may keep tensors of its own in the
            state, with one row an image.
    """
    state = optimiser.init(theta, scale, oracle.space.bounds())
    for step in range(steps):
        answer = oracle.query(theta) if ask is None else ask(theta, state, step)
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


def march(
    oracle: Oracle,
    theta: Tensor,
    state: dict[str, Tensor],
    steps: int,
    move: Callable[[int, Tensor, Answer, dict[str, Tensor]], tuple[Tensor, dict[str, Tensor]]],
) -> None:
    """Ask the oracle and move by a rule that knows the number of the step; k steps judge k + 1 points.

    Args:
        oracle: answers for its live rows; what it kept is the result.
        theta: the first point (R, ...) of the live rows.
        state: what the rule remembers, R rows each.
        steps: number of moves.
        move: from (number of the step, theta, answer, state) to the next theta, inside the set, and state.
    """
    for number in range(steps):
        answer = oracle.query(theta)
        oracle.step()
        theta, state = move(number, theta, answer, state)
        going = oracle.compact()
        if going is not None:
            if not len(going):
                return
            theta, state = theta[going], {name: tensor[going] for name, tensor in state.items()}
    oracle.query(theta, gradient=False)


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


def toward_rivals(oracle: Oracle, count: int, run: Callable[[int], None]) -> None:
    """A run towards each of the likeliest other classes of an image in turn, the likeliest on the clean image first.

    The goal stays what it is, so that images which reach it on the way to any class leave.

    Args:
        oracle: its unchanged images are judged, and its objective is the one to follow.
        count: the number of classes, of K - 1 at most; a targeted goal has one.
        run: the search, told its place among them; it calls `revive`.
    """
    objective, rivals = oracle.objective, oracle.rivals()
    for place in range(min(count, rivals.shape[1])):
        oracle.pursue(Toward(objective, rivals[:, place]))
        run(place)
