"""PDPGD: primal-dual proximal gradient descent, size and success weighed by a multiplier that follows success."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..attack import Attack
from ..descend import march
from ..geometry import NORMS, BallName
from ..lazy import torch
from ..objectives import Margin, Objective
from ..optimisers.optimiser import per_row
from ..polishing import polish, tighten
from ..projection import box
from ..record import Keep
from ..settings import above, at_least, one_of, read_radius
from ..spaces import Free, Space

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle
    from ..record import Answer

# Moments of Adam, the average of the multiplier, the smallest share of either term, and halvings of the inner problem.
BETA1, BETA2, AVERAGE, LEAST, HALVINGS = 0.9, 0.999, 0.9, 1e-6, 30


@dataclass(frozen=True)
class PDPGD(Attack):
    """Primal-dual proximal gradient descent on l_0 ||delta||_p + l_1 log(1 + exp(f)), f the margin, l_0 + l_1 = 1:

        delta <- argmin_d  (l_0 / l_1) ||d||_p + ||d - (delta - D^-1 m)||_D^2 / 2,    in the box,

    with m and D the first moment and the scale of Adam for the gradient of the loss; log(l_1 / l_0) rises by a step
    where the point asked misses the goal and falls where it reaches it, and l is averaged over steps. Of all points
    asked the smallest success is kept.

    Cost: steps + 2 polish + 2 forwards and steps + polish backwards.
    Source: Matyasko and Chau 2021, arXiv:2106.01538.
    Differs from the paper: in l2 and linf the inner problem is solved exactly; in l1 by a few proximal steps as there
    (`inner`), since its exact solution wipes out all values of a small scale. The smallest success is brought to the
    nearest point of the boundary at the end (`polish`), from which the steps of Adam keep some way off.
    """

    name: ClassVar[str] = "pdpgd"
    summary: ClassVar[str] = "primal-dual proximal gradient descent (Matyasko and Chau 2021)"
    norms: ClassVar[tuple[str, ...]] = ("l2", "linf", "l1")
    minimum: ClassVar[bool] = True

    radius: float | str
    """Largest perturbation that counts, in pixel units of [0, 1]."""
    norm: BallName = "l2"
    """Norm of the perturbation: l2, linf or l1."""
    steps: int = 500
    """Number of steps."""
    rate: float = 0.1
    """First step of Adam, in pixel units of [0, 1]; it falls to a hundredth exponentially."""
    dual_rate: float = 0.1
    """First step of the logarithm of the multiplier; it falls to a tenth linearly."""
    ratio: float = 0.01
    """First l_0 / l_1."""
    inner: int = 5
    """In l1, proximal steps of the inner problem; 0 solves it exactly."""
    polish: int = 3
    """Steps made at the end to the nearest point of the boundary, then forwards on the line to the image."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        at_least(self, steps=1, inner=0, polish=0)
        above(self, rate=0, dual_rate=0, ratio=0)

    @property
    def rule(self) -> Keep:
        return "smallest"

    def space(self, images: Tensor) -> Space:
        return Free(images, self.norm, float(self.radius))

    def objective(self) -> Objective:
        return Margin()

    def search(self, oracle: Oracle) -> None:
        clean, like = oracle.space.zero(), oracle.record.loss
        multiplier = torch.full_like(like, -math.log(self.ratio))
        state = {
            "mean": torch.zeros_like(clean),
            "square": torch.zeros_like(clean),
            "multiplier": multiplier,
            "share": multiplier.sigmoid(),
        }

        def move(
            number: int, theta: Tensor, answer: Answer, state: dict[str, Tensor]
        ) -> tuple[Tensor, dict[str, Tensor]]:
            assert answer.gradient is not None
            delta, margin = theta - oracle.images, answer.loss
            gradient = answer.gradient * per_row(margin.sigmoid(), theta)
            mean = torch.lerp(gradient, state["mean"], BETA1)
            square = torch.lerp(gradient.square(), state["square"], BETA2)
            step = self.rate * 0.01 ** (number / self.steps)
            metric = (square / (1 - BETA2 ** (number + 1))).sqrt() + 1e-8
            moved = delta - step * mean / (1 - BETA1 ** (number + 1)) / metric
            pull = step * (1 - state["share"]) / state["share"]
            delta = self._shrink(moved, pull, metric)
            dual = self.dual_rate * (1 - 0.9 * number / self.steps)
            multiplier = (state["multiplier"] + dual * margin.sign()).clamp(math.log(LEAST), -math.log(LEAST))
            share = torch.lerp(multiplier.sigmoid(), state["share"], AVERAGE)
            new = {"mean": mean, "square": square, "multiplier": multiplier, "share": share}
            return box(oracle.images + delta), new

        march(oracle, clean, state, self.steps, move)
        tighten(oracle, self.norm, self.polish)
        polish(oracle, self.polish)

    def _shrink(self, moved: Tensor, pull: Tensor, metric: Tensor) -> Tensor:
        """argmin_d pull ||d||_p + sum_i metric_i (d_i - moved_i)^2 / 2: in closed form but for one number an image.

        In l1 each value is shrunk by pull / metric_i; or by `inner` proximal steps of length 1 / max_i metric_i from
        moved, each of which shrinks all values by as much. In l2 that number is s = ||d||_2, with d_i =
        s metric_i moved_i / (s metric_i + pull); in linf the largest |d_i|, above which metric_i (|moved_i| - s) add up
        to the pull.
        """
        off, size = per_row(pull, moved), moved.abs()
        if self.norm == "l1" and not self.inner:
            return _soft(moved, off / metric)
        if self.norm == "l1":
            top, d = per_row(metric.flatten(1).amax(1), moved), moved
            for _ in range(self.inner):
                d = _soft(d - metric / top * (d - moved), off / top)
            return d
        low, high = torch.zeros_like(pull), NORMS[self.norm].size(moved)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            s = per_row(middle, moved)
            if self.norm == "l2":
                more = NORMS["l2"].size(metric * moved / (s * metric + off)) > 1
            else:
                more = (metric * (size - s).clamp(min=0)).flatten(1).sum(1) > pull
            low, high = torch.where(more, middle, low), torch.where(more, high, middle)
        s = per_row(high, moved)
        if self.norm == "l2":
            return s * metric * moved / (s * metric + off)
        return moved.sign() * torch.minimum(size, s)


def _soft(values: Tensor, off: Tensor) -> Tensor:
    """Each value brought nearer to 0 by `off`, at most to 0."""
    return values.sign() * (values.abs() - off).clamp(min=0)
