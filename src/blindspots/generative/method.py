"""What methods that are fitted by gradients share: their settings, and the parts that each of them gives."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..errors import BlindspotsError
from ..lazy import torch
from ..settings import above, at_least, one_of
from .forms import Head
from .victims import Loss

if TYPE_CHECKING:
    from torch import nn

    from ..classifiers import Classifier
    from ..data import ImageData
    from ..universal import Fitted, Perturbation


@dataclass(frozen=True)
class Price:
    """size * w * mean max(0, ||x' - x||_2 - free) + realism * mean (D(x') - 1)^2, of a discriminator D.

    w is 1, or with an `aim` is steered so that the mean of ||x' - x||_2 comes to it.
    """

    size: float = 0.0
    free: float = 0.0
    aim: float | None = None
    realism: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A perturbation whose parameters descend the victims' loss over batches of images.

    Each step: minimise loss(logits(x'), goal) + price over a batch; the learning rate falls along half a cosine.
    """

    name: ClassVar[str]
    summary: ClassVar[str]

    loss: Loss = "margin"
    """margin: the hinge max(margin, -kappa), which rests where the goal is passed by kappa. sigmoid: sigmoid(margin /
    kappa), which also gives up images that are out of reach. log-ce: log H(target), or
    -log H(label), of the mean cross entropy H. least-likely: log H of the class least likely for the clean image."""
    kappa: float = 5.0
    """How far past the boundary the hinge pulls, and how wide the sigmoid is, in logits."""
    leave: Literal["labels", "predictions"] = "labels"
    """What is to be left: the labels of the data, or what the first victim predicts. Per pixel always predictions."""
    epochs: float = 10.0
    """Passes over the images; also a part of one."""
    minibatch: int = 64
    """Images a step."""
    held_out: float = 0.05
    """Share of the images that are not fitted on, above 0 and below 1."""

    def check(self) -> None:
        """Refuse values that cannot work."""
        one_of(self, "loss", ("margin", "sigmoid", "log-ce", "least-likely"))
        one_of(self, "leave", ("labels", "predictions"))
        at_least(self, kappa=0, minibatch=1)
        above(self, epochs=0, held_out=0, **({"kappa": 0} if self.loss == "sigmoid" else {}))
        if self.held_out >= 1:
            raise BlindspotsError(f"{type(self).__name__}.held_out must be below 1, got {self.held_out}")

    @abstractmethod
    def maker(self, shape: tuple[int, int, int]) -> nn.Module:
        """What is fitted: images (B, C, H, W) to changed ones, differentiable; torch is seeded."""

    @abstractmethod
    def optimiser(self, maker: Any) -> torch.optim.Optimizer:
        """Its optimiser; the rate in its groups is the highest one."""

    @property
    @abstractmethod
    def price(self) -> Price:
        """What a change costs beside the victims' loss."""

    @abstractmethod
    def perturbation(self, maker: Any, shape: tuple[int, int, int], meta: dict[str, Any]) -> Perturbation:
        """What it has become."""

    def fit(
        self,
        classifier: Classifier | nn.Module | str | Sequence[Classifier],
        data: ImageData | Any,
        *,
        seed: int = 0,
        targets: Any = None,
        limit: int | None = None,
        weights: Sequence[float] | None = None,
        others: Sequence[Classifier] = (),
        checkpoint: str | Path | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Fitted:
        """Fit to images of the data and measure on others.

        Args:
            classifier: a classifier, module, name or path; or several classifiers, fooled all at once.
            data: as `dataset` makes it, or what `dataset` takes.
            seed: of the first weights, the order of the images, and which are held out.
            targets: one class for all images, one for each image of the data (N,), or with a victim per pixel a map
                (H, W) or (N, H, W); by default any answer but the label.
            limit: number of images used, the held-out ones among them; all by default.
            weights: of the losses of several classifiers; 1 each by default.
            others: classifiers it is not fitted to, on which it is measured too (`Fitted.transfer`).
            checkpoint: a file that carries the fit over a kill: the same call goes on from it. Removed at the end.
            progress: called with a few words now and then.

        Raises:
            BlindspotsError: data, targets, limit or classifiers that cannot be used, a checkpoint of another fit, and a
                loss that stops being a number.
        """
        from .fitting import fit_method

        return fit_method(
            self, classifier, data, seed=seed, targets=targets, limit=limit, weights=weights, others=others,
            checkpoint=checkpoint, progress=progress,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Generator(Method):
    """A method that fits a network."""

    generator: str = "unet"
    """Network: unet, autoencoder or resnet-generator."""
    generator_settings: dict[str, int | float | str] = field(default_factory=dict)
    """Its settings: width, levels, norm, dropout, fine, blocks."""
    head: Head = "tanh"
    """Its last activation: tanh, or sigmoid, which as a change can only add."""
    rate: float = 4e-3
    """Highest learning rate of Adam."""
    beta1: float = 0.5
    """First moment of Adam, as in the paper's code."""
    average: float = 0.998
    """What is returned are weights averaged over the steps with this decay; 0 returns the last ones."""

    def check_generator(self) -> None:
        """Refuse values that cannot work, of these and of the method's settings."""
        self.check()
        one_of(self, "head", ("tanh", "sigmoid"))
        above(self, rate=0)
        at_least(self, beta1=0, average=0)
        for name in ("beta1", "average"):
            if getattr(self, name) >= 1:
                raise BlindspotsError(f"{type(self).__name__}.{name} must be below 1, got {getattr(self, name)}")

    def network(self, shape: tuple[int, int, int], usual: dict[str, Any] | None = None) -> nn.Module:
        """The network with its first weights; `usual` are settings where none are given."""
        from ..models.generators import build_generator

        return build_generator(
            self.generator, channels=shape[0], size=min(shape[1:]), **{**(usual or {}), **self.generator_settings}
        )

    def optimiser(self, maker: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(maker.parameters(), self.rate, (self.beta1, 0.999))

    def generated(self, maker: Any, shape: tuple[int, int, int], meta: dict[str, Any]) -> Perturbation:
        """The fitted network (`makers.FromImage`) with its form, and what is known of it."""
        from .generated import Generated

        form, network = maker.form, maker.network
        about = {
            "name": self.generator,
            "settings": self.generator_settings,
            "head": form.head,
            "held": form.radius is not None,
            "exact": form.exact,
            "shape": list(shape),
        }
        radius: Any = getattr(self, "radius", str(math.sqrt(math.prod(shape))))
        return Generated(network.state_dict(), form.norm, str(radius), self.name, {"generator": about, **meta})
