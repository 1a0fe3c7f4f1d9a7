"""Training against any attack of the library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ...lazy import torch
from .method import Method, Part
from .mixtures import Mixture, check_mixture, mixed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ...attack import Attack
    from ...several import Several
    from ..step import Step


@dataclass(frozen=True)
class AttackTraining(Method):
    """Minimise the loss on the images that an attack returns, remade with every batch.

    Images that the network gets wrong without attack stay as they are, and an attack that ends with its first success
    returns that: what it finds is real, and no worse than it has to be. The methods with an inner loop of their own
    (pgd, fast, ...) climb on and are faster.

    Cost: that of the attack.
    Source: Madry et al. 2018, arXiv:1706.06083, for the saddle point; the attack's own for the inner maximum.
    """

    name: ClassVar[str] = "attack"
    summary: ClassVar[str] = "any attack of the library, by name and settings"

    attack: str
    """The attack, as in pgd:radius=0.3,steps=10 (blindspots list attacks)."""
    mixture: Mixture = "only"
    """How clean and crafted images are mixed: only, accumulate, average or concatenate."""

    def __post_init__(self) -> None:
        self._attack()
        check_mixture(self)

    @property
    def ball(self) -> tuple[str, float] | None:
        """Norm and radius of the attack, where it works in a ball."""
        from ...geometry import NORM_NAMES

        attack = self._attack()
        norm = getattr(attack, "norm", attack.norms[0])
        return (norm, float(attack.radius)) if norm in NORM_NAMES and norm != "l0" else None

    def _attack(self) -> Any:
        from ...config import make_attack, parse_attack

        return make_attack(parse_attack(self.attack))

    def craft(self, step: Step) -> Tensor:
        from ...classifiers import Classifier
        from ..order import key

        if "attack" not in step.cache:
            step.cache["attack"] = self._attack(), Classifier(_answering(step))
        attack: Attack | Several
        attack, model = step.cache["attack"]
        model.module.step, model.batch = step, len(step.images)
        seed = key(step.seed, "attack", step.epoch)
        return attack(model, step.images, step.labels, index=step.index, seed=seed).images.detach()

    def parts(self, step: Step, crafted: Tensor | None) -> Iterator[Part]:
        return mixed(step, crafted, self.mixture)


def _answering(step: Step) -> nn.Module:
    """The network in training as a module of images in [0, 1], normalisation and precision included."""

    class Answering(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.step = step.network, step

        def forward(self, images: Tensor) -> Tensor:
            return self.step.logits(images)

    return Answering()
