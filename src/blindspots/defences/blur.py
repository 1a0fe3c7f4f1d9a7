"""Blurs: the mean of a window, and a Gaussian."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..lazy import torch
from ..settings import above
from .defence import Defence, boxed, extended, odd

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class MeanBlur(Defence):
    """Every pixel becomes the mean of the window round it; border pixels are repeated outwards.

    Source: Li and Li 2017, arXiv:1612.07767; against flows, Xiao et al. 2018, arXiv:1801.02612 (3 x 3).
    """

    name: ClassVar[str] = "mean-blur"
    summary: ClassVar[str] = "mean of a window (Li and Li 2017)"

    size: int = 3
    """Width and height of the window in pixels, odd."""

    def __post_init__(self) -> None:
        odd(self, "size")

    def __call__(self, images: Tensor) -> Tensor:
        wide = extended(images, self.size // 2)
        return boxed(torch.nn.functional.avg_pool2d(wide, self.size, stride=1))


@dataclass(frozen=True)
class GaussianBlur(Defence):
    """Convolution with a Gaussian, cut off at three standard deviations and normalised; border pixels are repeated."""

    name: ClassVar[str] = "gaussian-blur"
    summary: ClassVar[str] = "convolution with a Gaussian"

    sigma: float = 1.0
    """Standard deviation in pixels."""

    def __post_init__(self) -> None:
        above(self, sigma=0)

    def __call__(self, images: Tensor) -> Tensor:
        rows, columns = (self._filter(length).to(images.device, images.dtype) for length in images.shape[-2:])
        return boxed(rows @ images @ columns.T)

    def _filter(self, length: int) -> Tensor:
        """The matrix (n, n) that blurs a line of pixels; as a product of matrices the blur is ten times as fast."""
        margin = math.ceil(3 * self.sigma)
        offset = torch.arange(-margin, margin + 1)
        kernel = torch.exp(-0.5 * (offset.double() / self.sigma).square())
        source = (torch.arange(length).unsqueeze(1) + offset).clamp(0, length - 1)
        matrix = torch.zeros(length, length, dtype=torch.float64)
        return matrix.scatter_add_(1, source, (kernel / kernel.sum()).expand(length, -1))
