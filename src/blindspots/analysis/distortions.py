"""Distortion, and changes of a given distortion: amplified perturbations and Gaussian noise.

Source: Szegedy et al. 2014, "Intriguing properties of neural networks", arXiv:1312.6199, sections 4.2 and 4.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import noise
from ..lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

_HALVINGS = 50  # of the scale of clipped noise, which then is exact to the rounding of float64


def distortion(images: Tensor, changed: Tensor) -> Tensor:
    """sqrt(mean over the n values of (x' - x)^2), (B,) float64, of images x and x' (B, C, H, W)."""
    return (changed.double() - images.double()).flatten(1).square().mean(1).sqrt()


def amplified(images: Tensor, changed: Tensor, rms: float) -> Tensor:
    """x + r * rms * sqrt(n) / ||r||_2 for r = x' - x: of this distortion, and then clipped to [0, 1].

    Images that are not changed stay as they are. Differs from the paper: it prints the factor 0.1 / ||r||_2, which
    would give an l2 norm of 0.1, where its text and its table speak of a standard deviation of 0.1.
    """
    change = changed.double() - images.double()
    size = distortion(images, changed).view(-1, 1, 1, 1)
    # A change of 0 has no direction and stays 0.
    factor = torch.where(size > 0, rms / size.clamp(min=1e-300), torch.zeros_like(size))
    return (images.double() + factor * change).clamp(0, 1).to(images.dtype)


def gaussian(images: Tensor, rms: Tensor | float, keys: Tensor) -> Tensor:
    """clip(x + s e) for Gaussian noise e, with s for each image such that its distortion is `rms` (B,) after the clip.

    The distortion grows with s, so s is found by halving. Where no s reaches it, the noise is as large as it gets. e is
    a function of the keys (B,).
    """
    wanted = torch.as_tensor(rms, dtype=torch.float64).expand(len(images)).view(-1, 1, 1, 1).to(images.device)
    x = images.double()
    draw = noise.normal(keys, tuple(images.shape[1:]), torch.float64)
    low = torch.zeros_like(wanted)
    # Beyond this every value that is not all but still has met a bound.
    high = torch.full_like(wanted, 1e4)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        short = distortion(x, (x + middle * draw).clamp(0, 1)).view_as(wanted) < wanted
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    return (x + low * draw).clamp(0, 1).to(images.dtype)
