"""Gaussian noise on images: n = mean + R e for standard normal e."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import BlindspotsError
from .rectified import covariance_root


@dataclass(frozen=True)
class Noise:
    """Noise on the P numbers of an image: its mean (P,), and R as the standard deviation of each (P,), or as (P, P)."""

    mean: Tensor
    root: Tensor

    @staticmethod
    def of(image: Tensor, sigma: float | Tensor, mean: Tensor | None = None) -> Noise:
        """Noise for images like this (C, H, W), in float64.

        Args:
            sigma: a standard deviation for all numbers, or one for each (C, H, W), or a covariance (P, P).
            mean: (C, H, W); zero by default.

        Raises:
            BlindspotsError: a shape that does not fit, a negative deviation, a matrix that is no covariance.
        """
        shape, size = tuple(image.shape), math.prod(image.shape)
        given = torch.as_tensor(sigma, dtype=torch.float64, device=image.device)
        centre = torch.zeros(size, dtype=torch.float64, device=image.device)
        if mean is not None:
            if tuple(mean.shape) != shape:
                raise BlindspotsError(f"the mean of the noise must have the shape {shape}, got {tuple(mean.shape)}")
            centre = mean.to(centre).flatten()
        if tuple(given.shape) == (size, size):
            return Noise(centre, covariance_root(given))
        if given.ndim and tuple(given.shape) != shape:
            raise BlindspotsError(
                f"sigma must be a number, of the shape {shape}, or a covariance ({size}, {size}), got the shape "
                f"{tuple(given.shape)}"
            )
        if not bool((torch.isfinite(given) & (given >= 0)).all()):
            raise BlindspotsError(
                f"sigma must be finite and not negative, got {float(given.min()):g} as its least value"
            )
        return Noise(centre, given.flatten().expand(size))

    def through(self, linear: Tensor) -> Tensor:
        """M R for a linear map M (..., n, P)."""
        return linear @ self.root if self.root.ndim == 2 else linear * self.root

    def draw(self, standard: Tensor) -> Tensor:
        """The noise (..., P) that standard normal numbers (..., P) stand for."""
        spread = standard @ self.root.mT.to(standard) if self.root.ndim == 2 else standard * self.root.to(standard)
        return self.mean.to(standard) + spread
