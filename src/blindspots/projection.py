"""Euclidean projections onto the meet of a ball round x and the box [0, 1], a row at a time, exact.

With d = y - x the step that was asked for, and room lo <= z - x <= hi left by the box, each solves
    min_z ||z - y||_2   subject to   ||z - x||_p <= r,  0 <= z <= 1
for all rows at once, (B, n) tensors and radii (B,). The solutions have one scalar per row (a scale or a threshold) that
is found by iterations whose every stop is feasible, so an early stop costs optimality, never feasibility.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

# The scale of l2 takes one step per newly clamped group of pixels; the threshold of l1 is bisected when Newton fails.
_SCALE_STEPS, _THRESHOLD_STEPS = 50, 100


def box(y: Tensor) -> Tensor:
    """Projection onto the box [0, 1]."""
    return y.clamp(0, 1)


def linf_bounds(x: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """The lowest and the highest image (B, n) in the linf ball and the box, rounded inwards.

    Rounded to nearest, x + r can leave the ball by half a unit in the last place, which is more than 1e-6 of a radius
    of 1/255; the bounds step inwards there, so |z - x| <= r holds exactly in real arithmetic.
    """
    r = radius.unsqueeze(1).double()
    low, high = (x.double() - r).clamp_(0, 1), (x.double() + r).clamp_(0, 1)
    if x.dtype == torch.float64:
        return low, high
    low_r, high_r = low.to(x.dtype), high.to(x.dtype)
    infinity = torch.tensor(float("inf"), dtype=x.dtype, device=x.device)
    low_r = torch.where(low_r.double() < low, torch.nextafter(low_r, infinity), low_r)
    high_r = torch.where(high_r.double() > high, torch.nextafter(high_r, -infinity), high_r)
    return low_r, high_r


def l2(y: Tensor, x: Tensor, radius: Tensor) -> Tensor:
    """Onto the l2 ball and the box: |z - x| = min(s |d|, room) with the largest s <= 1 of norm at most r.

    sum_i min(t d_i^2, room_i^2) is concave and rising in t = s^2, so Newton steps from the value that would hold if no
    pixel were clipped never pass the solution, and end once no further pixel is clipped.
    """
    d = y - x
    size2, room2, r2 = d.square(), _room(d, x).square_(), radius.square()
    outside = torch.minimum(size2, room2).sum(1) > r2
    if not bool(outside.any()):
        return box(y)
    t = (r2 / size2.sum(1).clamp(min=1e-30)).clamp_(max=1)
    for _ in range(_SCALE_STEPS):
        step = size2 * t.unsqueeze(1)
        short = r2 - torch.minimum(step, room2).sum(1)
        free2 = (size2 * (step < room2)).sum(1)
        risen = (t + short / free2.clamp(min=1e-30)).clamp_(max=1)
        moves = outside & (risen > t * (1 + 2e-7))
        t = torch.where(moves, risen, t)
        if not bool(moves.any()):
            break
    # The rounding of a sum of many squares may leave the norm a few parts in 10^7 too large.
    scaled = d * (t.sqrt() * _inwards(d)).unsqueeze(1)
    return box(torch.where(outside.unsqueeze(1), _moved(x, scaled), y))


def l1(y: Tensor, x: Tensor, radius: Tensor) -> Tensor:
    """Onto the l1 ball and the box: |z - x| = min(max(|d| - t, 0), room) with the smallest t >= 0 of sum at most r.

    The sum falls piecewise linearly with t; Newton steps on its pieces are kept inside a shrinking bracket.
    """
    d = y - x
    size, room = d.abs(), _room(d, x)
    outside = torch.minimum(size, room).sum(1) > radius
    if not bool(outside.any()):
        return box(y)
    # A stop is good to within rounding: a finer one would never be reached in float32.
    target, near = radius * _inwards(d), max(1 - _inwards(d), 1e-12)
    low, high = torch.zeros_like(radius), size.amax(1)
    t, nothing = low, torch.zeros((), dtype=d.dtype, device=d.device)
    for _ in range(_THRESHOLD_STEPS):
        left = size - t.unsqueeze(1)
        kept = torch.clamp(left, nothing, room)
        excess = kept.sum(1) - target
        slope = ((kept == left) & (left > 0)).sum(1)
        low, high = torch.where(excess > 0, t, low), torch.where(excess > 0, high, t)
        newton = t + excess / slope.clamp(min=1)
        good = (newton > low) & (newton < high) & (slope > 0)
        ahead = torch.where(good, newton, (low + high) / 2)
        done = (excess.abs() <= near * target) | (high - low <= near * high) | ~outside
        if bool(done.all()):
            break
        t = torch.where(done, t, ahead)
    # `high` is the last threshold whose sum was at most the radius; `low` serves where its excess is rounding.
    t = torch.where((excess > 0) & (excess <= near * target), low, high)
    kept = torch.clamp(size - t.unsqueeze(1), nothing, room)
    return box(torch.where(outside.unsqueeze(1), _moved(x, torch.where(d > 0, kept, -kept)), y))


def l0(y: Tensor, x: Tensor, radius: Tensor) -> Tensor:
    """Onto at most r changed values in the box: keep those whose return to x would cost most, exactly r of ties.

    Keeping value i costs (y_i - clip(y_i))^2 and giving it up costs (y_i - x_i)^2; the largest differences stay.
    """
    z = box(y)
    gain = (y - x).square() - (y - z).square()
    count = min(int(radius.max()), gain.shape[1])
    if count == 0:
        return x.clone()
    best = gain.topk(count, dim=1)
    rank = torch.arange(count, device=y.device)
    chosen = (rank < radius.floor().unsqueeze(1)) & (best.values > 0)
    keep = torch.zeros_like(gain, dtype=torch.bool).scatter_(1, best.indices, chosen)
    return torch.where(keep, z, x)


def _room(d: Tensor, x: Tensor) -> Tensor:
    """How far each value can move in the direction of d before it leaves the box."""
    return torch.where(d > 0, 1 - x, x)


def _moved(x: Tensor, change: Tensor) -> Tensor:
    """x + change, rounded towards x: no value moves further than asked, so a ball of any size holds.

    Rounded to nearest, each value of an image is off by up to 3e-8 in float32, which is more than 1e-6 of a small
    radius.
    """
    moved = x + change
    if x.dtype == torch.float64:
        return moved
    further = (moved.double() - x.double()).abs() > change.double().abs()
    return torch.where(further, torch.nextafter(moved, x), moved)


def _inwards(d: Tensor) -> float:
    return 1 - 4 * torch.finfo(d.dtype).eps
