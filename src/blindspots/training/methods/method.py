"""The interface of a training method: what it makes of a batch, and which losses it descends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..step import Step


@dataclass(frozen=True)
class Part:
    """A loss () whose gradient is added to that of the step, and the logits (n, K) of the n images of the batch, if the
    running accuracy is to be counted from them; the last ones count. `update` moves the weights after it.
    """

    loss: Tensor
    logits: Tensor | None
    update: bool = False


@dataclass(frozen=True)
class Method(ABC):
    """A way to train: a frozen dataclass of plain values.

    The loop asks for `craft` once a batch and then goes through `parts`, computing the gradient of each loss before it
    asks for the next: what a method reads off a `.grad` is there when its `yield` returns. What moves from step to step
    lies in `step.state`, tensors by name, and is part of the checkpoint.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    # Does a step of the inner attack have a size that can be halved when the training overfits to it?
    steerable: ClassVar[bool] = False
    # Are its losses those of the batch at fixed weights, so that the weights may be moved and asked about again (AWP)?
    fixed: ClassVar[bool] = True

    @property
    def ball(self) -> tuple[str, float] | None:
        """Norm and radius of the ball that it trains for, where there is one: the fields `norm` and `radius`."""
        norm, radius = getattr(self, "norm", None), getattr(self, "radius", None)
        return None if norm is None or radius is None else (str(norm), float(radius))

    def check(self, network: nn.Module, shape: tuple[int, int, int], classes: int) -> None:  # noqa: B027
        """Refuse a network or images (C, H, W) that the method cannot train; most take any.

        Raises:
            BlindspotsError: what does not fit, in one sentence.
        """

    @abstractmethod
    def craft(self, step: Step) -> Tensor | None:
        """What is trained on beside or instead of the images (n, C, H, W), detached; None for nothing."""

    @abstractmethod
    def parts(self, step: Step, crafted: Tensor | None) -> Iterator[Part]:
        """The losses of the step, their gradients added."""
