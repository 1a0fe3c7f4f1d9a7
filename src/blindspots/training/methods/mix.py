"""Several attacks, or one at several radii, in one training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from ...errors import BlindspotsError
from ...lazy import torch
from ...settings import one_of
from .method import Method, Part
from .mixtures import Mixture, check_mixture, mixed

if TYPE_CHECKING:
    from torch import Tensor

    from ..step import Step

Combination = Literal["random", "average", "worst"]


@dataclass(frozen=True)
class Mix(Method):
    """Train on what several methods craft: with each batch one of them at random, all of them (the mean of their
    losses), or for each image that of the highest loss.

    `pgd:radius=0.1+pgd:radius=0.3` mixes radii.

    Cost: random: that of the one drawn; average and worst: that of all, and for worst a forward each.
    Source: Tramer and Boneh 2019, "Adversarial training and robustness for multiple perturbations", arXiv:1904.13000,
    for average ("avg") and worst ("max"). Differs from the paper: random is ours.
    """

    name: ClassVar[str] = "mix"
    summary: ClassVar[str] = "several attacks or radii: one at random, all, or the worst (Tramer and Boneh 2019)"
    steerable: ClassVar[bool] = True

    methods: str
    """The methods, joined by +, as in pgd:radius=0.3+fgm:radius=2+stadv."""
    combine: Combination = "random"
    """random: one of them a batch; average: all of them; worst: for each image that of the highest loss."""
    mixture: Mixture = "only"
    """How clean and crafted images are mixed: only, accumulate, average or concatenate."""

    def __post_init__(self) -> None:
        one_of(self, "combine", get_args(Combination))
        check_mixture(self)
        self.members()

    def members(self) -> tuple[Method, ...]:
        """The methods with their settings."""
        from ...config import parse_named
        from . import make_method

        made = []
        for text in filter(None, (piece.strip() for piece in self.methods.split("+"))):
            given = parse_named(text, "training method", "pgd:radius=0.3")
            method = make_method(given.pop("name"), given)
            if not hasattr(method, "mixture") or isinstance(method, Mix):
                raise BlindspotsError(
                    f"the training method {method.name} has a loss of its own and cannot be mixed: give methods that "
                    "craft images, such as pgd, fgm, noise, stadv or attack"
                )
            made.append(method)
        if not made:
            raise BlindspotsError("Mix.methods names no method: give some joined by +, as in pgd:radius=0.3+stadv")
        return tuple(made)

    @property
    def ball(self) -> tuple[str, float] | None:
        """The first ball of its methods."""
        return next((method.ball for method in self.members() if method.ball is not None), None)

    def craft(self, step: Step) -> Tensor | None:
        from ..order import key

        members: tuple[Method, ...] = step.cache.setdefault("members", self.members())
        if self.combine == "random":
            drawn = members[key(step.seed, "member", step.epoch, step.number) % len(members)]
            return drawn.craft(step)
        crafted = [images for method in members if (images := method.craft(step)) is not None]
        if self.combine == "average":
            return torch.cat(crafted)
        with step.frozen(), torch.no_grad():
            losses = torch.stack([_losses(step, images) for images in crafted])
        worst, everyone = losses.argmax(0), torch.arange(len(step.images), device=step.images.device)
        return torch.stack(crafted)[worst, everyone]

    def parts(self, step: Step, crafted: Tensor | None) -> Iterator[Part]:
        return mixed(step, crafted, self.mixture)


def _losses(step: Step, images: Tensor) -> Tensor:
    losses: Tensor = torch.nn.functional.cross_entropy(step.logits(images), step.labels, reduction="none")
    return losses
