"""FGSM: one step along the sign of the gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..attack import Attack
from ..descend import descend
from ..objectives import LOSSES, LossName, Objective, loss
from ..optimisers import Steepest
from ..settings import one_of, read_radius
from ..spaces import Additive, Space

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle


@dataclass(frozen=True)
class FGSM(Attack):
    """Fast gradient sign method.

    x' = clip(x + radius * sign(grad_x H(y)), 0, 1); targeted: minus the gradient of H(t). Where no pixel is clipped,
    every value with a gradient changes by exactly the radius: l2 size radius * sqrt(n).

    Cost: 2 forwards and 1 backward an image, and 1 forward that verifies a success.
    Source: Goodfellow, Shlens, Szegedy 2015, arXiv:1412.6572. Differs from the paper: nothing.
    """

    name: ClassVar[str] = "fgsm"
    summary: ClassVar[str] = "one step along the sign of the gradient (Goodfellow et al. 2015)"
    norms: ClassVar[tuple[str, ...]] = ("linf",)

    radius: float | str
    """linf radius in pixel units of [0, 1], such as 0.03 or 8/255."""
    loss: LossName = "ce"
    """What the step decreases or increases: cross entropy, margin or difference of logits ratio."""

    def __post_init__(self) -> None:
        read_radius(self, "linf")
        one_of(self, "loss", LOSSES)

    def space(self, images: Tensor) -> Space:
        return Additive(images, "linf", float(self.radius))

    def objective(self) -> Objective:
        return loss(self.loss)

    def search(self, oracle: Oracle) -> None:
        descend(oracle, oracle.space.zero(), Steepest("linf", float(self.radius)), steps=1)
