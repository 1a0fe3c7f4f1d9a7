"""The median of a window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .defence import Defence, extended, odd

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class MedianBlur(Defence):
    """Every pixel becomes the median of the window round it; border pixels are repeated outwards.

    The gradient goes to the pixel that is the median, which is the true one.
    Source: Xu et al. 2018, "Feature squeezing", arXiv:1704.01155.
    """

    name: ClassVar[str] = "median"
    summary: ClassVar[str] = "median of a window (Xu et al. 2018)"

    size: int = 3
    """Width and height of the window in pixels, odd."""

    def __post_init__(self) -> None:
        odd(self, "size")

    def __call__(self, images: Tensor) -> Tensor:
        wide = extended(images, self.size // 2)
        windows = wide.unfold(2, self.size, 1).unfold(3, self.size, 1)
        return windows.flatten(4).median(dim=4).values
