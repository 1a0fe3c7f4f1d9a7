"""A small Inception network for 28 and 32 pixel images.

Source: Zhang, Bengio, Hardt, Recht, Vinyals, "Understanding deep learning requires rethinking generalization",
2017, arXiv:1611.03530, appendix A ("Inception (small)").
Differs from the paper: the mean is over all pixels, so that any image size fits; `width` scales all channels.
"""

from __future__ import annotations

import torch
from torch import nn

from ..errors import BlindspotsError
from .fit_size import flattened

# (1x1 channels, 3x3 channels) of an Inception block, or the 3x3 channels of a block that halves the image
PLAN: tuple[tuple[int, int] | int, ...] = (
    (32, 32),
    (32, 48),
    80,
    (112, 48),
    (96, 64),
    (80, 80),
    (48, 96),
    96,
    (176, 160),
    (176, 160),
)


class Branches(nn.Module):
    """Two branches over the same input, joined along the channels."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first = first
        self.second = second

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C of both, H', W')."""
        return torch.cat([self.first(x), self.second(x)], dim=1)


def inception_small(classes: int, channels: int, size: int, width: float = 1.0) -> nn.Sequential:
    """Conv 96, ten blocks in three resolutions, mean over pixels, FC `classes`; 1.65 million parameters."""
    if not 0 < width <= 16:
        raise BlindspotsError(f"inception-small width must be above 0 and at most 16, got {width}: the paper has 1")

    def scaled(count: int) -> int:
        return max(1, round(count * width))

    inside = scaled(96)
    layers: list[nn.Module] = [_conv(channels, inside, 3)]
    for step in PLAN:
        if isinstance(step, int):
            layers.append(Branches(_conv(inside, scaled(step), 3, stride=2), nn.MaxPool2d(3, 2, 1)))
            inside += scaled(step)
        else:
            one, three = map(scaled, step)
            layers.append(Branches(_conv(inside, one, 1), _conv(inside, three, 3)))
            inside = one + three
    features = nn.Sequential(*layers)
    flattened("inception-small", features, channels, size)
    network = nn.Sequential()
    network.add_module("features", features)
    network.add_module("pool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("output", nn.Linear(inside, classes))
    return network


def _conv(inside: int, outside: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outside), nn.ReLU())
