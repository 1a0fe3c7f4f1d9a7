"""Networks whose strides divide an image, on images of any size: filled up to a multiple at the edges, and cut back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn import functional as F

from ..errors import BlindspotsError

if TYPE_CHECKING:
    from torch import Tensor


class Padded(nn.Module):
    """network(images filled up with zeros to a multiple of `unit` pixels), cut back to the size of the images."""

    def __init__(self, network: nn.Module, unit: int) -> None:
        super().__init__()
        self.network, self.unit = network, unit

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W)."""
        height, width = images.shape[-2:]
        more = -height % self.unit, -width % self.unit
        top, left = more[0] // 2, more[1] // 2
        filled = F.pad(images, (left, more[1] - left, top, more[0] - top))
        answer: Tensor = self.network(filled)
        return answer[..., top : top + height, left : left + width]


def refuse_small(name: str, size: int, least: int, cure: str) -> None:
    """Refuse images of fewer than `least` pixels a side."""
    if size < least:
        raise BlindspotsError(f"'{name}' takes images of at least {least}x{least} pixels, got {size}x{size}: {cure}")
