"""Momentum on normalised gradients: m <- decay * m + g / ||g||_1, theta <- theta + step * steepest(m)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..geometry import norm
from ..lazy import torch
from ..settings import at_least
from .optimiser import Bounds, Optimiser, State, moved, start_state

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Momentum(Optimiser):
    """The update of Dong et al. 2018 (arXiv:1710.06081): the gradient enters over its own l1 norm, image by image.

    Args:
        norm: the norm of the step.
        step: its size in that norm, in units of [0, 1].
        decay: how much of the accumulated direction is kept (mu; 1 in the paper, 0 is steepest descent).
    """

    norm: str
    step: float
    decay: float = 1.0

    def __post_init__(self) -> None:
        norm(self.norm)
        at_least(self, decay=0)

    def init(self, theta: Tensor, scale: Tensor | None = None, bounds: Bounds | None = None) -> State:
        return start_state(scale, direction=torch.zeros_like(theta))

    def update(self, theta: Tensor, loss: Tensor, gradient: Tensor, state: State) -> tuple[Tensor, State]:
        flat = gradient.flatten(1)
        unit = (flat / flat.abs().sum(1, keepdim=True).clamp(min=1e-30)).view_as(gradient)
        direction = self.decay * state["direction"] + unit
        return moved(theta, norm(self.norm).steepest(direction), self.step, state), {**state, "direction": direction}
