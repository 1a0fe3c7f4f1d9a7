"""Images on their way to drawn versions of themselves: x' = x + sum_k theta_k (T_k(x) - x), theta (R, K)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from ..lazy import torch
from .space import Space

if TYPE_CHECKING:
    from torch import Tensor


class Styled(Space):
    """Mixtures of images with K drawn versions of each, of shares theta_k >= 0 with sum_k theta_k <= radius <= 1.

    Mixtures of points of the box lie in it. The radius is no size of the change: at 1 it may be all of the image.

    Args:
        images: (R, C, H, W) in [0, 1].
        drawn: their versions T_k(x) (R, K, C, H, W) in [0, 1].
        radius: the largest sum of shares.
    """

    def __init__(self, images: Tensor, drawn: Tensor, radius: float) -> None:
        self.images, self.drawn, self.radius = images, drawn, radius

    def zero(self) -> Tensor:
        return self.images.new_zeros(self.drawn.shape[:2])

    def start(self, keys: Tensor) -> Tensor:
        """All of the radius on one version."""
        which = torch.remainder(keys, self.drawn.shape[1]).unsqueeze(1)
        return self.zero().scatter_(1, which, self.radius)

    def apply(self, theta: Tensor, rows: slice) -> Tensor:
        images = self.images[rows]
        # Rounding may leave the box by the last digit.
        change = (theta[..., None, None, None] * (self.drawn[rows] - images.unsqueeze(1))).sum(1)
        return (images + change).clamp(0, 1)

    def project(self, theta: Tensor) -> Tensor:
        """The nearest shares: cut off at 0 and, where their sum is too large, all lowered alike until it fits."""
        cut = theta.clamp(min=0)
        ordered = cut.sort(dim=1, descending=True).values
        places = torch.arange(1, theta.shape[1] + 1, dtype=theta.dtype, device=theta.device)
        levels = (ordered.cumsum(1) - self.radius) / places
        level = levels.gather(1, (ordered > levels).sum(1, keepdim=True).clamp(min=1) - 1)
        return torch.where(cut.sum(1, keepdim=True) <= self.radius, cut, (cut - level).clamp(min=0))

    def size(self, theta: Tensor) -> Tensor:
        return theta.sum(1)

    def measures(self, theta: Tensor) -> dict[str, Tensor]:
        """`style`, the sum of the shares."""
        return {"style": self.size(theta.double())}

    def within(self, theta: Tensor) -> Tensor:
        """No share below 0, and their sum at most radius * (1 + 1e-6)."""
        return (theta >= 0).all(1) & (self.size(theta.double()) <= self.radius * (1 + 1e-6))

    def narrow(self, rows: Tensor) -> Self:
        return type(self)(self.images[rows], self.drawn[rows], self.radius)
