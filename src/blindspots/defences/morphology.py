"""Grey-scale morphology: opening and closing with a square."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..lazy import torch
from .defence import Defence, odd

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Opening(Defence):
    """Erosion, then dilation: bright spots smaller than the square vanish. opening(x) <= x, and twice is once.

    At the border the square is cut. The gradient goes to the pixels that are the extremes, which is the true one.
    Source: Serra 1982, "Image analysis and mathematical morphology".
    """

    name: ClassVar[str] = "opening"
    summary: ClassVar[str] = "removes bright spots smaller than a square (Serra 1982)"

    size: int = 3
    """Width and height of the square in pixels, odd."""

    def __post_init__(self) -> None:
        odd(self, "size")

    def __call__(self, images: Tensor) -> Tensor:
        return _dilated(-_dilated(-images, self.size), self.size)


@dataclass(frozen=True)
class Closing(Defence):
    """Dilation, then erosion: dark spots smaller than the square vanish. closing(x) >= x, and twice is once.

    At the border the square is cut. The gradient goes to the pixels that are the extremes, which is the true one.
    Source: Serra 1982, "Image analysis and mathematical morphology".
    """

    name: ClassVar[str] = "closing"
    summary: ClassVar[str] = "removes dark spots smaller than a square (Serra 1982)"

    size: int = 3
    """Width and height of the square in pixels, odd."""

    def __post_init__(self) -> None:
        odd(self, "size")

    def __call__(self, images: Tensor) -> Tensor:
        return -_dilated(-_dilated(images, self.size), self.size)


def _dilated(images: Tensor, size: int) -> Tensor:
    return torch.nn.functional.max_pool2d(images, size, stride=1, padding=size // 2)
