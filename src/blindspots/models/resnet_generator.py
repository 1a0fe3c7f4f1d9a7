"""The generator of residual blocks at a quarter of the resolution.

Source: Poursaeed et al. 2018, arXiv:1712.02328, after Johnson, Alahi, Fei-Fei 2016, arXiv:1603.08155.
Differs from the paper: images are filled up to a multiple of 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from ..errors import BlindspotsError
from .padding import Padded, refuse_small
from .unet import NORMS

if TYPE_CHECKING:
    from torch import Tensor


class Residual(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), 3x3 with reflected edges."""

    def __init__(self, width: int, norm: str) -> None:
        super().__init__()
        self.way = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), NORMS[norm](width), nn.ReLU(),
            nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), NORMS[norm](width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = x + self.way(x)
        return answer


def resnet_generator(channels: int, size: int, width: int = 64, blocks: int = 6, norm: str = "batch") -> nn.Module:
    """Conv 7x7 to `width`, two 3x3 of stride 2 (2, 4 x `width`), residual blocks, two transposed 3x3, conv 7x7."""
    if norm not in NORMS:
        raise BlindspotsError(f"the norm of 'resnet-generator' must be one of {', '.join(NORMS)}, got '{norm}'")
    if width < 1 or blocks < 0:
        raise BlindspotsError(
            f"'resnet-generator' needs a width of at least 1 and blocks of at least 0, got {width} and {blocks}"
        )
    # Edges of one pixel are reflected at a quarter of the size.
    refuse_small("resnet-generator", size, 5, "take larger images, or the unet")
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(channels, width, 7), NORMS[norm](width), nn.ReLU()]
    for wide in (width, 2 * width):
        layers += [nn.Conv2d(wide, 2 * wide, 3, 2, 1), NORMS[norm](2 * wide), nn.ReLU()]
    layers += [Residual(4 * width, norm) for _ in range(blocks)]
    for wide in (4 * width, 2 * width):
        layers += [nn.ConvTranspose2d(wide, wide // 2, 3, 2, 1, output_padding=1), NORMS[norm](wide // 2), nn.ReLU()]
    layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, channels, 7)]
    return Padded(nn.Sequential(*layers), 4)
