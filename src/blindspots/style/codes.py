"""Codes: what the transfer network is told of a style and of a content, as planes of the size of the image.

Style: the Gram matrix of each style layer, resized to the image and repeated; four layers and 32 copies: 128 planes.
Content: the answers of the content layer, resized to the image; of VGG16's relu3_3 256 planes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def gram(features: Tensor) -> Tensor:
    """The Gram matrices (B, C, C) of features (B, C, H, W): G = F F^T / (C H W), with F the features as (C, H W).

    Symmetric, positive semi-definite, and blind to where in the image the features are.
    """
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])


def gram_planes(grams: Sequence[Tensor], size: int) -> Tensor:
    """Gram matrices (B, C, C), one a style layer, as planes (B, layers, size, size)."""
    return torch.cat([_resized(matrix.unsqueeze(1), size) for matrix in grams], dim=1)


def style_code(grams: Sequence[Tensor], size: int, copies: int = 32) -> Tensor:
    """The style code (B, layers * copies, size, size): the plane of each layer `copies` times, one after another."""
    return gram_planes(grams, size).repeat_interleave(copies, dim=1)


def content_code(features: Tensor, size: int) -> Tensor:
    """The content code (B, C, size, size) of features (B, C, H, W)."""
    return _resized(features, size)


def _resized(planes: Tensor, size: int) -> Tensor:
    resized: Tensor = torch.nn.functional.interpolate(
        planes, size=(size, size), mode="bilinear", align_corners=False, antialias=True
    )
    return resized
