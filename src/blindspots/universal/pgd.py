"""Universal PGD: one change for all images, by projected gradient steps over batches of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..generative.method import Method, Price
from ..settings import above, one_of, read_radius
from .perturbation import Delta, Perturbation, onto_ball

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class UniversalPGD(Method):
    """One change v for all images: minimise the mean loss of clamp(x + v) over ||v|| <= radius, batch after batch:

        v <- project(v + step_size * argmin_{||s|| = 1} <gradient, s>),

    the step size falling to zero along half a cosine.

    Cost: an addition, no call of the model.
    Source: Shafahi, Najibi, Xu, Dickerson, Davis, Goldstein 2020, "Universal adversarial training", arXiv:1811.11304.
    Differs from the paper: the loss (its clipped cross entropy bounds what one image can say; so does the hinge of the
    margin, at zero); the falling step; l2.
    """

    name: ClassVar[str] = "universal-pgd"
    summary: ClassVar[str] = "one change for all images, by projected gradient steps (Shafahi et al. 2020)"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")

    radius: float | str
    """Radius in the norm, in pixel units of [0, 1], such as 0.04 or 10/255."""
    norm: Literal["linf", "l2"] = "linf"
    """Norm of the ball: linf or l2."""
    step_size: float | None = None
    """First step size, in pixel units of [0, 1]; a tenth of the radius by default."""

    def __post_init__(self) -> None:
        self.check()
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        above(self, step_size=0)

    @property
    def price(self) -> Price:
        return Price()

    def maker(self, shape: tuple[int, int, int]) -> nn.Module:
        from ..generative.makers import Free

        return Free(shape, self.norm)

    def optimiser(self, maker: Any) -> torch.optim.Optimizer:
        from ..generative.makers import Steepest

        radius = float(self.radius)
        return Steepest(maker.delta, self.step_size or radius / 10, self.norm, radius)

    def perturbation(self, maker: Any, shape: tuple[int, int, int], meta: dict[str, Any]) -> Perturbation:
        delta = onto_ball(maker.delta[0].detach(), self.norm, float(self.radius))
        return Delta(delta, self.norm, str(self.radius), self.name, meta)
