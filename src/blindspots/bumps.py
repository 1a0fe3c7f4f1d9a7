"""Windows of images, each image's its own, and the bumps that fill them: what square-shaped random searches paint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import noise
from .lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

# How steeply a bump falls with the rank of its rings: 1 / rank^2 in l2, 1 / rank^4 in l1.
FALL = {"l2": 2, "l1": 4}
_TINY = 1e-30


def bumps(side: int, like: Tensor, norm: str) -> Tensor:
    """Two bumps (side, side) of opposite sign, one above the other, of size 1 in all.

    A bump falls from its centre with the rank m of the square ring: sum_{k >= m} 1 / (k + 1)^2, in l1 / (k + 1)^4.
    """
    halves, device = [], like.device
    for height, sign in ((side // 2, 1.0), (side - side // 2, -1.0)):
        i = (torch.arange(height, device=device) - height // 2).abs()
        j = (torch.arange(side, device=device) - side // 2).abs()
        rings = max(height, side) // 2 + 1
        weight = 1 / torch.arange(1, rings + 1, dtype=torch.float64, device=device) ** FALL[norm]
        tail = weight.flip(0).cumsum(0).flip(0)
        half = tail[torch.maximum(i.unsqueeze(1), j)]
        halves.append(sign * half / _size(half, norm).clamp(min=_TINY))
    shape = torch.cat(halves)
    return (shape / _size(shape, norm)).to(like)


def tiles(keys: Tensor, like: Tensor, norm: str) -> Tensor:
    """Images (R, C, H, W) of tiles of two bumps, a fifth of the side each; keys (R,) draw how they lie and their signs.

    What no whole tile covers is 0.
    """
    channels, height, width = like.shape[1:]
    side = max(min(height, width) // 5, 1)
    down, across = height // side, width // side
    draw = noise.uniform(keys, (channels + 1, down, across), torch.float64)
    i = torch.arange(height, device=like.device) - (height - down * side) // 2
    j = torch.arange(width, device=like.device) - (width - across * side) // 2
    inside = ((i >= 0) & (i < down * side)).unsqueeze(1) & ((j >= 0) & (j < across * side))
    i, j = i.clamp(0, down * side - 1).unsqueeze(1), j.clamp(0, across * side - 1)
    each = draw[:, :, i // side, j // side]
    shape = bumps(side, like, norm)
    tile = torch.where(each[:, :1] < 0.5, shape[i % side, j % side], shape.mT[i % side, j % side])
    return tile * inside * signs(each[:, 1:], like.dtype)


def window(draw: Tensor, side: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """A square in each image, (R, 1, H, W) bool, with its first row and column (R,), from two uniform numbers."""
    top = (draw[:, 0] * (height - side + 1)).long()
    left = (draw[:, 1] * (width - side + 1)).long()
    i = torch.arange(height, device=draw.device) - top.unsqueeze(1)
    j = torch.arange(width, device=draw.device) - left.unsqueeze(1)
    rows, columns = (i >= 0) & (i < side), (j >= 0) & (j < side)
    return (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1), top, left


def placed(shape: Tensor, top: Tensor, left: Tensor, turned: Tensor, height: int, width: int) -> Tensor:
    """The shape (s, s), turned or not, at its place in each image: (R, 1, H, W), arbitrary outside the window."""
    side = len(shape)
    i = (torch.arange(height, device=top.device) - top.unsqueeze(1)).clamp(0, side - 1).unsqueeze(2)
    j = (torch.arange(width, device=left.device) - left.unsqueeze(1)).clamp(0, side - 1).unsqueeze(1)
    return torch.where(turned.view(-1, 1, 1), shape.mT[i, j], shape[i, j]).unsqueeze(1)


def signs(draw: Tensor, dtype: torch.dtype) -> Tensor:
    """-1 or 1 from uniform numbers."""
    return torch.where(draw < 0.5, -1.0, 1.0).to(dtype)


def _size(values: Tensor, norm: str) -> Tensor:
    return values.square().sum().sqrt() if norm == "l2" else values.abs().sum()
