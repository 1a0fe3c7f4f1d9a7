"""S2: a network makes a change of each image, held to a radius that is chosen beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..settings import one_of, read_radius
from .forms import Form
from .method import Generator, Price

if TYPE_CHECKING:
    from torch import nn

    from ..universal import Perturbation


@dataclass(frozen=True)
class Thresholded(Generator):
    """A network makes the change, held to a radius: x' = clamp(x + d) with ||x' - x|| <= radius for every image.

    Only the victims' loss is minimised. In linf x' lies between the ends lo and hi of ball and box, where tanh(G(x))
    says, x' = lo + (hi - lo) (1 + tanh(G(x))) / 2. In l2 G(x) gives the direction; with `exact`
    the whole radius is used, after the box has cut off what it must.

    Cost: a pass of G, no call of the model.
    Source: system S2 of the report of 2017 that preceded Poursaeed, Katsman, Gao, Belongie 2018, "Generative
    adversarial perturbations", arXiv:1712.02328, and its section 3.1.
    Differs from the paper: in l2 `exact`; without it d = tanh(G(x)) * min(1, radius / ||tanh(G(x))||_2), as there. In
    linf the paper scales the whole change to the radius and then cuts it off at the box, which on black grounds stops
    every gradient.
    """

    name: ClassVar[str] = "thresholded"
    summary: ClassVar[str] = "a network makes a change of each image within a radius (S2, Poursaeed et al. 2018)"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")

    radius: float | str
    """Radius in the norm, in pixel units of [0, 1], such as 2.4 or 8/255."""
    norm: Literal["linf", "l2"] = "linf"
    """Norm of the ball: linf or l2."""
    exact: bool = True
    """In l2, use the whole radius for each image."""

    def __post_init__(self) -> None:
        self.check_generator()
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)

    @property
    def price(self) -> Price:
        return Price()

    def maker(self, shape: tuple[int, int, int]) -> nn.Module:
        from .makers import FromImage

        return FromImage(self.network(shape), Form(self.head, self.norm, float(self.radius), self.exact))

    def perturbation(self, maker: Any, shape: tuple[int, int, int], meta: dict[str, Any]) -> Perturbation:
        return self.generated(maker, shape, meta)
