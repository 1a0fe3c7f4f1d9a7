"""Additive changes inside a ball: x' = x + delta with ||delta||_p <= radius and x' in [0, 1].

theta is the changed image x' itself, not delta: then apply is the identity, the box holds exactly and no rounding of
x + (x' - x) lies between what was judged and what is returned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from ..geometry import NORMS
from ..lazy import torch
from ..projection import box, linf_bounds
from .space import Space

if TYPE_CHECKING:
    from torch import Tensor


class Additive(Space):
    """The ball of a norm round each image, cut by the box.

    Args:
        images: clean images (R, C, H, W) in [0, 1].
        norm: `linf`, `l2`, `l1` or `l0`.
        radius: one number for all images, or one an image (R,), in units of [0, 1] (l0: a count).
    """

    def __init__(self, images: Tensor, norm: str, radius: float | Tensor) -> None:
        self.images = images
        self.norm = NORMS[norm]
        # Radii stay in float64: 8/255 rounded to float32 is another number, and the ball is exact.
        self.radius = torch.as_tensor(radius, dtype=torch.float64, device=images.device).expand(len(images))
        # The linf ball in the box is itself a box; its corners are worth keeping.
        self._bounds = linf_bounds(images.flatten(1), self.radius) if norm == "linf" else None

    def zero(self) -> Tensor:
        return self.images.clone()

    def start(self, keys: Tensor) -> Tensor:
        return self.project(self.norm.sample(keys, self.images, self._radius()))

    def apply(self, theta: Tensor, rows: slice) -> Tensor:
        return theta

    def project(self, theta: Tensor) -> Tensor:
        if self._bounds is None:
            return self.norm.project(theta, self.images, self._radius())
        low, high = self._bounds
        return torch.clamp(theta.flatten(1), low, high).view_as(theta)

    def bounds(self) -> tuple[Tensor, Tensor]:
        """The box; in linf the ball within it."""
        if self._bounds is None:
            return torch.zeros_like(self.images), torch.ones_like(self.images)
        low, high = self._bounds
        return low.view_as(self.images), high.view_as(self.images)

    def size(self, theta: Tensor) -> Tensor:
        return self.norm.size(theta - self.images)

    def change(self, theta: Tensor) -> Tensor:
        """The change (R, C, H, W) of the images at theta."""
        return theta - self.images

    def slope(self, gradient: Tensor) -> Tensor:
        """The gradient with respect to the change, from that with respect to theta."""
        return gradient

    def place(self, change: Tensor) -> Tensor:
        """The theta of a change (R, C, H, W), cut by the box."""
        return box(self.images + change)

    def within(self, theta: Tensor) -> Tensor:
        """In the box exactly, and ||x' - x|| <= radius * (1 + 1e-6) as computed in float64."""
        size = self.norm.size(theta.double() - self.images.double())
        inside = ((theta >= 0) & (theta <= 1)).flatten(1).all(1)
        return inside & (size <= self.radius * (1 + 1e-6))

    def narrow(self, rows: Tensor) -> Self:
        part = object.__new__(type(self))
        part.images, part.norm, part.radius = self.images[rows], self.norm, self.radius[rows]
        part._bounds = None if self._bounds is None else (self._bounds[0][rows], self._bounds[1][rows])
        return part

    def _radius(self) -> Tensor:
        return self.radius.to(self.images.dtype)
