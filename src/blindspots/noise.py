"""Random numbers as a function, not a stream: the same image gets the same noise in any batch, on any device.

Every number is a hash (splitmix64, Steele, Lea and Flood 2014) of a per-image key and its place in the image. The key
itself is a hash of (seed, image index, words), where the words name the attack, the restart and the draw.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

from .lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit number
_MIX1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical shift to the right (torch shifts signed integers arithmetically)."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _MIX1
    x = (x ^ _shift(x, 27)) * _MIX2
    return x ^ _shift(x, 31)


def _word(word: int | str) -> int:
    if isinstance(word, str):
        return int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little", signed=True)
    return word


def key(seed: int, index: Tensor, *words: int | str) -> Tensor:
    """Keys (B,), int64, of the images with these stable indices (B,), for one purpose named by the words."""
    # The seed is mixed on its own first: seed ^ index alone would give (0, 1) and (1, 0) the same key.
    state = _mix(torch.full_like(index, seed, dtype=torch.int64) + _GOLDEN)
    state = _mix((state ^ index.to(torch.int64)) + _GOLDEN)
    for word in words:
        state = _mix((state ^ _word(word)) + _GOLDEN)
    return state


def _bits(keys: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Random 64-bit words (B, n) for n the number of elements of `shape`."""
    places = torch.arange(1, math.prod(shape) + 1, device=keys.device, dtype=torch.int64)
    return _mix(keys.unsqueeze(1) + places * _GOLDEN)


def uniform(keys: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Uniform numbers (B, *shape) in [0, 1): 24 random bits each, the same values in float32 and float64."""
    return (_shift(_bits(keys, shape), 40).to(dtype) * 2.0**-24).view(-1, *shape)


def normal(keys: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Standard normal numbers (B, *shape) by the transform of Box and Muller (1958), in float64 and then rounded."""
    bits = _bits(keys, shape)
    # Half a step keeps the first uniform off zero, where the logarithm would be infinite: |n| < 6.
    radius = torch.sqrt(-2.0 * torch.log((_shift(bits, 40).double() + 0.5) * 2.0**-24))
    angle = (bits & 0xFFFFFF).double() * (2.0 * math.pi * 2.0**-24)
    return (radius * torch.cos(angle)).to(dtype).view(-1, *shape)
