"""Training on noisy images: the control beside which adversarial training is to be seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from ... import noise
from ...settings import one_of, read_radius
from .method import Method, Part
from .mixtures import Mixture, check_mixture, mixed

if TYPE_CHECKING:
    from torch import Tensor

    from ..step import Step

Distribution = Literal["uniform", "gaussian"]


@dataclass(frozen=True)
class Noise(Method):
    """Minimise the loss on clip(x + n, 0, 1) with n uniform in [-radius, radius] or normal with that deviation.

    Source: Goodfellow et al. 2015, arXiv:1412.6572, section 6, has both as controls of adversarial training. Differs
    from the paper: nothing.
    """

    name: ClassVar[str] = "noise"
    summary: ClassVar[str] = "uniform or Gaussian noise on the images: the control"

    radius: float | str
    """Half width of uniform noise or standard deviation of Gaussian noise, in pixel units, such as 0.1 or 8/255."""
    distribution: Distribution = "uniform"
    """uniform or gaussian."""
    mixture: Mixture = "only"
    """How clean and noisy images are mixed: only, accumulate, average or concatenate."""

    def __post_init__(self) -> None:
        read_radius(self, "linf")
        one_of(self, "distribution", get_args(Distribution))
        check_mixture(self)

    def craft(self, step: Step) -> Tensor:
        shape, dtype = tuple(step.images.shape[1:]), step.images.dtype
        if self.distribution == "gaussian":
            drawn = noise.normal(step.keys(self.name), shape, dtype)
        else:
            drawn = 2 * noise.uniform(step.keys(self.name), shape, dtype) - 1
        return (step.images + float(self.radius) * drawn).clamp_(0, 1)

    def parts(self, step: Step, crafted: Tensor | None) -> Iterator[Part]:
        return mixed(step, crafted, self.mixture)
