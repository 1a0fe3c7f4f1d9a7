"""Szegedy's attack: the smallest perturbation that reaches the goal, by box-constrained L-BFGS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from .. import noise
from ..attack import Attack
from ..descend import descend
from ..lazy import torch
from ..objectives import Margin, Objective, Point
from ..optimisers import LBFGS
from ..polishing import polish, tighten
from ..record import Rule
from ..settings import at_least, one_of, read_radius
from ..spaces import Additive, Space

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle
    from ..record import Answer

SizeNorm = Literal["l2", "l1"]
ReachName = Literal["ce", "margin"]
Start = Literal["zero", "noise"]
# The weight of the loss is tried first at FIRST, and then from LEAST to MOST by factors of ten.
FIRST, LEAST, MOST = 1e-2, 1e-8, 1e10
# A run ends where it lowers the objective by less than this share: the next weight moves the minimum by more.
SOLVER = LBFGS(first_step=0.1, tolerance_change=1e-6)


@dataclass(frozen=True)
class Szegedy(Attack):
    """The smallest r with x + r in [0, 1] that reaches the goal: for a weight c, minimise over the box

        |r| + c * loss(x + r),

    with |r| the squared l2 norm, the l2 norm or the l1 norm, and loss = H(t), the cross entropy of the target, or
    -log(1 - p_y) without one. Each image looks for its smallest c whose minimum reaches the goal: a bracket by factors
    of ten from 1e-2, up to 1e10, then bisections of log c. Of all points queried the smallest that reaches the goal is
    kept.

    Cost: `runs` * (steps + 1) + polish forwards at most (polish + 1 more in l1), for 13 + rounds runs at most and about
    4 + rounds as a rule; a run ends for an image where L-BFGS gets no further.
    Source: Szegedy et al. 2014, "Intriguing properties of neural networks", arXiv:1312.6199, section 4.1. The paper has
    its c on |r|, 1 / c here.
    Differs from the paper: bisections start at a minimum before (`warm`); every point queried counts, not the minima
    alone, and the smallest is pulled towards the image at last (`polish`; in l1 it first goes along the boundary to the
    nearest point of it); untargeted attacks and a largest radius. The l1 norm is split into increase and decrease, both
    from 0 up, in which it is linear.
    """

    name: ClassVar[str] = "szegedy"
    summary: ClassVar[str] = "smallest perturbation by box-constrained L-BFGS (Szegedy et al. 2014)"
    norms: ClassVar[tuple[str, ...]] = ("l2", "l1")
    minimum: ClassVar[bool] = True

    radius: float | str
    """Largest perturbation that counts, in pixel units of [0, 1]."""
    norm: SizeNorm = "l2"
    """Norm of the perturbation: l2 or l1."""
    squared: bool = True
    """In l2, weigh the squared norm against the loss, which is smooth at 0; false: the norm itself. No matter in l1."""
    loss: ReachName = "ce"
    """What pulls towards the goal: ce, or margin (cut off at 0)."""
    start: Start | None = None
    """First point: zero (the image) or noise (of width `spread` on it). By default zero in l2 and noise in l1, which at
    zero lets only the few values with the largest gradients move, and finds much larger perturbations."""
    spread: float = 0.01
    """Half the width of the noise in each value, in pixel units of [0, 1]."""
    steps: int = 100
    """Queries of each run, one for each weight."""
    rounds: int = 8
    """Bisections of the logarithm of the weight, after its bracket is found."""
    warm: bool = True
    """Start bisections at the minimum of the least weight that reached the goal, which is near; false: all runs from
    `start`."""
    polish: int = 3
    """Forwards spent at the end on pulling the smallest success towards the image, along the line between them; in l1,
    where all but the loss is linear and L-BFGS stays at kinks, as many steps along the boundary come before."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        one_of(self, "loss", get_args(ReachName))
        if self.start is not None:
            one_of(self, "start", get_args(Start))
        at_least(self, spread=0, steps=1, rounds=0, polish=0)

    @property
    def rule(self) -> Rule:
        return "smallest"

    def space(self, images: Tensor) -> Space:
        kind = Split if self.norm == "l1" else Additive
        return kind(images, self.norm, float(self.radius))

    def objective(self) -> Objective:
        return Trade(self._size(), self._loss(), None)

    def search(self, oracle: Oracle) -> None:
        oracle.judge_clean()
        count, device = len(oracle.record.success), oracle.rows.device
        weight = torch.full((count,), FIRST, dtype=torch.float64, device=device)
        low, high = torch.full_like(weight, float("nan")), torch.full_like(weight, float("nan"))
        left = torch.full((count,), self.rounds, device=device)
        bracketed = torch.zeros((count,), dtype=torch.bool, device=device)
        over = torch.zeros_like(bracketed)
        run, lowest, beyond = 0, oracle.space.zero(), oracle.space.zero()
        while oracle.revive(among=~over):
            theta = self._start(oracle, run)
            if self.warm:
                near = bracketed[oracle.rows].view(-1, *[1] * (theta.ndim - 1))
                theta = torch.where(near, beyond[oracle.rows], theta)
            reached = self._run(oracle, theta, weight, lowest)
            # From a minimum that does not reach the goal, such as one all but at r = 0, the kink of |r| bars the way.
            beyond = torch.where(reached.view(-1, *[1] * (theta.ndim - 1)), lowest, beyond)
            low, high = torch.where(reached, low, weight), torch.where(reached, weight, high)
            left = left - bracketed.long()
            bracketed = ~torch.isnan(low) & ~torch.isnan(high)
            further = torch.where(torch.isnan(high), low * 10, high / 10)
            weight = torch.where(bracketed, (low * high).sqrt(), further)
            over |= (bracketed & (left <= 0)) | (weight > MOST * 1.001) | (weight < LEAST / 1.001)
            run += 1
        if self.norm == "l1":
            oracle.pursue(Margin())
            tighten(oracle, self.norm, self.polish)
        polish(oracle, self.polish)

    def _start(self, oracle: Oracle, run: int) -> Tensor:
        theta = oracle.space.zero()
        if (self.start or ("noise" if self.norm == "l1" else "zero")) == "noise":
            draw = 2 * noise.uniform(oracle.keys(run), tuple(theta.shape[1:]), theta.dtype) - 1
            theta = oracle.space.project(theta + self.spread * draw)
        return theta

    def _run(self, oracle: Oracle, theta: Tensor, weight: Tensor, lowest: Tensor) -> Tensor:
        """Minimise at these weights (N,), and write the lowest point of each image into `lowest` (N, ...).

        Returns:
            Which images reach the goal there, (N,) bool.
        """
        least = torch.full_like(oracle.record.loss, float("inf"))
        reached = torch.zeros_like(oracle.record.success)

        def watch(asked: Tensor, answer: Answer) -> None:
            rows = oracle.rows
            lower = oracle.active & (answer.loss < least[rows])
            least[rows] = torch.where(lower, answer.loss, least[rows])
            reached[rows] = torch.where(lower, oracle.goal.reached(answer.logits), reached[rows])
            here = lower.nonzero().squeeze(1)
            lowest[rows[here]] = asked[here]

        oracle.pursue(Trade(self._size(), self._loss(), weight.to(least.dtype)))
        descend(oracle, theta, SOLVER, self.steps, watch=watch)
        return reached

    def _size(self) -> Size:
        return Size(self.norm, self.squared)

    def _loss(self) -> Objective:
        return Reach() if self.loss == "ce" else Margin(0.0)


