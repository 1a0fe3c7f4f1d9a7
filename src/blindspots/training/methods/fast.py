"""Fast adversarial training: one long sign step from a random start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from ...settings import above, read_radius
from .inner import ball_ascent, random_start
from .method import Method, Part
from .mixtures import Mixture, check_mixture, mixed

if TYPE_CHECKING:
    from torch import Tensor

    from ..step import Step


@dataclass(frozen=True)
class Fast(Method):
    """Minimise the loss on project(x + d + step_size * sign(grad H(x + d, y))), d uniform in the linf ball.

    The paper trains with a cyclic learning rate (schedule "cyclic"). Steps of more than 1.25 radius, and larger radii,
    are known to overfit catastrophically; see `on_overfitting`.

    Cost: a forward and a backward more than plain training a batch.
    Source: Wong, Rice, Kolter 2020, "Fast is better than free", arXiv:2001.03994. Differs from the paper: crafted in
    evaluation mode.
    """

    name: ClassVar[str] = "fast"
    summary: ClassVar[str] = "one sign step of 1.25 radius from a random start (Wong et al. 2020)"
    norm: ClassVar[Literal["linf"]] = "linf"
    steerable: ClassVar[bool] = True

    radius: float | str
    """linf radius in pixel units of [0, 1], such as 0.3 or 8/255."""
    step_size: float | None = None
    """Size of the step; 1.25 * radius by default."""
    mixture: Mixture = "only"
    """How clean and crafted images are mixed: only, accumulate, average or concatenate."""

    def __post_init__(self) -> None:
        read_radius(self, "linf")
        above(self, step_size=0)
        check_mixture(self)

    def craft(self, step: Step) -> Tensor:
        radius = float(self.radius)
        size = self.step_size if self.step_size is not None else 1.25 * radius
        return ball_ascent(step, "linf", radius, 1, size * step.scale, random_start(step, "linf", radius))

    def parts(self, step: Step, crafted: Tensor | None) -> Iterator[Part]:
        return mixed(step, crafted, self.mixture)
