"""Sigma-zero: the fewest changed values, by descent on a smooth count and a threshold that follows success."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..attack import Attack
from ..descend import march
from ..geometry import NORMS
from ..lazy import torch
from ..objectives import Margin, Objective
from ..optimisers import Adam
from ..optimisers.optimiser import per_row
from ..polishing import thin
from ..projection import box
from ..record import Keep
from ..settings import above, at_least, read_radius
from ..spaces import Free, Space

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle
    from ..record import Answer


@dataclass(frozen=True)
class SigmaZero(Attack):
    """Minimise max(margin, 0) + (1 / n) sum_i delta_i^2 / (delta_i^2 + sigma), whose second term counts the changed
    values smoothly, by Adam on gradients over their largest value, in the box. After each step changes below tau are
    set to 0; tau rises by `adapt` * step where the point asked reaches the goal and falls by as much where not. The
    step falls from `rate` to a tenth along a cosine. Of all points asked the success with the fewest changes is kept.

    Cost: at most steps + 1 + thin forwards and steps backwards.
    Source: Cina et al. 2025, arXiv:2402.01879. Differs from the paper: targets too; the changes of the best success are
    taken back one by one at the end, where it does without (`thin`).
    """

    name: ClassVar[str] = "sigma-zero"
    summary: ClassVar[str] = "the fewest changed values by descent on a smooth count (Cina et al. 2025)"
    norms: ClassVar[tuple[str, ...]] = ("l0",)
    minimum: ClassVar[bool] = True

    radius: float | str
    """Largest number of changed values that counts."""
    steps: int = 300
    """Number of steps."""
    rate: float = 1.0
    """First step of Adam, in pixel units of [0, 1]."""
    sigma: float = 1e-3
    """How smooth the count is: a change of sqrt(sigma) counts one half."""
    tau: float = 0.3
    """First threshold below which changes are set to 0, in pixel units of [0, 1]."""
    adapt: float = 0.01
    """Change of the threshold, as a share of the step."""
    thin: int = 10
    """Forwards spent at the end on taking back single changes, smallest first."""

    def __post_init__(self) -> None:
        read_radius(self, "l0")
        at_least(self, steps=1, tau=0, adapt=0, thin=0)
        above(self, rate=0, sigma=0)

    @property
    def rule(self) -> Keep:
        return "smallest"

    def space(self, images: Tensor) -> Space:
        return Free(images, "l0", float(self.radius))

    def objective(self) -> Objective:
        return Margin()

    def search(self, oracle: Oracle) -> None:
        adam, clean = Adam(self.rate), oracle.space.zero()

        def move(
            number: int, theta: Tensor, answer: Answer, state: dict[str, Tensor]
        ) -> tuple[Tensor, dict[str, Tensor]]:
            assert answer.gradient is not None
            delta, tau = theta - oracle.images, state.pop("tau")
            count = 2 * self.sigma * delta / (delta.square() + self.sigma).square() / delta[0].numel()
            gradient = answer.gradient * per_row(answer.loss > 0, theta) + count
            gradient = gradient / per_row(NORMS["linf"].size(gradient).clamp(min=1e-12), theta)
            fall = 0.1 + 0.9 * (1 + math.cos(math.pi * number / self.steps)) / 2
            theta, state = adam.update(theta, answer.loss, gradient, {**state, "scale": torch.full_like(tau, fall)})
            change = self.adapt * self.rate * fall
            reached = oracle.goal.reached(answer.logits)
            tau = torch.where(reached, tau + change, tau - change).clamp(0, 1)
            theta = box(theta)
            kept = (theta - oracle.images).abs() >= per_row(tau, theta)
            return torch.where(kept, theta, oracle.images), {**state, "tau": tau}

        state = {**adam.init(clean), "tau": torch.full_like(oracle.record.loss, self.tau)}
        march(oracle, clean, state, self.steps, move)
        thin(oracle, self.thin)
