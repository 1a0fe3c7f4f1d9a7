"""The steps of Auto-PGD: momentum, and a step that each image halves by itself when it gets no further."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from ..geometry import norm
from ..lazy import torch
from ..settings import at_least
from .optimiser import Bounds, Optimiser, State, moved, per_row

if TYPE_CHECKING:
    from torch import Tensor

# Share of the steps of an interval that must lower the loss, and the weight of the new step against the old move.
RHO, ALPHA = 0.75, 0.75


@cache
def checkpoints(steps: int) -> tuple[int, ...]:
    """The moves w_0 = 0 < w_1 < ... <= steps after which steps are judged: w_j = ceil(p_j * steps) with p_0 = 0,
    p_1 = 0.22 and p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06).

    >>> checkpoints(100)
    (0, 22, 41, 57, 70, 80, 87, 93, 99)
    """
    before, percent, found = 0, 22, [0]
    while percent <= 100:
        found.append(-(-percent * steps // 100))
        before, percent = percent, percent + max(percent - before - 3, 6)
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class AdaptiveSteps(Optimiser):
    """One move of Croce and Hein 2020 (arXiv:2003.01690, algorithm 1), for image after image:

        z = project(x + step * steepest(g)),    x <- project(x + 0.75 (z - x) + 0.25 (x - x_before)),

    the first one without the momentum. At a checkpoint w_j the step is halved, and x goes back to the lowest point so
    far, where (1) fewer than 0.75 (w_j - w_{j-1}) of the moves since the last checkpoint have lowered the loss, or (2)
    the step was not halved at the last checkpoint and the lowest loss is what it was then.

    `update` gives the point ahead, before its projection; `blend` takes the projected z and gives the point that is
    projected in turn.

    Args:
        norm: the norm of the step, linf or l2.
        step: the size of the first step in that norm, in units of [0, 1].
        steps: the number of moves, of which the checkpoints are shares.
    """

    norm: str
    step: float
    steps: int

    def __post_init__(self) -> None:
        norm(self.norm)
        at_least(self, step=0, steps=1)

    def init(self, theta: Tensor, scale: Tensor | None = None, bounds: Bounds | None = None) -> State:
        count, device = len(theta), theta.device
        step = torch.full((count,), self.step, dtype=torch.float64, device=device)
        infinite = torch.full((count,), float("inf"), dtype=theta.dtype, device=device)
        checks = torch.zeros(self.steps + 1, dtype=torch.bool, device=device)
        checks[list(checkpoints(self.steps))] = True
        return {
            "step": step if scale is None else step * scale,
            "count": torch.zeros(count, dtype=torch.int64, device=device),
            "checks": checks.expand(count, -1),
            "checked": torch.zeros(count, dtype=torch.int64, device=device),
            "fell": torch.zeros(count, dtype=torch.int64, device=device),
            "halved": torch.zeros(count, dtype=torch.bool, device=device),
            "loss": -infinite,
            "lowest": infinite,
            "lowest_checked": infinite,
            "best": theta,
            "best_gradient": torch.zeros_like(theta),
            "asked": theta,
            "at": theta,
            "push": torch.zeros_like(theta),
        }

    def update(self, theta: Tensor, loss: Tensor, gradient: Tensor, state: State) -> tuple[Tensor, State]:
        count, lower = state["count"], loss < state["lowest"]
        better = per_row(lower, theta)
        best = torch.where(better, theta, state["best"])
        best_gradient = torch.where(better, gradient, state["best_gradient"])
        lowest = torch.where(lower, loss, state["lowest"])
        fell = state["fell"] + (loss < state["loss"])

        check = state["checks"].gather(1, count.clamp(max=self.steps).unsqueeze(1)).squeeze(1)
        wanders = fell < RHO * (count - state["checked"])
        stuck = ~state["halved"] & (state["lowest_checked"] == lowest)
        halve = check & (wanders | stuck)
        back = per_row(halve, theta)
        at = torch.where(back, best, theta)
        step = torch.where(halve, state["step"] / 2, state["step"])
        direction = norm(self.norm).steepest(torch.where(back, best_gradient, gradient))
        return moved(at, direction, 1.0, {"scale": step}), {
            **state,
            "step": step,
            "count": count + 1,
            "checked": torch.where(check, count, state["checked"]),
            "fell": torch.where(check, 0, fell),
            "halved": torch.where(check, halve, state["halved"]),
            "loss": loss,
            "lowest": lowest,
            "lowest_checked": torch.where(check, lowest, state["lowest_checked"]),
            "best": best,
            "best_gradient": best_gradient,
            "asked": theta,
            "at": at,
            "push": at - state["asked"],
        }

    def blend(self, ahead: Tensor, state: State) -> Tensor:
        """The point of the momentum, from the projected point ahead; to be projected again."""
        alpha = per_row(torch.where(state["count"] == 1, 1.0, ALPHA), ahead)
        return torch.lerp(state["at"], ahead, alpha).add_(state["push"], alpha=1 - ALPHA)
