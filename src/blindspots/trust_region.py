"""The smallest change beyond a hyperplane that is within reach of where one is and inside the box, a row at a time.

Solves  min_z ||z||_p  subject to  <g, z> <= b,  ||z - y||_2 <= r,  0 <= x + z <= 1  for rows (B, n) of x, y and g and
numbers (B,) b and r. With multipliers for plane and ball the values come apart, and each is, clipped to the box,

    l2:    s y_i - l g_i                               linf:  y_i - l g_i, clipped to s ||y||_inf
    l1:    y_i - l g_i, drawn towards 0 by k = (1 / s - 1) ||y||_inf

with l >= 0 the smallest that keeps to the plane and s in [0, 1] the smallest that keeps to the ball: s = 1 is the
shortest way to the plane, s = 0 the solution that there is without the ball.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import halfspace
from .lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

# Halvings of s: the ball is a matter of trust, of which more digits mean nothing. Steps and accuracy of l.
_HALVINGS, _STEPS, _NEAR = 8, 30, 1e-6


def smallest(norm: str, x: Tensor, y: Tensor, gradient: Tensor, level: Tensor, reach: Tensor) -> Tensor:
    """The change z (B, ...) in that norm, `linf`, `l2` or `l1`, from y (B, ...), `level` being b and `reach` r.

    Where the plane is out of reach, z goes as far towards it as it may.
    """
    whole = halfspace.step(norm, gradient, (-level).clamp(min=0), x).flatten(1)
    x, y, g = x.flatten(1), y.flatten(1), gradient.flatten(1)
    # The size of the gradient is of no account.
    peak = g.abs().amax(1).clamp(min=1e-30)
    g, b = g / peak.unsqueeze(1), level / peak
    near = _NEAR * b.abs()

    def beyond(z: Tensor) -> Tensor:
        return (g * z).sum(1) <= b + 2 * near

    def away(z: Tensor) -> Tensor:
        length: Tensor = torch.linalg.vector_norm(z - y, dim=1)
        return length

    low, high = torch.zeros_like(b), torch.ones_like(b)
    best, price = _on_plane(norm, x, y, g, b, near, high, torch.zeros_like(b))
    best = y + (best - y) * (reach / away(best).clamp(min=1e-30)).clamp(max=1).unsqueeze(1)
    far = whole
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        z, price = _on_plane(norm, x, y, g, b, near, middle, price)
        plane = beyond(z)
        good = plane & (away(z) <= reach)
        best, far = torch.where(good.unsqueeze(1), z, best), torch.where((plane & ~good).unsqueeze(1), z, far)
        low, high = torch.where(good, low, middle), torch.where(good, middle, high)
    done = beyond(whole) & (away(whole) <= reach)
    return torch.where(done.unsqueeze(1), whole, _between(best, far, y, reach)).view_as(gradient)


def _between(best: Tensor, far: Tensor, y: Tensor, reach: Tensor) -> Tensor:
    """The last point within reach on the line from `best`, which is within reach of y, to `far`, which is smaller.

    Both are beyond the plane, and so is what lies between them.
    """
    start, way = best - y, far - best
    a, half, c = way.square().sum(1), (start * way).sum(1), start.square().sum(1) - reach.square()
    # |start + t way|^2 = reach^2, solved without the difference of two like numbers.
    root = (half.square() - a * c).clamp(min=0).sqrt()
    t = torch.where(half > 0, -c / (half + root).clamp(min=1e-30), (root - half) / a.clamp(min=1e-30))
    return best + t.clamp(0, 1).unsqueeze(1) * way


def _on_plane(
    norm: str, x: Tensor, y: Tensor, g: Tensor, b: Tensor, near: Tensor, s: Tensor, price: Tensor
) -> tuple[Tensor, Tensor]:
    """The change for these s (B,), and the price l of the plane, looked for from the one given.

    <g, z> falls with l along straight pieces: Newton steps inside a bracket, which is halved, or doubled while it has
    no end, where they leave it.
    """
    share, room, peak = s.unsqueeze(1), 1 - x, y.abs().amax(1, keepdim=True)
    least, most, zero = -x, room, torch.zeros_like(b)
    if norm == "linf":
        least, most = torch.maximum(least, -share * peak), torch.minimum(most, share * peak)
    start = share * y if norm == "l2" else y
    shrink = (1 / share - 1) * peak if norm == "l1" else None
    low, high = zero, torch.full_like(b, float("inf"))
    square = g.square()
    z = y
    for _ in range(_STEPS):
        moved = start - price.unsqueeze(1) * g
        if shrink is not None:
            moved = moved.sign() * (moved.abs() - shrink).clamp(min=0)
        z = torch.minimum(torch.maximum(moved, least), most)
        over = (g * z).sum(1) - b
        found = (over.abs() <= near) | ((price == 0) & (over <= 0))
        if halfspace.settled(found):
            break
        free = (moved > least) & (moved < most)
        slope = (square * (free if shrink is None else free & (moved != 0))).sum(1)
        low, high = torch.where(over > 0, price, low), torch.where(over > 0, high, price)
        newton = (price + over / slope.clamp(min=1e-30)).clamp(min=0)
        good = (slope > 0) & (newton < high) & ((newton > low) | (newton == 0))
        other = torch.where(torch.isinf(high), 2 * price + 1, (low + high) / 2)
        price = torch.where(found, price, torch.where(good, newton, other))
    return z, price
