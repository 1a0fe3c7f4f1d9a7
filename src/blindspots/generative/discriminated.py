"""S4: a discriminator stands in for the price of the size; and AdvGAN, which has both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..settings import above, at_least, read_radius
from .forms import Form
from .method import Generator, Price

if TYPE_CHECKING:
    from torch import nn

    from ..universal import Perturbation


@dataclass(frozen=True)
class Discriminated(Generator):
    """A network makes the change and a discriminator D, fitted against it, asks that x' looks like an image:

        minimise  loss(logits(x')) + realism * mean (D(x') - 1)^2 + weight * mean max(0, ||x' - x||_2 - free),

    while D minimises mean (D(x) - 1)^2 / 2 + mean D(x')^2 / 2. With weight 0 nothing but D speaks for small changes:
    the system of the report, which found that it does not work. The defaults are AdvGAN's: ten times as much for the
    victims' loss as for the others, changes of at most 0.3 in linf.

    Cost: a pass of G, no call of the model.
    Source: Xiao et al. 2018, "Generating adversarial examples with adversarial networks", arXiv:1801.02610; system S4
    of the report of 2017 that preceded Poursaeed et al. 2018, arXiv:1712.02328.
    Differs from the papers: the generator is the U-Net, with its own learning rate; D is convolutional with one answer
    for each patch.
    """

    name: ClassVar[str] = "discriminated"
    summary: ClassVar[str] = "a discriminator asks that images look real (S4; AdvGAN, Xiao et al. 2018)"

    radius: float | str = 0.3
    """No value of an image changes by more than this (linf); 1 is no bound."""
    realism: float = 0.1
    """Weight of the discriminator."""
    weight: float = 0.1
    """Weight of the size; 0 for none."""
    free: float = 0.1
    """l2 size up to which a change costs nothing, in pixel units of [0, 1]."""

    def __post_init__(self) -> None:
        self.check_generator()
        read_radius(self, "linf")
        above(self, realism=0)
        at_least(self, weight=0, free=0)

    @property
    def price(self) -> Price:
        return Price(self.weight, self.free, None, self.realism)

    def maker(self, shape: tuple[int, int, int]) -> nn.Module:
        from .makers import FromImage

        return FromImage(self.network(shape), Form(self.head, "linf", float(self.radius)))

    def perturbation(self, maker: Any, shape: tuple[int, int, int], meta: dict[str, Any]) -> Perturbation:
        return self.generated(maker, shape, meta)
