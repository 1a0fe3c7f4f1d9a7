"""The smallest step onto a hyperplane inside the box [0, 1], a row at a time, exact.

Each solves  min_d ||d||_p  subject to  <g, d> = -gap,  0 <= x + d <= 1,  for rows (B, n) of x and g and gaps (B,); a
negative gap asks for a rise. Values move against the sign of g, each as far as the box leaves room: in linf all by the
same t, in l2 in proportion to |g|, in l1 those of largest |g| first. Where the box is too small for it, every value
goes to its bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

# Each Newton step clamps at least one more value; beyond these many the rest is rounding.
_STEPS = 50


def step(norm: str, gradient: Tensor, gap: Tensor, x: Tensor) -> Tensor:
    """The step (B, ...) in that norm: `linf`, `l2` or `l1`; zero where the gradient is zero."""
    g = (gradient * gap.sign().view(-1, *[1] * (gradient.ndim - 1))).flatten(1)
    peak = g.abs().amax(1).clamp(min=1e-30)
    slope, flat = g.abs() / peak.unsqueeze(1), x.flatten(1)
    room = torch.where(g > 0, flat, 1 - flat)
    need = gap.abs() / peak
    if norm == "l1":
        size = _greedy(slope, room, need)
    else:
        size = _level(slope, room, need, torch.ones_like(slope) if norm == "linf" else slope)
    return (-g.sign() * size).view_as(gradient)


def settled(rows: Tensor) -> bool:
    """Is there nothing left to do for any of the rows (B,)? Asked on the CPU alone: elsewhere looking would wait."""
    return rows.device.type == "cpu" and bool(rows.all())


def _level(slope: Tensor, room: Tensor, need: Tensor, unit: Tensor) -> Tensor:
    """min(t * unit, room) with the smallest t at which sum slope * min(t * unit, room) is what is needed.

    The sum is concave and rising in t, so Newton steps from the t that would do without a box never pass the solution.
    """
    gain = slope * unit
    t = need / gain.sum(1).clamp(min=1e-30)
    for _ in range(_STEPS):
        asked = t.unsqueeze(1) * unit
        size = torch.minimum(asked, room)
        free = (gain * (asked < room)).sum(1)
        risen = t + (need - (slope * size).sum(1)) / free.clamp(min=1e-30)
        moves = (free > 0) & (risen > t * (1 + 2e-7))
        if settled(~moves):
            break
        t = torch.where(moves, risen, t)
    return torch.where(slope > 0, torch.minimum(t.unsqueeze(1) * unit, room), 0)


def _greedy(slope: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """As much of each value as is needed, largest slopes first."""
    order = slope.argsort(dim=1, descending=True, stable=True)
    ranked, width = slope.gather(1, order), room.gather(1, order)
    given = ranked * width
    before = given.cumsum(1) - given
    share = (need.unsqueeze(1) - before) / ranked.clamp(min=1e-30)
    size = torch.minimum(share.clamp(min=0), width) * (ranked > 0)
    return torch.zeros_like(slope).scatter_(1, order, size)
