"""MI-FGSM: iterated steps along accumulated, normalised gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from ..attack import Attack
from ..descend import descend
from ..objectives import LOSSES, LossName, Objective, loss
from ..optimisers import Momentum
from ..settings import above, at_least, one_of, read_radius
from ..spaces import Additive, Space

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle


@dataclass(frozen=True)
class MIFGSM(Attack):
    """Momentum iterative FGSM: m <- decay * m + g / ||g||_1, x <- project(x + step_size * steepest(m)).

    Cost: steps + 1 forwards and as many backwards as steps, fewer where an image is fooled earlier.
    Source: Dong et al. 2018, arXiv:1710.06081. Differs from the paper: an image stops at its first success.
    """

    name: ClassVar[str] = "mifgsm"
    summary: ClassVar[str] = "iterated steps along accumulated gradients (Dong et al. 2018)"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")

    radius: float | str
    """Radius in the norm, in pixel units of [0, 1], such as 0.03 or 8/255."""
    norm: Literal["linf", "l2"] = "linf"
    """Norm of the ball: linf or l2."""
    steps: int = 10
    """Number of steps."""
    step_size: float | None = None
    """Size of a step in the norm; radius / steps by default."""
    decay: float = 1.0
    """How much of the accumulated direction is kept; 0 is the plain iterated method."""
    loss: LossName = "ce"
    """What is decreased or increased: cross entropy, margin or difference of logits ratio."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        at_least(self, steps=1, decay=0)
        above(self, step_size=0)
        one_of(self, "loss", LOSSES)

    def space(self, images: Tensor) -> Space:
        return Additive(images, self.norm, float(self.radius))

    def objective(self) -> Objective:
        return loss(self.loss)

    def search(self, oracle: Oracle) -> None:
        step = self.step_size if self.step_size is not None else float(self.radius) / self.steps
        descend(oracle, oracle.space.zero(), Momentum(self.norm, step, self.decay), self.steps)
