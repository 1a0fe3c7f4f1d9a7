"""Random changes of training images, each a function of (seed, epoch, index) and not of the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import BlindspotsError
from ..lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Augment:
    """Mirror and shift training images.

    Args:
        flip: mirror left and right with probability 1/2.
        shift: move by a whole number of pixels, uniform in -shift..shift, in each direction; what enters is black.

    Raises:
        BlindspotsError: shift is negative.

    Example:
        >>> Augment(flip=True, shift=4)
        Augment(flip=True, shift=4)

    Source: He, Zhang, Ren and Sun, "Deep residual learning for image recognition" (2016, arXiv:1512.03385),
    section 4.2, with flip=True and shift=4 on 32-pixel images. Differs from the paper: nothing.
    """

    flip: bool = False
    shift: int = 0

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise BlindspotsError(f"Augment.shift must be at least 0 pixels, got {self.shift}")

    def __call__(self, images: Tensor, index: Tensor, *, seed: int, epoch: int) -> Tensor:
        """Change images (B, C, H, W) whose stable numbers are `index` (B,); returns a new tensor unless idle."""
        from .draws import draw, uniform

        numbers = index.numpy()
        if self.flip:
            mirrored = torch.from_numpy(uniform(draw(seed, epoch, 0, numbers)) < 0.5)
            images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        if self.shift:
            count, _, height, width = images.shape
            span = 2 * self.shift + 1
            down, right = (
                torch.from_numpy((uniform(draw(seed, epoch, axis, numbers)) * span).astype("int64")) for axis in (1, 2)
            )
            padded = torch.nn.functional.pad(images, (self.shift,) * 4)
            rows = (down[:, None] + torch.arange(height))[:, None, :, None]
            columns = (right[:, None] + torch.arange(width))[:, None, None, :]
            who = torch.arange(count)[:, None, None, None]
            channels = torch.arange(images.shape[1])[None, :, None, None]
            images = padded[who, channels, rows, columns]
        return images
