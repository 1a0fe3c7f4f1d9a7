"""FMN: fast minimum-norm attacks, gradient steps in a ball whose radius follows the boundary."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..attack import Attack
from ..descend import march
from ..geometry import NORMS, NormName
from ..lazy import torch
from ..objectives import Margin, Objective
from ..polishing import polish
from ..record import Keep
from ..settings import above, at_least, one_of, read_radius
from ..spaces import Free, Space

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle
    from ..record import Answer


@dataclass(frozen=True)
class FMN(Attack):
    """Fast minimum norm: gradient steps, projected onto a ball and the box, with an epsilon that follows the boundary:

        delta <- project(delta - alpha * g / ||g||_2, epsilon),      g the gradient of the margin f,
        epsilon <- min(epsilon * (1 - gamma), smallest so far)       where the point asked reaches the goal,
                   epsilon * (1 + gamma)                             where another point has reached it,
                   (||delta||_p + |f| / ||g||_q) * (1 + gamma)       before, with q dual to p;

    alpha falls from `step_size` to a hundredth of it and gamma to a fiftieth along a cosine. In l0 epsilon is a count:
    it starts at 1 and changes by the share gamma, by one at least.

    Cost: steps + 1 + polish forwards and steps backwards.
    Source: Pintor et al. 2021, arXiv:2102.12827.
    Differs from the paper: the projection is Euclidean onto ball and box together; before the first success epsilon is
    longer by gamma, without which it may lead up to the boundary and never across; the smallest success is pulled
    towards the image at the end (`polish`, which in l0 has nothing to gain and is left out).
    """

    name: ClassVar[str] = "fmn"
    summary: ClassVar[str] = "gradient steps in a ball that follows the boundary (Pintor et al. 2021)"
    norms: ClassVar[tuple[str, ...]] = ("l2", "linf", "l1", "l0")
    minimum: ClassVar[bool] = True

    radius: float | str
    """Largest perturbation that counts, in pixel units of [0, 1]; l0: a number of values."""
    norm: NormName = "l2"
    """Norm of the perturbation: l2, linf, l1 or l0."""
    steps: int = 100
    """Number of steps."""
    step_size: float = 1.0
    """l2 length of the first step, in pixel units of [0, 1]."""
    gamma: float = 0.05
    """Share by which epsilon shrinks or grows at the first step."""
    polish: int = 3
    """Forwards spent at the end on pulling the smallest success towards the image."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        at_least(self, steps=1, polish=0)
        above(self, step_size=0, gamma=0)

    @property
    def rule(self) -> Keep:
        return "smallest"

    def space(self, images: Tensor) -> Space:
        return Free(images, self.norm, float(self.radius))

    def objective(self) -> Objective:
        return Margin()

    def search(self, oracle: Oracle) -> None:
        norm, l2 = NORMS[self.norm], NORMS["l2"]
        # Of the first epsilon only the count of l0 is used; elsewhere the distance to first order takes its place.
        nothing = torch.full_like(oracle.record.loss, float("inf"))
        state = {"epsilon": torch.ones_like(nothing), "best": nothing}

        def move(
            number: int, theta: Tensor, answer: Answer, state: dict[str, Tensor]
        ) -> tuple[Tensor, dict[str, Tensor]]:
            assert answer.gradient is not None
            cosine = (1 + math.cos(math.pi * number / self.steps)) / 2
            alpha, gamma = self.step_size * (0.01 + 0.99 * cosine), self.gamma * (0.02 + 0.98 * cosine)
            epsilon, reached = state["epsilon"], oracle.goal.reached(answer.logits)
            size = norm.size(theta - oracle.images)
            best = torch.where(reached, torch.minimum(size, state["best"]), state["best"])
            smaller, larger = epsilon * (1 - gamma), epsilon * (1 + gamma)
            if self.norm == "l0":
                smaller = torch.minimum(epsilon - 1, smaller.floor()).clamp(min=1)
                larger = torch.maximum(epsilon + 1, larger.floor())
            else:
                slope = NORMS[norm.dual].size(answer.gradient).clamp(min=1e-12)
                # Beyond the distance to first order, which alone would lead up to the boundary and never across.
                beyond = (size + answer.loss.abs() / slope) * (1 + gamma)
                larger = torch.where(torch.isinf(best), beyond, larger)
            epsilon = torch.where(reached, torch.minimum(smaller, best), larger)
            # A ball that holds the whole box is large enough.
            epsilon = torch.minimum(epsilon, norm.size(torch.maximum(oracle.images, 1 - oracle.images)))
            stepped = theta + alpha * l2.steepest(answer.gradient)
            return norm.project(stepped, oracle.images, epsilon), {"epsilon": epsilon, "best": best}

        march(oracle, oracle.space.zero(), state, self.steps, move)
        polish(oracle, 0 if self.norm == "l0" else self.polish)
