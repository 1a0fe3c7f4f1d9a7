"""Part of a data set, ready for shuffled batches: in memory where it fits, read batch by batch where it does not.

Images whose values are all k/255 are kept as bytes (a quarter of the memory) and come back bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import ImageData

CHUNK = 2048  # images read at once
MEMORY = 2**30  # values (1 GiB as bytes, 4 GiB as float32) that are kept in memory


@dataclass(frozen=True, eq=False)
class Rows:
    """The images of `data` at `positions` (N,); `stored` (N, C, H, W) holds them as uint8 or float32, or is None."""

    data: ImageData
    positions: Tensor
    stored: Tensor | None

    def __len__(self) -> int:
        return len(self.positions)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images float32 (B, C, H, W) in [0, 1], labels (B,) and stable numbers (B,) of `rows` (B,) of this part."""
        positions = self.positions[rows]
        if self.stored is None:
            return self.data.take(positions)
        return _decode(self.stored[rows]), self.data.labels[positions], self.data.index[positions]


def read_rows(data: ImageData, positions: Tensor | None = None) -> Rows:
    """The images of `data` at `positions` (all where not given)."""
    positions = torch.arange(len(data)) if positions is None else positions
    if len(positions) * math.prod(data.shape) > MEMORY:
        return Rows(data, positions, None)
    chunks = []
    for start in range(0, len(positions), CHUNK):
        images = data.take(positions[start : start + CHUNK])[0]
        coded = (images * 255).round().to(torch.uint8)
        chunks.append(coded if torch.equal(_decode(coded), images) else images)
    if len({chunk.dtype for chunk in chunks}) > 1:
        chunks = [_decode(chunk) for chunk in chunks]
    return Rows(data, positions, torch.cat(chunks))


def channel_moments(rows: Rows) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over all images and pixels, each (C,).

    A constant channel gets deviation 1, so that dividing by it changes nothing.
    """
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for start in range(0, len(rows), CHUNK):
        images = rows.batch(torch.arange(start, min(start + CHUNK, len(rows))))[0].double()
        count += images.shape[0] * images.shape[2] * images.shape[3]
        total = total + images.sum(dim=(0, 2, 3))
        squares = squares + (images * images).sum(dim=(0, 2, 3))
    mean = total / count
    deviation = (squares / count - mean * mean).clamp(min=0).sqrt()
    deviation = torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation))
    return tuple(mean.tolist()), tuple(deviation.tolist())


def _decode(stored: Tensor) -> Tensor:
    return stored.float().div(255) if stored.dtype == torch.uint8 else stored
