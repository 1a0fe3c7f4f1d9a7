"""A small densely connected network for small images.

Source: Huang, Liu, van der Maaten, Weinberger, "Densely Connected Convolutional Networks", 2017,
arXiv:1608.06993, the basic form for CIFAR (no bottleneck, no compression).
Differs from the paper: depth 22 by default (40 and 100 there, by name `densenet40`); no dropout.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import BlindspotsError
from .fit_size import flattened


class DenseLayer(nn.Module):
    """Batch norm, ReLU, 3x3 convolution; its output is appended to its input."""

    def __init__(self, inside: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inside)
        self.conv = nn.Conv2d(inside, growth, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inside, H, W) -> (B, inside + growth, H, W)."""
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], dim=1)


def densenet(classes: int, channels: int, size: int, depth: int = 22, growth: int = 12) -> nn.Sequential:
    """Three blocks of (depth - 4) / 3 dense layers, halved in between, mean over pixels, FC `classes`."""
    if depth < 7 or depth % 3 != 1:
        raise BlindspotsError(
            f"the depth of a small dense network must be 3n+4 (22, 40, 100), got {depth}: "
            f"for the ImageNet networks write torchvision:densenet{depth}"
        )
    if growth < 1:
        raise BlindspotsError(f"densenet growth must be at least 1, got {growth}: the paper takes 12")
    width = 16
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
    for block in range(3):
        if block:
            layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 1, bias=False), nn.AvgPool2d(2)]
        for _ in range((depth - 4) // 3):
            layers.append(DenseLayer(width, growth))
            width += growth
    features = nn.Sequential(*layers, nn.BatchNorm2d(width), nn.ReLU())
    flattened(f"densenet{depth}", features, channels, size)
    network = nn.Sequential()
    network.add_module("features", features)
    network.add_module("pool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("output", nn.Linear(width, classes))
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
    return network
