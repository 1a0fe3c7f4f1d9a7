"""Steepest descent in a norm: theta <- theta + step * d, d of unit size along which the objective falls fastest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import BlindspotsError
from ..geometry import norm
from ..lazy import torch
from .optimiser import Bounds, Optimiser, State, moved, start_state

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Steepest(Optimiser):
    """linf: the sign of the gradient; l2: the gradient over its l2 norm; l1: the largest values, by sign.

    Args:
        norm: `linf`, `l2`, `l1` or `l0`.
        step: the size of each step in that norm, in units of [0, 1].
        share: l1 only: the share of all values that move at once, in equal parts; 0 moves the single steepest one
            (the sparse steps of Tramer and Boneh 2019, arXiv:1904.13000, who use 0.01 to 0.05).

    A zero gradient leaves its image where it is.
    """

    norm: str
    step: float
    share: float = 0.0

    def __post_init__(self) -> None:
        norm(self.norm)
        if not 0 <= self.share <= 1 or (self.share and self.norm != "l1"):
            raise BlindspotsError(f"Steepest.share must be from 0 to 1, and 0 unless the norm is l1, got {self.share}")

    def init(self, theta: Tensor, scale: Tensor | None = None, bounds: Bounds | None = None) -> State:
        return start_state(scale)

    def update(self, theta: Tensor, loss: Tensor, gradient: Tensor, state: State) -> tuple[Tensor, State]:
        direction = self._spread(theta, gradient) if self.share else norm(self.norm).steepest(gradient)
        return moved(theta, direction, self.step, state), state

    def _spread(self, theta: Tensor, gradient: Tensor) -> Tensor:
        flat, at = gradient.flatten(1), theta.flatten(1)
        # A value at its bound that is pushed outwards cannot move; it must not use up a place.
        stuck = ((at <= 0) & (flat > 0)) | ((at >= 1) & (flat < 0))
        size = torch.where(stuck, 0, flat.abs())
        count = max(1, math.ceil(self.share * flat.shape[1]))
        best = size.topk(count, dim=1)
        steps = -flat.gather(1, best.indices).sign() * (best.values > 0)
        moved = (steps != 0).sum(1, keepdim=True).clamp(min=1)
        return torch.zeros_like(flat).scatter_(1, best.indices, steps / moved).view_as(gradient)
