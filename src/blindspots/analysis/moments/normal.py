"""The normal distribution in one and two dimensions: density, distribution function, and Phi2 of a correlated pair."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

NODES = 32  # of the Gauss-Legendre rule
STEEP = 0.9  # correlations beyond this are integrated from the other end, where the integrand is tame
TINY = 1e-12  # the least distance of a correlation from -1 and 1


def density(x: Tensor) -> Tensor:
    """phi(x) = exp(-x^2/2) / sqrt(2 pi)."""
    return torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def distribution(x: Tensor) -> Tensor:
    """Phi(x), the probability that a standard normal number is at most x."""
    found: Tensor = torch.special.ndtr(x)
    return found


def distribution2(a: Tensor, b: Tensor, rho: Tensor) -> Tensor:
    """Phi2(a, b; rho) = P(X <= a, Y <= b) for standard normal X and Y of correlation rho; differentiable.

    With sin t = rho, the derivative in t is exp(-(a^2 - 2ab sin t + b^2) / (2 cos^2 t)) / (2 pi). It is integrated by a
    32-point Gauss-Legendre rule: from rho = 0, where Phi2 = Phi(a) Phi(b), or, for |rho| > 0.9, to |rho| = 1, where
    Phi2 = Phi(min(a, b)).

    Args:
        a, b, rho: of one shape, or broadcast against each other; float64 for the accuracy of 1e-12.

    Source: Drezner and Wesolowsky 1990, "On the computation of the bivariate normal integral"; the end at 1 as in Genz
    2004, "Numerical computation of rectangular bivariate and trivariate normal and t probabilities". Differs from the
    papers: one rule of 32 nodes for all correlations.
    """
    a, b, rho = torch.broadcast_tensors(a, b, rho)  # type: ignore[no-untyped-call]
    rho = rho.clamp(-1 + TINY, 1 - TINY)
    steep = rho.abs() > STEEP
    found = distribution(a) * distribution(b) + _from_zero(a, b, rho.masked_fill(steep, 0.0))
    if not bool(steep.any()):
        return found
    # P(X <= a, Y <= b) = P(X <= a) - P(X <= a, -Y <= -b) turns a correlation near -1 into one near 1.
    sign = torch.where(rho < 0, -1.0, 1.0).to(rho)
    strong = torch.where(steep, rho * sign, 1 - TINY)
    tail = distribution(torch.minimum(a, sign * b)) - _to_one(a, sign * b, strong)
    return torch.where(steep, torch.where(sign < 0, distribution(a) - tail, tail), found)


def _from_zero(a: Tensor, b: Tensor, rho: Tensor) -> Tensor:
    end = torch.asin(rho)
    squares, product, total = a * a + b * b, 2 * a * b, torch.zeros_like(rho)
    for node, weight in _rule():
        sine = torch.sin(end * node)
        total = total + weight * torch.exp((product * sine - squares) / (2 - 2 * sine * sine))
    return total * end / (2 * math.pi)


def _to_one(a: Tensor, b: Tensor, rho: Tensor) -> Tensor:
    """The integral from rho to 1, in x = sqrt(1 - r^2): exp(-(d/x^2 + ab)/2) times a smooth function, d = (a - b)^2.

    That function's expansion to x^4, whose integral is known, is taken off, and the small rest is left to the rule.
    """
    d, ab = (a - b) ** 2, a * b
    square = (1 - rho) * (1 + rho)
    end = torch.sqrt(square)
    # 1 + c x^2 (1 + e x^2) is the expansion.
    c, e = (4 - ab) / 8, (12 - ab) / 16
    known = (
        end * torch.exp(-(d / square + ab) / 2) * (1 - c * (d - square) * (1 - e * d / 5) / 3 + c * e * square**2 / 5)
    )
    # Where ab is far below zero, a and b are so far apart that the tail is zero.
    gap = lengths(d)
    tail = math.sqrt(2 * math.pi) * distribution(-gap / end) * torch.exp(-ab.clamp(min=-100) / 2)
    total = known - tail * gap * (1 - c * d * (1 - e * d / 5) / 3)
    for node, weight in _rule():
        x = (end * node) ** 2
        r = torch.sqrt(1 - x)
        power = -(d / x + ab) / 2
        exact = torch.exp(power - ab * (1 - r) / (2 * (1 + r))) / r
        total = total + end * weight * (exact - torch.exp(power) * (1 + c * x * (1 + e * x)))
    return total / (2 * math.pi)


def lengths(squares: Tensor) -> Tensor:
    """Square roots, whose gradient is zero where they are zero."""
    live = squares > 0
    return torch.where(live, squares, 1.0).sqrt() * live


@cache
def _rule() -> tuple[tuple[float, float], ...]:
    """Nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return tuple((float(0.5 * (1 + x)), float(0.5 * w)) for x, w in zip(nodes, weights, strict=True))
