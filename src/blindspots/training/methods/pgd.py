"""Training on images moved by projected gradient descent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ...geometry import BallName
from ...settings import above, at_least, one_of, read_radius
from .inner import ball_ascent, random_start, step_size
from .method import Method, Part
from .mixtures import Mixture, check_mixture, mixed

if TYPE_CHECKING:
    from torch import Tensor

    from ..step import Step


@dataclass(frozen=True)
class PGDTraining(Method):
    """Minimise the loss at the end of an inner maximisation: min_w E max_{||x' - x|| <= radius} H(y, g_w(x')).

    The inner point is found by `steps` steepest steps with projection onto ball and box, from a random point of the
    ball; the last one is trained on, as a constant.

    Cost: `steps` forwards and backwards more than plain training a batch.
    Source: Madry et al. 2018, arXiv:1706.06083. Differs from the paper: the step is 2.5 * radius / steps by default
    (their rule for CIFAR-10; the preset madry-mnist has their 0.01); the network crafts in evaluation mode.
    """

    name: ClassVar[str] = "pgd"
    summary: ClassVar[str] = "projected gradient descent from a random start (Madry et al. 2018)"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")
    steerable: ClassVar[bool] = True

    radius: float | str
    """Radius in the norm, in pixel units of [0, 1], such as 0.3 or 8/255."""
    norm: BallName = "linf"
    """Norm of the ball: linf, l2 or l1."""
    steps: int = 10
    """Steps of the inner attack."""
    step_size: float | None = None
    """Size of a step in the norm; 2.5 * radius / steps by default."""
    random_start: bool = True
    """Start from a uniform point of the ball instead of the image itself."""
    mixture: Mixture = "only"
    """How clean and crafted images are mixed: only, accumulate, average or concatenate."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        at_least(self, steps=1)
        above(self, step_size=0)
        check_mixture(self)

    def craft(self, step: Step) -> Tensor:
        radius = float(self.radius)
        size = step_size(self.step_size, radius, self.steps) * step.scale
        start = random_start(step, self.norm, radius) if self.random_start else None
        return ball_ascent(step, self.norm, radius, self.steps, size, start)

    def parts(self, step: Step, crafted: Tensor | None) -> Iterator[Part]:
        return mixed(step, crafted, self.mixture)
