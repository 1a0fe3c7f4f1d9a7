"""Planes through an image in the space of all images: their axes, the network on them, where box and balls end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .. import noise
from ..batching import chunks, fill
from ..geometry import norm
from ..lazy import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ..classifiers import Classifier

Random = Literal["inward", "gaussian"]


@dataclass(frozen=True)
class Plane:
    """Points x + a u + b v: the image x (C, H, W), and u, v (C, H, W) of l2 length 1 at a right angle.

    a and b are then l2 distances in pixel units, and a circle round the origin is the l2 ball.
    """

    origin: Tensor
    u: Tensor
    v: Tensor

    def points(self, a: Tensor, b: Tensor) -> Tensor:
        """The points (N, C, H, W) at a and b (N,); not held to the box."""
        a, b = (values.view(-1, 1, 1, 1) for values in (a, b))
        return self.origin + a * self.u + b * self.v


def plane(origin: Tensor, end: Tensor, key: Tensor, random: Random) -> tuple[Plane, float]:
    """The plane through an image, a changed image (C, H, W) and a random direction, and how far apart the two are.

    u = (end - origin) / ||end - origin||; v is what a random direction g has at a right angle to u. `gaussian`: every
    value of g is normal. `inward`: the same, but a value that would leave the box at a black or white pixel is turned
    round, so that x + b g stays in the box at first: else images with black grounds meet it in a line.
    """
    change = end - origin
    length = float(change.norm())
    u = change / max(length, 1e-30)
    g = noise.normal(key.view(1), tuple(origin.shape), origin.dtype)[0]
    if random == "inward":
        g = torch.where(origin <= 0, g.abs(), torch.where(origin >= 1, -g.abs(), g))
    v = g - (g * u).sum() * u
    v = v - (v * u).sum() * u  # once more, for what rounding left
    return Plane(origin, u, v / v.norm()), length


def logits_at(model: Classifier, plane: Plane, a: Tensor, b: Tensor) -> Tensor:
    """Logits (N, K) at points of the plane, also where they are no images; points are made a model batch at a time."""
    parts = []
    image = plane.origin[None]
    with model.session(), torch.no_grad():
        for chunk in chunks(len(a), model.layout(image).shapes):
            at = plane.points(*(fill(values[chunk.rows], chunk.shape) for values in (a, b)))
            parts.append(model.forward(at, exact=True)[chunk.valid])
    return torch.cat(parts)


def ball_edge(plane: Plane, name: str, radius: float, angles: Tensor) -> Tensor:
    """How far the ball of a norm reaches (N,) from the image in each direction cos(angle) u + sin(angle) v."""
    measure = norm(name)
    return torch.cat([radius / measure.size(d).clamp(min=1e-30) for d in _directions(plane, angles)])


def box_edge(plane: Plane, angles: Tensor) -> Tensor:
    """How far the points in [0, 1] reach (N,) from the image in each direction; 0 where the first step leaves it."""
    x = plane.origin[None]
    # Per value: the distance to the bound that it moves to, over its speed.
    reach = [
        torch.where(d > 0, (1 - x) / d.clamp(min=1e-30), torch.where(d < 0, x / (-d).clamp(min=1e-30), math.inf))
        for d in _directions(plane, angles)
    ]
    return torch.cat([values.flatten(1).amin(1) for values in reach])


def _directions(plane: Plane, angles: Tensor) -> Sequence[Tensor]:
    """Directions (n, C, H, W) of length 1, at most 2^22 values at a time."""
    size = max(1, 2**22 // plane.origin.numel())
    unit = Plane(torch.zeros_like(plane.origin), plane.u, plane.v)
    return [unit.points(part.cos(), part.sin()) for part in torch.split(angles.to(plane.origin), size)]
