"""The lattice of 8-bit images, and the part of it that lies in a ball round the clean image.

A pixel value is a level k = 0 .. 255 and means k / 255. Everything here counts in levels: tensors (B, n) of float64
whole numbers, radii and sizes times 255, so that what is inside the ball is decided in exact arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..geometry import NORMS, norm, sizes

TOP = 255
# A stored clean value this near a level (four units in the last place of a float32 in [0.5, 1), 2^-22) is that level.
_SNAP = TOP * 2.0**-22
# Slack of "inside", in levels: 4e-9 in units of [0, 1], far below a level and far above the rounding of float64.
_SLACK = 1e-6
_POWER = {"l0": 0, "l1": 1, "l2": 2}

# What it costs to move from these levels to those, (B, n) each; smaller is moved first.
Cost = Callable[[Tensor, Tensor], Tensor]


def pixels(levels: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The images (B, *shape) of levels (B, n), float32: exactly what an 8-bit file divided by 255 gives.

    Read from a table made on the CPU, since an accelerator may divide by 255 as a product with a rounded 1 / 255.

    >>> pixels(torch.tensor([[0.0, 51.0, 255.0]]), (1, 1, 3)).flatten().tolist()
    [0.0, 0.20000000298023224, 1.0]
    """
    table = torch.arange(TOP + 1, dtype=torch.float32, device="cpu").div(TOP).to(levels.device)
    return table[levels.long()].view(-1, *shape)


def in_levels(images: Tensor) -> Tensor:
    """Images (B, C, H, W) as real numbers of levels (B, n), float64; what is stored as a level is that whole number.

    >>> in_levels(torch.tensor([[[[0.2, 0.5]]]])).tolist()
    [[51.0, 127.5]]
    """
    scaled = images.flatten(1).double() * TOP
    nearest = scaled.round()
    return torch.where((scaled - nearest).abs() <= _SNAP, nearest, scaled)


@dataclass(frozen=True)
class Ball:
    """The 8-bit images at most `radius` away from each clean image in one norm.

    Attributes:
        norm: linf, l2, l1 or l0.
        radius: in levels; for l0 the number of changed values.
        clean: (B, n), real numbers of levels.
        base: (B, n), the 8-bit image nearest to the clean one.
        possible: (B,), whether the ball holds any 8-bit image; `base` is one if so.
        low, high: (B, n), the lowest and the highest level that linf allows.
    """

    norm: str
    radius: float
    clean: Tensor
    base: Tensor
    possible: Tensor
    low: Tensor
    high: Tensor

    def inside(self, levels: Tensor) -> Tensor:
        """Which 8-bit images (B, n) are in the ball, (B,) bool."""
        return NORMS[self.norm].size(levels - self.clean) <= self.radius + _SLACK

    def sizes(self, levels: Tensor) -> dict[str, Tensor]:
        """The change (B,) of 8-bit images (B, n) in every norm, in units of [0, 1]; l0 counts changed values."""
        return sizes((levels - self.clean) / TOP)

    def nearest(self, images: Tensor) -> Tensor:
        """Plain rounding: the nearest levels (B, n) to images (B, C, H, W), then into the ball.

        linf: each value to the nearest level that is at most `radius` away from the clean value. l2, l1: values move
        back towards the clean image one level at a time until the image is inside, those first that lose least squared
        distance to the image asked for per unit of size won. l0: likewise, values move back all the way.
        Where the ball holds no 8-bit image: the nearest levels.
        """
        wanted = in_levels(images)
        return self.pull(wanted.round(), lambda here, there: (there - wanted).square() - (here - wanted).square())

    def pull(self, levels: Tensor, cost: Cost) -> Tensor:
        """Bring 8-bit images (B, n) into the ball by moving values back, cheapest per unit of size won first.

        Where the ball holds no 8-bit image they stay as they are.
        """
        levels = torch.minimum(torch.maximum(levels, self.low), self.high)
        if self.norm == "linf":
            return levels
        # Each round frees all the size that is missing, or moves every value one level back.
        while True:
            missing = self._spent(levels).sum(1) - self._allowed
            over = (missing > 0) & self.possible & (levels != self.base).any(1)
            if not bool(over.any()):
                return levels
            back = self.base if self.norm == "l0" else levels + (self.base - levels).sign()
            won = self._spent(levels) - self._spent(back)
            price = torch.where(back != levels, cost(levels, back) / won.clamp(min=_SLACK), float("inf"))
            order = price.argsort(dim=1, stable=True)
            sorted_won = won.gather(1, order)
            taken = (sorted_won.cumsum(1) - sorted_won < missing.unsqueeze(1)) & over.unsqueeze(1)
            levels = torch.where(torch.zeros_like(taken).scatter_(1, order, taken), back, levels)

    def take(self, rows: Tensor) -> Ball:
        """The balls of some of the images."""
        parts = (self.clean, self.base, self.possible, self.low, self.high)
        return Ball(self.norm, self.radius, *(part[rows] for part in parts))

    def _spent(self, levels: Tensor) -> Tensor:
        """What each value adds to the size: |d|^p, or whether it is changed."""
        change = (levels - self.clean).abs()
        return (change != 0).double() if self.norm == "l0" else change.pow(_POWER[self.norm])

    @property
    def _allowed(self) -> float:
        return self.radius if self.norm == "l0" else float((self.radius + _SLACK / 2) ** _POWER[self.norm])


def ball(images: Tensor, norm_name: str, radius: float) -> Ball:
    """The 8-bit images round clean images (B, C, H, W) as stored, at most `radius` (units of [0, 1]; l0: values) away.

    >>> around = ball(torch.tensor([[[[0.2]]]]), "linf", 2 / 255)
    >>> around.low.item(), around.high.item()
    (49.0, 53.0)
    """
    scaled = radius if norm(norm_name).name == "l0" else radius * TOP
    clean = in_levels(images)
    base = clean.round()
    possible = NORMS[norm_name].size(base - clean) <= scaled + _SLACK
    low, high = torch.zeros_like(base), torch.full_like(base, TOP)
    if norm_name == "linf":
        held = possible.unsqueeze(1)
        low = torch.where(held, (clean - scaled - _SLACK).ceil().clamp(min=0), low)
        high = torch.where(held, (clean + scaled + _SLACK).floor().clamp(max=TOP), high)
    return Ball(norm_name, scaled, clean, base, possible, low, high)
