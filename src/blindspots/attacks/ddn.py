"""DDN: gradient steps whose direction and norm are decoupled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..attack import Attack
from ..descend import march
from ..geometry import NORMS
from ..lazy import torch
from ..objectives import LOSSES, LossName, Objective, loss
from ..optimisers.optimiser import per_row
from ..polishing import polish
from ..projection import box
from ..record import Keep
from ..settings import above, at_least, one_of, read_radius
from ..spaces import Free, Space

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle
    from ..record import Answer


@dataclass(frozen=True)
class DDN(Attack):
    """Decoupled direction and norm: a gradient step gives the direction of delta, a rule of its own gives its norm:

        delta <- delta - alpha * g / ||g||_2,
        epsilon <- epsilon * (1 - gamma) where the point asked reaches the goal, epsilon * (1 + gamma) where not,
        delta <- epsilon * delta / ||delta||_2, clipped to the box,

    with alpha falling from `step_size` to a hundredth of it along a cosine.

    Cost: steps + 1 + polish forwards and steps backwards.
    Source: Rony et al. 2019, arXiv:1811.09600.
    Differs from the paper: epsilon is never more than the box allows; nothing is rounded to 8 bits; the smallest
    success is pulled towards the image at the end (`polish`).
    """

    name: ClassVar[str] = "ddn"
    summary: ClassVar[str] = "gradient steps with a norm of their own that follows success (Rony et al. 2019)"
    norms: ClassVar[tuple[str, ...]] = ("l2",)
    minimum: ClassVar[bool] = True

    radius: float | str
    """Largest perturbation that counts, in pixel units of [0, 1]."""
    steps: int = 100
    """Number of steps."""
    step_size: float = 1.0
    """l2 length of the first step, in pixel units of [0, 1]."""
    start: float = 1.0
    """First norm epsilon, in pixel units of [0, 1]."""
    gamma: float = 0.05
    """Share by which epsilon shrinks or grows at each step."""
    loss: LossName = "ce"
    """What is decreased or increased: cross entropy, margin or difference of logits ratio."""
    polish: int = 3
    """Forwards spent at the end on pulling the smallest success towards the image."""

    def __post_init__(self) -> None:
        read_radius(self, "l2")
        at_least(self, steps=1, polish=0)
        above(self, step_size=0, start=0, gamma=0)
        one_of(self, "loss", LOSSES)

    @property
    def rule(self) -> Keep:
        return "smallest"

    def space(self, images: Tensor) -> Space:
        return Free(images, "l2", float(self.radius))

    def objective(self) -> Objective:
        return loss(self.loss)

    def search(self, oracle: Oracle) -> None:
        l2 = NORMS["l2"]
        images = oracle.images
        state = {
            "epsilon": torch.full_like(oracle.record.loss, self.start),
            "widest": l2.size(torch.maximum(images, 1 - images)),
        }

        def move(
            number: int, theta: Tensor, answer: Answer, state: dict[str, Tensor]
        ) -> tuple[Tensor, dict[str, Tensor]]:
            assert answer.gradient is not None
            alpha = self.step_size * (0.01 + 0.99 * (1 + math.cos(math.pi * number / self.steps)) / 2)
            delta = theta - oracle.images + alpha * l2.steepest(answer.gradient)
            factor = torch.where(oracle.goal.reached(answer.logits), 1 - self.gamma, 1 + self.gamma)
            epsilon = torch.minimum(state["epsilon"] * factor, state["widest"])
            theta = box(oracle.images + per_row(epsilon / l2.size(delta).clamp(min=1e-30), delta) * delta)
            return theta, {**state, "epsilon": epsilon}

        march(oracle, oracle.space.zero(), state, self.steps, move)
        polish(oracle, self.polish)
