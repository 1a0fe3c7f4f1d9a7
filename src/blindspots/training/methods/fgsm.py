"""Training on images moved by one step along the sign of the gradient."""

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
class FGSMTraining(Method):
    """Minimise the loss on x' = clip(x + radius * sign(grad_x H(y)), 0, 1).

    With `predicted` the step goes away from the model's own prediction: true labels leak through a single step, and the
    network then does better on such images than on clean ones (Kurakin et al. 2017, arXiv:1611.01236).
    Watch for catastrophic overfitting: accuracy against this step stays high while that against PGD falls to nothing.

    Cost: a forward and a backward more than plain training a batch; with `predicted` nothing more.
    Source: Goodfellow et al. 2015, arXiv:1412.6572, with mixture="average". Differs from the paper: nothing.
    """

    name: ClassVar[str] = "fgsm"
    summary: ClassVar[str] = "one step along the sign of the gradient (Goodfellow et al. 2015)"
    norm: ClassVar[Literal["linf"]] = "linf"
    steerable: ClassVar[bool] = True

    radius: float | str
    """linf radius in pixel units of [0, 1], such as 0.3 or 8/255."""
    predicted: bool = False
    """Step away from the model's prediction instead of the label."""
    mixture: Mixture = "only"
    """How clean and crafted images are mixed: only, accumulate, average or concatenate."""

    def __post_init__(self) -> None:
        read_radius(self, "linf")
        check_mixture(self)

    def craft(self, step: Step) -> Tensor:
        radius = float(self.radius)
        gain = away_from_prediction if self.predicted else None
        return ball_ascent(step, "linf", radius, 1, radius * step.scale, gain=gain)

    def parts(self, step: Step, crafted: Tensor | None) -> Iterator[Part]:
        return mixed(step, crafted, self.mixture)
