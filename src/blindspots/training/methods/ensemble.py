"""Ensemble adversarial training: sign steps made on other networks, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from ...errors import BlindspotsError
from ...settings import read_radius
from .inner import away_from_prediction, ball_ascent
from .method import Method, Part
from .mixtures import Mixture, check_mixture, mixed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..step import Step


@dataclass(frozen=True)
class EnsembleTraining(Method):
    """Half the loss on clean images, half on sign steps against one network drawn for each batch, of the static sources
    and the network in training, each as likely; the steps go away from that network's own prediction.

    Cost: a forward and a backward of the network drawn, more than plain training a batch.
    Source: Tramer et al. 2018, arXiv:1705.07204, and its code. Differs from the paper: nothing.
    """

    name: ClassVar[str] = "ensemble"
    summary: ClassVar[str] = "sign steps against static networks and itself (Tramer et al. 2018)"
    norm: ClassVar[Literal["linf"]] = "linf"
    steerable: ClassVar[bool] = True

    radius: float | str
    """linf radius in pixel units of [0, 1], such as 0.3 or 8/255."""
    sources: str = ""
    """The static networks, model files joined by +, as in a.safetensors+b.safetensors."""
    mixture: Mixture = "average"
    """How clean and crafted images are mixed: only, accumulate, average or concatenate."""

    def __post_init__(self) -> None:
        read_radius(self, "linf")
        check_mixture(self)

    @property
    def files(self) -> tuple[str, ...]:
        """The model files."""
        return tuple(file.strip() for file in self.sources.split("+") if file.strip())

    def check(self, network: nn.Module, shape: tuple[int, int, int], classes: int) -> None:
        """Refuse sources that are absent or for other images or classes."""
        from ...models import load_model

        if not self.files:
            raise BlindspotsError("EnsembleTraining.sources names no network: give model files joined by +")
        for file in self.files:
            loaded = load_model(file)
            if (loaded.shape or shape, loaded.classes or classes) != (shape, classes):
                raise BlindspotsError(
                    f"the source '{file}' is for images {loaded.shape} in {loaded.classes} classes, the training "
                    f"images are {shape} in {classes}: give sources for them"
                )

    def craft(self, step: Step) -> Tensor:
        from ..order import key

        if "sources" not in step.cache:
            step.cache["sources"] = [_source(file, step.images) for file in self.files]
        sources: list[Callable[[Tensor], Tensor]] = step.cache["sources"]
        drawn = key(step.seed, "source", step.epoch, step.number) % (len(sources) + 1)
        radius, logits_of = float(self.radius), sources[drawn] if drawn < len(sources) else None
        return ball_ascent(step, "linf", radius, 1, radius * step.scale, gain=away_from_prediction, logits_of=logits_of)

    def parts(self, step: Step, crafted: Tensor | None) -> Iterator[Part]:
        return mixed(step, crafted, self.mixture)


def _source(file: str, like: Tensor) -> Callable[[Tensor], Tensor]:
    """The logits of a static network, without gradients of its weights."""
    from ...models import load_model
    from ..preparation import normalising

    loaded = load_model(file)
    module = loaded.module.to(like.device, like.dtype).requires_grad_(False)
    return normalising(module, loaded.mean, loaded.std, like.device)
