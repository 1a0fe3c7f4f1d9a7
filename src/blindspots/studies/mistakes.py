"""Mistakes of reproductions of stAdv, each as a setting or an attack of its own, to measure what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import nn

from ..attacks import StAdv
from ..classifiers import Classifier
from ..objectives import Margin, Objective, Point

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ParkedMargin(Objective):
    """max(margin, +kappa), as the paper prints it: flat once the margin falls to kappa, before the image is fooled."""

    kappa: float

    def __call__(self, point: Point) -> Tensor:
        return Margin()(point).clamp(min=self.kappa)


@dataclass(frozen=True)
class PlusKappa(StAdv):
    """stAdv with kappa added instead of subtracted: with kappa > 0 it stops short of the boundary."""

    name: ClassVar[str] = "stadv-plus-kappa"

    def _reach(self) -> Objective:
        return ParkedMargin(self.kappa)


def softmax_inside(model: Classifier) -> Classifier:
    """The network with a softmax at its end, its probabilities taken for logits."""
    return Classifier(
        nn.Sequential(model.module, nn.Softmax(1)),
        mean=model.mean,
        std=model.std,
        classes=model.classes,
        batch=model.batch,
        name=f"{model.name} with softmax",
        trained=model.trained,
    )
