"""U-Net and autoencoder: a stack of strided convolutions down, and of transposed ones up again.

Source: Poursaeed, Katsman, Gao, Belongie, "Generative Adversarial Perturbations", 2018, arXiv:1712.02328, whose U-Net
is that of Isola et al. 2017, arXiv:1611.07004.
Differs from the paper: the number of levels follows the size of the images (eight at 256 pixels); images are filled
up to a multiple of 2^levels; a level of one pixel has no norm; no dropout unless asked for; at the size of the image a
3x3 convolution sees the input beside the last level (`fine`), since a stride of two loses where exactly a line is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..errors import BlindspotsError
from .padding import Padded, refuse_small

if TYPE_CHECKING:
    from torch import Tensor

NORMS: dict[str, type[nn.Module]] = {"batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d, "none": nn.Identity}

# Up to this size norms cost more time than they spare, and narrow networks do.
_SMALL = 64


class UNet(nn.Module):
    """(B, channels, H, W) -> (B, channels, H, W), H and W multiples of 2^len(widths); unbounded values.

    Level i is a convolution 4x4 of stride 2 to widths[i] channels. With `skips` the way up sees the activations of the
    way down beside its own.
    """

    def __init__(
        self, channels: int, widths: tuple[int, ...], skips: bool, norm: str, dropout: float, fine: int, small: bool
    ) -> None:
        super().__init__()
        levels, self.skips = len(widths), skips
        inside = (channels, *widths[:-1])
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, (before, after) in enumerate(zip(inside, widths, strict=True)):
            plain = level == 0 or (level == levels - 1 and small)
            act = nn.Identity() if level == 0 else nn.LeakyReLU(0.2)
            self.down.append(
                nn.Sequential(act, nn.Conv2d(before, after, 4, 2, 1), _norm("none" if plain else norm, after))
            )
        last = fine or channels
        for level in reversed(range(levels)):
            before = widths[level] * (2 if skips and level < levels - 1 else 1)
            after = last if level == 0 else widths[level - 1]
            part = [
                nn.ReLU(inplace=True),
                nn.ConvTranspose2d(before, after, 4, 2, 1),
                _norm("none" if level == 0 else norm, after),
            ]
            self.up.append(nn.Sequential(*part, *([nn.Dropout(dropout)] if dropout and levels - 3 <= level else [])))
        self.first = nn.Conv2d(channels, fine, 3, padding=1) if fine and skips else None
        self.last = None
        if fine:
            both = fine * (2 if skips else 1)
            self.last = nn.Sequential(
                nn.ReLU(inplace=True),
                nn.Conv2d(both, fine, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(fine, channels, 3, padding=1),
            )

    def forward(self, images: Tensor) -> Tensor:
        kept, x = [], images
        for part in self.down:
            x = part(x)
            kept.append(x)
        for number, part in enumerate(self.up):
            if number and self.skips:
                x = torch.cat((x, kept[-1 - number]), 1)
            x = part(x)
        if self.first is not None:
            x = torch.cat((x, self.first(images)), 1)
        return x if self.last is None else self.last(x)


def unet(
    channels: int,
    size: int,
    width: int = 0,
    levels: int = 0,
    norm: str = "",
    dropout: float = 0.0,
    fine: int = 16,
) -> nn.Module:
    """U-Net with 1, 2, 4, 8, 8, ... x `width` channels; levels 0 takes as many as halve the image to one pixel.

    Width 0 and no norm given: 16 and none up to 64 pixels, and the paper's 64 and batch above.
    """
    return _build("unet", channels, size, width, levels, norm, dropout, fine, True)


def autoencoder(
    channels: int,
    size: int,
    width: int = 0,
    levels: int = 0,
    norm: str = "",
    dropout: float = 0.0,
    fine: int = 16,
) -> nn.Module:
    """The same without skips: all that is known of the image goes through the narrowest level."""
    return _build("autoencoder", channels, size, width, levels, norm, dropout, fine, False)


def _build(
    name: str, channels: int, size: int, width: int, levels: int, norm: str, dropout: float, fine: int, skips: bool
) -> nn.Module:
    norm = norm or ("none" if size <= _SMALL else "batch")
    if norm not in NORMS:
        raise BlindspotsError(f"the norm of '{name}' must be one of {', '.join(NORMS)}, got '{norm}'")
    if width < 0 or levels < 0 or fine < 0 or not 0 <= dropout < 1:
        raise BlindspotsError(
            f"'{name}' needs width, levels and fine of at least 0 and dropout in [0, 1), got "
            f"width {width}, levels {levels}, fine {fine}, dropout {dropout}"
        )
    width = width or (16 if size <= _SMALL else 64)
    # More than half of what the network sees must be image.
    refuse_small(name, size, max(2, 2 ** (levels - 1) + 1 if levels else 2), "take fewer levels, or larger images")
    levels = levels or min(8, math.ceil(math.log2(size)))
    widths = tuple(width * min(2**level, 8) for level in range(levels))
    filled = -(-size // 2**levels) * 2**levels
    network = UNet(channels, widths, skips, norm, dropout, fine, small=filled == 2**levels)
    return Padded(network, 2**levels)


def _norm(name: str, channels: int) -> nn.Module:
    return NORMS[name](channels)