@dataclass(frozen=True)
class Reach(Objective):
    """The cross entropy of reaching the goal: -log p_t, or -log(1 - p_y) without a target. Convex in the logits."""

    def __call__(self, point: Point) -> Tensor:
        reference = point.goal.reference.unsqueeze(1)
        own = point.logits.gather(1, reference).squeeze(1)
        others = point.logits.scatter(1, reference, float("-inf")).logsumexp(1)
        return torch.nn.functional.softplus(point.goal.toward(others - own))


@dataclass(frozen=True)
class Size(Objective):
    """|r| in a norm, l2 squared if asked for. At r = 0 the gradient of the l2 norm is set to 0, where it has none."""

    norm: SizeNorm
    squared: bool

    def __call__(self, point: Point) -> Tensor:
        if self.norm == "l1":
            return point.theta.flatten(1).sum(1)
        square = (point.theta - point.clean).flatten(1).square().sum(1)
        if self.squared:
            return square
        still = square == 0
        return torch.where(still, 0, torch.where(still, 1, square).sqrt())


@dataclass(frozen=True)
class Trade(Objective):
    """size + c_i * loss, with one weight c (N,) for each image of the population; None is FIRST for all."""

    size: Objective
    loss: Objective
    weight: Tensor | None

    def __call__(self, point: Point) -> Tensor:
        weight = FIRST if self.weight is None else self.weight[point.rows]
        return self.size(point) + weight * self.loss(point)


class Split(Additive):
    """An additive ball in which theta (R, 2, C, H, W) holds increase and decrease: x' = x + theta_0 - theta_1.

    Both are at least 0, and at most what the box leaves, so that |r|_1 is their sum at any minimum.
    """

    def zero(self) -> Tensor:
        return torch.zeros_like(self.images).unsqueeze(1).repeat(1, 2, 1, 1, 1)

    def apply(self, theta: Tensor, rows: slice) -> Tensor:
        return self._image(theta, self.images[rows])

    def project(self, theta: Tensor) -> Tensor:
        low, high = self.bounds()
        theta = torch.clamp(theta, low, high)
        image = self._image(theta, self.images)
        outside = self.norm.size(image - self.images) > self._radius()
        if not bool(outside.any()):
            return theta
        change = self.norm.project(image, self.images, self._radius()) - self.images
        return torch.where(outside.view(-1, 1, 1, 1, 1), self.place(change), theta)

    def bounds(self) -> tuple[Tensor, Tensor]:
        room = torch.stack((1 - self.images, self.images), 1)
        return torch.zeros_like(room), room

    def size(self, theta: Tensor) -> Tensor:
        return super().size(self._image(theta, self.images))

    def change(self, theta: Tensor) -> Tensor:
        return theta[:, 0] - theta[:, 1]

    def slope(self, gradient: Tensor) -> Tensor:
        return gradient[:, 0]

    def place(self, change: Tensor) -> Tensor:
        low, high = self.bounds()
        return torch.clamp(torch.stack((change, -change), 1), low, high)

    def within(self, theta: Tensor) -> Tensor:
        return super().within(self._image(theta, self.images))

    @staticmethod
    def _image(theta: Tensor, images: Tensor) -> Tensor:
        """Rounding may carry x + (1 - x) past the box."""
        image: Tensor = (images + theta[:, 0] - theta[:, 1]).clamp(0, 1)
        return image
