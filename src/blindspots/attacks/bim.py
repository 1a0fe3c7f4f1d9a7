"""BIM: the sign step, iterated from the image itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..attack import Attack
from ..descend import descend
from ..objectives import LOSSES, LossName, Objective, loss
from ..optimisers import Steepest
from ..settings import above, at_least, one_of, read_radius
from ..spaces import Additive, Space

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle


@dataclass(frozen=True)
class BIM(Attack):
    """Basic iterative method (iterated FGSM): x <- project(x + step_size * sign(g)), from the clean image.

    Cost: steps + 1 forwards and as many backwards as steps, fewer where an image is fooled earlier.
    Source: Kurakin, Goodfellow, Bengio 2016, arXiv:1607.02533.
    Differs from the paper: the step is radius / steps by default, where the paper takes 1/255 and min(8 + 4, 1.25 * 8)
    steps; an image stops at its first success.
    """

    name: ClassVar[str] = "bim"
    summary: ClassVar[str] = "iterated sign steps from the clean image (Kurakin et al. 2016)"
    norms: ClassVar[tuple[str, ...]] = ("linf",)

    radius: float | str
    """linf radius in pixel units of [0, 1], such as 0.03 or 8/255."""
    steps: int = 10
    """Number of steps."""
    step_size: float | None = None
    """Size of a step in linf; radius / steps by default."""
    loss: LossName = "ce"
    """What is decreased or increased: cross entropy, margin or difference of logits ratio."""

    def __post_init__(self) -> None:
        read_radius(self, "linf")
        at_least(self, steps=1)
        above(self, step_size=0)
        one_of(self, "loss", LOSSES)

    def space(self, images: Tensor) -> Space:
        return Additive(images, "linf", float(self.radius))

    def objective(self) -> Objective:
        return loss(self.loss)

    def search(self, oracle: Oracle) -> None:
        step = self.step_size if self.step_size is not None else float(self.radius) / self.steps
        descend(oracle, oracle.space.zero(), Steepest("linf", step), self.steps)
