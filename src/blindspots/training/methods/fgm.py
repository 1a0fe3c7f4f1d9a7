"""Training on images moved by one step along the normalised gradient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from ...settings import read_radius
from .inner import away_from_prediction, ball_ascent
from .method import Method, Part
from .mixtures import Mixture, check_mixture, mixed

if TYPE_CHECKING:
    from torch import Tensor

    from ..step import Step


@dataclass(frozen=True)
class FGMTraining(Method):
    """Minimise the loss on x' = clip(x + radius * g / ||g||_2, 0, 1), g = grad_x H(y), the norm that of each image.

    Cost: a forward and a backward more than plain training a batch.
    Source: Miyato et al. 2015, arXiv:1507.00677, for the step. Differs from the paper: its loss is the divergence from
    the prediction; here it is the cross-entropy with the label, or with the prediction.
    """

    name: ClassVar[str] = "fgm"
    summary: ClassVar[str] = "one step along the gradient, normalised per image"
    norm: ClassVar[Literal["l2"]] = "l2"
    steerable: ClassVar[bool] = True

    radius: float | str
    """l2 radius in pixel units of [0, 1]; linf radius e has l2 size e * sqrt(C H W)."""
    predicted: bool = False
    """Step away from the model's prediction instead of the label."""
    mixture: Mixture = "only"
    """How clean and crafted images are mixed: only, accumulate, average or concatenate."""

    def __post_init__(self) -> None:
        read_radius(self, "l2")
        check_mixture(self)

    def craft(self, step: Step) -> Tensor:
        radius = float(self.radius)
        gain = away_from_prediction if self.predicted else None
        return ball_ascent(step, "l2", radius, 1, radius * step.scale, gain=gain)

    def parts(self, step: Step, crafted: Tensor | None) -> Iterator[Part]:
        return mixed(step, crafted, self.mixture)
