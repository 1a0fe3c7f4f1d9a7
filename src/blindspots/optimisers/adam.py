"""Adam (Kingma and Ba 2015, arXiv:1412.6980), each image with its own moments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..lazy import torch
from ..settings import above
from .optimiser import Bounds, Optimiser, State, moved, per_row, start_state

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Adam(Optimiser):
    """theta <- theta - rate * m_hat / (sqrt(v_hat) + epsilon), elementwise; the step count is kept per image.

    Differs from the paper: nothing.
    """

    rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        above(self, rate=0, epsilon=0)

    def init(self, theta: Tensor, scale: Tensor | None = None, bounds: Bounds | None = None) -> State:
        count = torch.zeros(len(theta), dtype=torch.float64, device=theta.device)
        return start_state(scale, mean=torch.zeros_like(theta), square=torch.zeros_like(theta), count=count)

    def update(self, theta: Tensor, loss: Tensor, gradient: Tensor, state: State) -> tuple[Tensor, State]:
        mean = torch.lerp(gradient, state["mean"], self.beta1)
        square = torch.lerp(gradient.square(), state["square"], self.beta2)
        count = state["count"] + 1
        mean_hat = mean / per_row(1 - self.beta1**count, theta)
        square_hat = square / per_row(1 - self.beta2**count, theta)
        step = mean_hat / (square_hat.sqrt() + self.epsilon)
        return moved(theta, step, -self.rate, state), {**state, "mean": mean, "square": square, "count": count}
