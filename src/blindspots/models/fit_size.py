"""How large an image is after some layers, and a plain sentence where nothing is left of it."""

from __future__ import annotations

import torch
from torch import nn

from ..errors import BlindspotsError


def flattened(name: str, features: nn.Module, channels: int, size: int) -> int:
    """Values per image after `features` on (channels, size, size) images; found by trying one.

    Raises `BlindspotsError` when the layers eat the whole image, and names the smallest size they take.
    """
    values = _values(features, channels, size)
    if values is None:
        enough = next((larger for larger in range(size + 1, 65) if _values(features, channels, larger)), None)
        needs = f"at least {enough}x{enough} pixels" if enough else "larger images"
        raise BlindspotsError(
            f"'{name}' needs images of {needs}, got {size}x{size}: use another network (small-cnn takes 8x8) "
            "or larger images"
        )
    return values


def _values(features: nn.Module, channels: int, size: int) -> int | None:
    features.eval()  # so that dropout draws nothing and batch norm learns nothing
    try:
        with torch.no_grad():
            output = features(torch.zeros(1, channels, size, size))
    except RuntimeError:
        return None
    finally:
        features.train()
    return int(output.numel()) or None
