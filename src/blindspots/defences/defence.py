"""The interface of a defence: a change of every image before the model sees it, with a gradient to attack through."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

from ..errors import BlindspotsError
from ..lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Defence(ABC):
    """A preprocessing of images, each by itself; a defence's own file gives its fields and its function.

    A defence that weakens gradients is no defence (Athalye et al. 2018, arXiv:1802.00420), so each one is attackable
    through itself: where it rounds or clamps, the gradient passes straight through.
    """

    name: ClassVar[str]
    summary: ClassVar[str]

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """The images (B, C, H, W) in [0, 1] as the model gets them: of the same shape, in [0, 1], differentiable."""

    def __str__(self) -> str:
        """As the command line takes it: `NAME:key=value,key=value`."""
        settings = ",".join(f"{field.name}={_plain(getattr(self, field.name))}" for field in fields(self))
        return f"{self.name}:{settings}" if settings else self.name


def straight_through(value: Tensor, surrogate: Tensor) -> Tensor:
    """The value, bit for bit, with the gradient of the surrogate."""
    return value.detach() + (surrogate - surrogate.detach())


def boxed(images: Tensor) -> Tensor:
    """The images clamped to [0, 1], the gradient passing straight through: what overshoots can be pulled back."""
    return straight_through(images.detach().clamp(0, 1), images)


def extended(images: Tensor, margin: int) -> Tensor:
    """The images with their border pixels repeated outwards."""
    return torch.nn.functional.pad(images, (margin,) * 4, mode="replicate") if margin else images


def odd(settings: Defence, name: str) -> None:
    """Refuse a window that has no middle pixel."""
    value = getattr(settings, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or value % 2 == 0:
        raise BlindspotsError(
            f"{type(settings).__name__}.{name} must be an odd number of pixels such as 3 or 5, got {value!r}"
        )


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
