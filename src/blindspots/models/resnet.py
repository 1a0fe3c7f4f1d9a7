"""Residual networks for small images (ResNet-20, 32, 44, 56, 110).

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2016, arXiv:1512.03385, section 4.2.
Shortcuts that change shape skip every second pixel and pad channels with zeros (option A): no parameters.
Differs from the paper: nothing.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import BlindspotsError
from .fit_size import flattened


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm, added to the input."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outside)
        self.stride = stride
        self.new = outside - inside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inside, H, W) -> (B, outside, H/stride, W/stride)."""
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if self.stride != 1 or self.new:
            x = x[:, :, :: self.stride, :: self.stride]
            x = F.pad(x, (0, 0, 0, 0, self.new // 2, self.new - self.new // 2))
        return F.relu(y + x)


def resnet(classes: int, channels: int, size: int, depth: int = 20) -> nn.Sequential:
    """Three stages of (depth - 2) / 6 blocks with 16, 32, 64 channels, mean over pixels, FC `classes`."""
    if depth < 8 or depth % 6 != 2:
        raise BlindspotsError(
            f"the depth of a small residual network must be 6n+2 (20, 32, 44, 56, 110), got {depth}: "
            f"for the ImageNet networks write torchvision:resnet{depth} or timm:resnet{depth}"
        )
    layers: list[nn.Module] = [nn.Conv2d(channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    inside = 16
    for outside, stride in ((16, 1), (32, 2), (64, 2)):
        for number in range((depth - 2) // 6):
            layers.append(Block(inside, outside, stride if number == 0 else 1))
            inside = outside
    features = nn.Sequential(*layers)
    flattened(f"resnet{depth}", features, channels, size)
    network = nn.Sequential()
    network.add_module("features", features)
    network.add_module("pool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("output", nn.Linear(64, classes))
    for part in network.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight)
    return network
