"""How a network's answer becomes an image: the image itself, or a change that is held to a radius. Differentiable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..lazy import torch
from ..projection import l2

if TYPE_CHECKING:
    from torch import Tensor

Head = Literal["tanh", "sigmoid"]


@dataclass(frozen=True)
class Form:
    """From answers a = G(x) (B, C, H, W), unbounded, to images x' in [0, 1].

    Free (`radius` None): x' = sigmoid(a), or with tanh x' = clamp(x + tanh(a)).
    Held in linf: between the ends of ball and box, lo = max(x - radius, 0) and hi = min(x + radius, 1), x' = lo + (hi -
    lo) (1 + tanh(a)) / 2, or with sigmoid x' = x + (hi - x) sigmoid(a), so that no gradient is lost to the box.
    Held in l2: x' = clamp(x + s * head(a)), with `exact` the s at which ||x' - x|| = radius (or all of the box is used
    up), else the paper's s = min(1, radius / ||head(a)||).
    """

    head: Head
    norm: str
    radius: float | None
    exact: bool = True

    def __call__(self, answers: Tensor, images: Tensor) -> Tensor:
        d = answers.tanh() if self.head == "tanh" else answers.sigmoid()
        if self.radius is None:
            from .inward import into_box

            return d if self.head == "sigmoid" else into_box(images + d)
        if self.norm == "linf":
            high = (images + self.radius).clamp(max=1)
            if self.head == "sigmoid":
                return images + (high - images) * d
            low = (images - self.radius).clamp(min=0)
            return low + (high - low) * (1 + d) / 2
        change = filled(d, images, self.radius) if self.exact else shortened(d, self.radius)
        return (images + change).clamp(0, 1)


def shortened(d: Tensor, radius: float) -> Tensor:
    """d (B, ...) * min(1, radius / ||d||_2)."""
    return d * _share(d, radius).clamp(max=1)


def brought(d: Tensor, radius: float) -> Tensor:
    """d (B, ...) * radius / ||d||_2, where there is no box."""
    return d * _share(d, radius)


def _share(d: Tensor, radius: float) -> Tensor:
    size = d.flatten(1).square().sum(1).clamp(min=1e-24).sqrt()
    return (radius / size).view(-1, *[1] * (d.ndim - 1))


def filled(d: Tensor, images: Tensor, radius: float) -> Tensor:
    """The change in direction d (B, ...) that the box cuts off to just this size in l2, as far as the box has room.

    With A the values that the box cuts off, s = sqrt((radius^2 - sum_A room^2) / sum_{not A} d^2); the gradient is that
    of s * d at A as it is. Nowhere does a zero of d move.
    """
    flat, x = d.flatten(1), images.flatten(1)
    with torch.no_grad():
        # So long that every value that moves would reach the bound, were it not for the radius.
        long = flat * (_LONG * radius / flat.square().sum(1, keepdim=True).clamp(min=1e-24).sqrt())
        change = l2(x + long, x, torch.full_like(x[:, 0], radius)) - x
        room = torch.where(flat > 0, 1 - x, x)
        cut = change.abs() >= room
        left = (radius * radius - (change.square() * cut).sum(1, keepdim=True)).clamp(min=0)
    free = flat.masked_fill(cut, 0)
    scale = (left / free.square().sum(1, keepdim=True).clamp(min=1e-24)).clamp(min=1e-24).sqrt()
    return torch.where(cut, change, scale * free).view_as(d)


_LONG = 1e4
