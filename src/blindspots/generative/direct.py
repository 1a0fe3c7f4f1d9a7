"""S1: a network makes the image, and pays for the size of its change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..settings import above
from .forms import Form, Head
from .method import Generator, Price

if TYPE_CHECKING:
    from torch import nn

    from ..universal import Perturbation


@dataclass(frozen=True)
class Direct(Generator):
    """A network makes the image, x' = G(x), and its change is paid for:

        minimise  loss(logits(x')) + weight * mean ||x' - x||_2.

    With `aim` the weight rises while the mean size is above the aim, and falls below it. No image has a bound of its
    own: one that is hard to fool takes more, an easy one less.

    Cost: a pass of G, no call of the model.
    Source: system S1 of the report of 2017 that preceded Poursaeed, Katsman, Gao, Belongie 2018, "Generative
    adversarial perturbations", arXiv:1712.02328.
    Differs from it: the size is the mean l2 norm (it says "magnitude"); the aim. With the head tanh the network gives
    the change, x' = clamp(x + tanh(a)).
    """

    name: ClassVar[str] = "direct"
    summary: ClassVar[str] = "a network makes the image, and pays for the size of its change (S1)"

    weight: float = 1.0
    """Weight of the mean size; with an aim, the first one."""
    aim: float | None = None
    """Mean l2 size that the weight is steered to, in pixel units of [0, 1]."""
    head: Head = "sigmoid"
    """sigmoid: the network gives the image. tanh: it gives the change."""
    rate: float = 1e-3
    """Highest learning rate of Adam; at several times this, a network that makes whole images ends with one for all."""

    def __post_init__(self) -> None:
        self.check_generator()
        above(self, weight=0, aim=0)

    @property
    def price(self) -> Price:
        return Price(size=self.weight, aim=self.aim)

    def maker(self, shape: tuple[int, int, int]) -> nn.Module:
        from .makers import FromImage

        return FromImage(self.network(shape), Form(self.head, "l2", None))

    def perturbation(self, maker: Any, shape: tuple[int, int, int], meta: dict[str, Any]) -> Perturbation:
        return self.generated(maker, shape, meta)
