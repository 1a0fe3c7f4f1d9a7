"""TI: translation invariance, the gradient smoothed by a Gaussian kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..errors import BlindspotsError
from ..lazy import torch
from .transform import Transform

if TYPE_CHECKING:
    from torch import Tensor

# The kernel reaches to so many standard deviations.
REACH = 3.0


@dataclass(frozen=True)
class Translation(Transform):
    """The gradient convolved with a Gaussian kernel of `size` pixels, which ends at three standard deviations.

    That is about the mean of the gradients of shifted images.

    Source: Dong et al. 2019, "Evading defenses to transferable adversarial examples by translation-invariant attacks",
    arXiv:1904.02884. Differs from the paper: nothing.
    """

    name: ClassVar[str] = "ti"
    summary: ClassVar[str] = "translation invariance: smoothed gradients (Dong et al. 2019)"

    size: int = 15
    """Side of the kernel in pixels, odd."""

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1 or self.size % 2 == 0:
            raise BlindspotsError(
                f"Translation.size must be an odd number of pixels such as 7 or 15, got {self.size!r}"
            )

    @property
    def copies(self) -> int:
        return 1

    def change(self, images: Tensor, keys: Tensor, copy: int) -> Tensor:
        return images

    def smooth(self, gradient: Tensor) -> Tensor:
        half = self.size // 2
        weights = [math.exp(-0.5 * (REACH * k / half) ** 2) if half else 1.0 for k in range(-half, half + 1)]
        # The kernel is a product of two lines. Sums of shifted copies, unlike a convolution, round the same in any
        # batch.
        for axis in (2, 3):
            pad = (0, 0, half, half) if axis == 2 else (half, half)
            wide, side = torch.nn.functional.pad(gradient, pad), gradient.shape[axis]
            gradient = torch.zeros_like(gradient)
            for k, weight in enumerate(weights):
                gradient.add_(wide.narrow(axis, k, side), alpha=weight / sum(weights))
        return gradient
