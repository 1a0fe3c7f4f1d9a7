"""Metrics of descent: linear maps P, symmetric and positive definite, that stand for the inverse Hessian at first."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from ..lazy import torch
from ..settings import above

if TYPE_CHECKING:
    from torch import Tensor


class Metric(ABC):
    """A linear map P, x'Py = y'Px and x'Px > 0, the same for every row. Its steepest descent is along -P g."""

    @abstractmethod
    def __call__(self, theta: Tensor) -> Tensor:
        """P theta, of the shape of theta (R, ...). No row depends on another."""


@dataclass(frozen=True)
class Smoothing(Metric):
    """P = (1 + l^2 L)^-1 of each channel of fields theta (R, C, H, W), with l = sides * sqrt(H * W) pixels.

    L is the graph Laplacian of the grid, (L f)_p = sum_q (f_p - f_q) over the neighbours above, below, left and right
    within the image: f' L f sums (f_p - f_q)^2 over all pairs of neighbours. So waves much longer than l keep their
    length under P, shorter ones are damped by the square of theirs, and what is constant over the image stays.
    Its eigenvectors are those of the discrete cosine transform: P takes four products with H x H and W x W matrices.

    Source: gradients in the Sobolev metric H1, e.g. Neuberger 1997, "Sobolev gradients and differential equations".

    >>> import torch
    >>> Smoothing(1.0)(torch.tensor([[[[1.0, 1.0], [1.0, 1.0]]], [[[1.0, -1.0], [1.0, -1.0]]]])).flatten(1)
    tensor([[ 1.0000,  1.0000,  1.0000,  1.0000],
            [ 0.1111, -0.1111,  0.1111, -0.1111]])
    """

    sides: float = 1.0

    def __post_init__(self) -> None:
        above(self, sides=0)

    def __call__(self, theta: Tensor) -> Tensor:
        height, width = theta.shape[-2:]
        down, right, shares = _waves(height, width, self.sides, theta.dtype, str(theta.device))
        fields = theta.reshape(-1, height, width)
        # A product for each field: one for all would round differently with their number.
        down, right = (waves.expand(len(fields), -1, -1) for waves in (down, right))
        waves = torch.bmm(torch.bmm(down, fields), right.mT) * shares
        return torch.bmm(torch.bmm(down.mT, waves), right).view_as(theta)


@lru_cache(maxsize=8)
def _waves(height: int, width: int, sides: float, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """The orthonormal cosine transforms (H, H), (W, W), and what P leaves of each pair of waves (H, W)."""
    transforms, values = [], []
    for size in (height, width):
        number = torch.arange(size, dtype=torch.float64)
        waves = torch.cos(torch.pi / size * torch.outer(number, number + 0.5)) * (2 / size) ** 0.5
        waves[0] /= 2**0.5
        transforms.append(waves.to(device, dtype))
        values.append(2 - 2 * torch.cos(torch.pi / size * number))
    laplacian = values[0].unsqueeze(1) + values[1]
    shares = 1 / (1 + sides**2 * height * width * laplacian)
    return transforms[0], transforms[1], shares.to(device, dtype)
