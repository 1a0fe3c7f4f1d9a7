"""Legacy L1: Adam on an l1 penalty and the cross entropy, from noise, without a search of the weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .. import noise
from ..attack import Attack
from ..descend import descend
from ..objectives import Objective, Point, Weighted
from ..optimisers import Adam
from ..record import Rule
from ..settings import above, at_least, read_radius
from ..spaces import Additive, Space
from .szegedy import Reach

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle


@dataclass(frozen=True)
class LegacyL1(Attack):
    """A widespread simplification of Szegedy's attack: minimise |r|_1 + weight * loss(clip(x + r)) by Adam, from
    r ~ U(0, 1), with the clip to [0, 1] inside the forward pass.

    The penalty counts r as it stands, beyond the box too; where x + r is outside, the clip leaves the loss no gradient.
    The results are sparse and mostly saturated. Of all points queried the smallest (in l1, of the clipped image) that
    reaches the goal is kept.

    Cost: steps + 2 forwards and steps backwards.
    Source: Szegedy et al. 2014, arXiv:1312.6199, without its box constraint, its L-BFGS and its line search; use
    `Szegedy` to find small perturbations. "all" as targets attacks an image towards every other class.
    Differs from such code: success is judged against the image's own target, never a fixed class.
    """

    name: ClassVar[str] = "legacy-l1"
    summary: ClassVar[str] = "Szegedy's attack simplified: Adam on an l1 penalty, from noise"
    norms: ClassVar[tuple[str, ...]] = ("l1",)

    radius: float | str
    """Largest perturbation that counts, in pixel units of [0, 1]; larger ones are projected back."""
    weight: float = 1.0
    """Weight of the cross entropy against |r|_1."""
    rate: float = 0.001
    """Step of Adam, in pixel units of [0, 1]."""
    steps: int = 3000
    """Number of steps."""

    def __post_init__(self) -> None:
        read_radius(self, "l1")
        above(self, weight=0, rate=0)
        at_least(self, steps=1)

    @property
    def rule(self) -> Rule:
        return "smallest"

    def space(self, images: Tensor) -> Space:
        return Clipped(images, "l1", float(self.radius))

    def objective(self) -> Objective:
        return Weighted(((1.0, RawL1()), (self.weight, Reach())))

    def search(self, oracle: Oracle) -> None:
        oracle.judge_clean()
        if oracle.revive():
            descend(oracle, oracle.space.start(oracle.keys()), Adam(self.rate), self.steps)


@dataclass(frozen=True)
class RawL1(Objective):
    """|r|_1 of r before the clip."""

    def __call__(self, point: Point) -> Tensor:
        return (point.theta - point.clean).flatten(1).abs().sum(1)


class Clipped(Additive):
    """An additive ball whose theta x + r may leave the box: the image is theta, clipped."""

    def start(self, keys: Tensor) -> Tensor:
        return self.project(self.images + noise.uniform(keys, tuple(self.images.shape[1:]), self.images.dtype))

    def apply(self, theta: Tensor, rows: slice) -> Tensor:
        return theta.clamp(0, 1)

    def project(self, theta: Tensor) -> Tensor:
        """Images outside the ball go to its nearest image; all others stay as they are, outside the box too."""
        outside = super().size(theta.clamp(0, 1)) > self._radius()
        if not bool(outside.any()):
            return theta
        return theta.where(~outside.view(-1, 1, 1, 1), super().project(theta))

    def size(self, theta: Tensor) -> Tensor:
        return super().size(theta.clamp(0, 1))

    def within(self, theta: Tensor) -> Tensor:
        return super().within(theta.clamp(0, 1))
