"""S3: a network makes one change for all images, of one fixed image of noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..errors import BlindspotsError
from ..lazy import torch
from ..settings import one_of, read_radius
from .forms import Form
from .method import Generator, Price

if TYPE_CHECKING:
    from torch import nn

    from ..universal import Perturbation


@dataclass(frozen=True)
class FixedNoise(Generator):
    """U = G(Z) is one change for all images, Z one image of uniform noise that is never redrawn; x' = clamp(x + U).

    Only the weights of G change. In linf U = radius * tanh(G(Z)), in l2 tanh(G(Z)) brought to the radius (`exact`), or
    shortened to it; the box then cuts off a part of it that depends on the image. U is all that is kept in the end.

    Cost: an addition, no call of the model.
    Source: system S3 of the report of 2017 that preceded Poursaeed, Katsman, Gao, Belongie 2018, "Generative
    adversarial perturbations", arXiv:1712.02328, and its section 3.2.
    Differs from the paper: Z is uniform in [-1, 1], as in its segmentation code, and G sees it alone, so that no
    statistics of a batch come in; `exact`.
    """

    name: ClassVar[str] = "fixed-noise"
    summary: ClassVar[str] = "a network makes one change for all images of fixed noise (S3, Poursaeed et al. 2018)"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")

    radius: float | str
    """Radius in the norm, in pixel units of [0, 1], such as 2.5 or 10/255."""
    norm: Literal["linf", "l2"] = "linf"
    """Norm of the ball: linf or l2."""
    exact: bool = True
    """In l2, use the whole radius."""

    def __post_init__(self) -> None:
        self.check_generator()
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        if self.generator_settings.get("norm") == "batch":
            raise BlindspotsError(
                "FixedNoise.generator_settings asks for batch norm, which needs more than one image: give norm none"
            )

    @property
    def price(self) -> Price:
        return Price()

    def maker(self, shape: tuple[int, int, int]) -> nn.Module:
        from .makers import FromNoise

        form = Form(self.head, self.norm, float(self.radius), self.exact)
        # Of one image batch norm has no statistics to keep.
        network = self.network(shape, {"norm": "none" if min(shape[1:]) <= 64 else "instance"})
        return FromNoise(network, form, 2 * torch.rand(1, *shape) - 1)

    def perturbation(self, maker: Any, shape: tuple[int, int, int], meta: dict[str, Any]) -> Perturbation:
        from ..universal.perturbation import Delta, onto_ball

        delta = onto_ball(maker.delta()[0].detach(), self.norm, float(self.radius))
        return Delta(delta, self.norm, str(self.radius), self.name, meta)
