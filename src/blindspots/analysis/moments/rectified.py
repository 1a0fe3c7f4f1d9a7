"""Exact moments of max(z, 0) for Gaussian z, and of an affine map after it.

Source: Bibi, Alfadly, Ghanem, "Analytic Expressions for Probabilistic Moments of PL-DNN with Gaussian Input", CVPR
2018 (the mean, and the covariance where the mean of z is zero); Price 1958 and Mehler 1866 for the series. Differs from
the paper: the covariance holds for any mean of z, which the paper's form does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import BlindspotsError
from .forms import FORMS, Form
from .normal import TINY, density, distribution, distribution2, lengths

TERMS = 4  # of the series
CHUNK = 2**21  # entries of a covariance that are worked on at a time


@dataclass(frozen=True)
class LogitMoments:
    """The mean (..., K) and the covariance (..., K, K) of K numbers."""

    mean: Tensor
    covariance: Tensor

    @property
    def variance(self) -> Tensor:
        """(..., K), never negative."""
        return self.covariance.diagonal(dim1=-2, dim2=-1).clamp(min=0)


@dataclass(frozen=True)
class Rectified:
    """What max(z, 0) needs to know of z ~ N(mean, ...), number by number: all of shape (..., n).

    With a = m/s: `level` = a, `gain` = Phi(a), `bump` = phi(a), `mean` = m Phi(a) + s phi(a),
    `variance` = (m^2 + s^2) Phi(a) + m s phi(a) - mean^2. Where s = 0, mean = max(m, 0) and variance = 0.
    """

    scale: Tensor
    level: Tensor
    gain: Tensor
    bump: Tensor
    mean: Tensor
    variance: Tensor


def rectified(mean: Tensor, scale: Tensor) -> Rectified:
    """The numbers of max(z, 0) for z of this mean and standard deviation, (..., n) each; differentiable."""
    live = scale > 0
    level = mean / torch.where(live, scale, 1.0)
    gain, bump = distribution(level), density(level)
    first = torch.where(live, mean * gain + scale * bump, mean.clamp(min=0))
    # The textbook form cancels at large a; max(z, 0) = z + max(-z, 0), and Cov(z, max(-z, 0)) = -s^2 Phi(-a).
    other, far = distribution(-level), bump - level.abs() * distribution(-level.abs())
    near = torch.where(level < 0, gain, other)
    rest = (1 + level**2) * near - level.abs() * bump - far**2
    cross = torch.where(level > 0, 1 - 2 * near, 0.0)
    variance = torch.where(live, scale**2 * (rest + cross), 0.0).clamp(min=0)
    return Rectified(scale, level, gain, bump, first, variance)


def covariance_rows(part: Rectified, whole: Rectified, joint: Tensor, form: Form) -> Tensor:
    """C (..., r, n), the covariance of max(z_i, 0) and max(z_j, 0), off the diagonal.

    Args:
        part, whole: the rows asked for and all numbers.
        joint: S (..., r, n), the covariance of z_i and z_j.
        form: `general`, by Phi2, for any mean; `series`, four terms of Mehler's series
            sum_k c_k(i) c_k(j) rho^k / k!, where c_1 = s Phi(a), c_2 = s phi(a), c_3 = -s a phi(a), c_4 = s (a^2 - 1)
            phi(a); `first-order`, its first term, S_ij Phi(a_i) Phi(a_j); `zero-mean`, the closed form for z of mean
            zero, whatever the mean is: the form of the paper, wrong elsewhere.
    """
    s, t = part.scale.unsqueeze(-1), whole.scale.unsqueeze(-2)
    if form == "first-order":
        return joint * part.gain.unsqueeze(-1) * whole.gain.unsqueeze(-2)
    sizes = s * t
    rho = (joint / torch.where(sizes > 0, sizes, 1.0)).clamp(-1 + TINY, 1 - TINY)
    if form == "zero-mean":
        return sizes * (rho * torch.acos(-rho) + torch.sqrt(1 - rho * rho) - 1) / (2 * math.pi)
    if form == "series":
        return sizes * series(part, whole, rho)
    a, b = part.level.unsqueeze(-1).expand_as(joint), whole.level.unsqueeze(-2).expand_as(joint)
    q = torch.sqrt(1 - rho * rho)
    both = torch.exp(-(a * a - 2 * rho * a * b + b * b) / (2 * q * q)) / (2 * math.pi * q)
    product = (
        (a * b + rho) * distribution2(a, b, rho)
        + b * density(a) * distribution((b - rho * a) / q)
        + a * density(b) * distribution((a - rho * b) / q)
        + q * q * both
    )
    means = (a * distribution(a) + density(a)) * (b * distribution(b) + density(b))
    found: Tensor = sizes * (product - means)
    return found


def series(part: Rectified, whole: Rectified, rho: Tensor, terms: int = TERMS) -> Tensor:
    """The first terms of the correlation-like sum of `covariance_rows`, without the factor s_i s_j."""
    rows, columns = coefficients(part, terms), coefficients(whole, terms)
    total = torch.zeros_like(rho)
    # Horner's scheme from the last term.
    for k in range(terms, 0, -1):
        total = (total + rows[k - 1].unsqueeze(-1) * columns[k - 1].unsqueeze(-2) / float(math.factorial(k))) * rho
    return total


def coefficients(of: Rectified, terms: int) -> list[Tensor]:
    """c_1 / s .. c_terms / s: Phi(a), phi(a), -a phi(a), (a^2 - 1) phi(a), ...: Hermite polynomials times phi."""
    found, before, now = [of.gain], torch.zeros_like(of.level), torch.ones_like(of.level)
    for k in range(terms - 1):
        found.append((-1) ** k * now * of.bump)
        before, now = now, of.level * now - k * before
    return found


def spread(weight: Tensor, of: Rectified, root: Tensor, form: Form) -> Tensor:
    """B C B^T (..., K, K), for the covariance C of max(z, 0) with its diagonal exact, made some rows at a time.

    Args:
        weight: B (..., K, n).
        of: the numbers of z.
        root: R (..., n, r) with S = R R^T.
    """
    if form == "first-order":
        linear = (weight * of.gain.unsqueeze(-2)) @ root
        own = of.variance - (of.scale * of.gain) ** 2
        return linear @ linear.mT + (weight * own.unsqueeze(-2)) @ weight.mT
    own = of.variance
    if form == "zero-mean":
        own = of.scale**2 * (0.5 - 0.5 / math.pi)
    total = (weight * own.unsqueeze(-2)) @ weight.mT
    for rows in row_blocks(root):
        part = Rectified(*(getattr(of, name)[..., rows] for name in Rectified.__dataclass_fields__))
        block = covariance_rows(part, of, root[..., rows, :] @ root.mT, form)
        block = block.masked_fill(_diagonal(rows, root), 0.0)
        total = total + weight[..., rows] @ (block @ weight.mT)
    return total


def row_blocks(root: Tensor) -> Iterator[slice]:
    """Blocks of rows of S that hold at most CHUNK entries, over all S at once."""
    n = root.shape[-2]
    step = max(1, CHUNK // max(1, n * math.prod(root.shape[:-2])))
    for start in range(0, n, step):
        yield slice(start, min(n, start + step))


def _diagonal(rows: slice, root: Tensor) -> Tensor:
    here = torch.arange(rows.start, rows.stop, device=root.device)
    return here.unsqueeze(1) == torch.arange(root.shape[-2], device=root.device)


def affine_relu_affine(
    A: Tensor, c1: Tensor, B: Tensor, c2: Tensor, mean: Tensor, covariance: Tensor, *, form: Form = "general"
) -> LogitMoments:
    """Mean and covariance of g(x) = B max(Ax + c1, 0) + c2 for x ~ N(mean, covariance), in float64.

    Args:
        A, c1, B, c2: (..., n, P), (..., n), (..., K, n), (..., K).
        mean, covariance: (..., P) and (..., P, P).
        form: of the off-diagonal covariance of max(z, 0), see `covariance_rows`; `general` and nothing else is exact.

    Raises:
        BlindspotsError: a covariance that is not symmetric positive semi-definite.

    >>> one, zero = torch.eye(1), torch.zeros(1)
    >>> found = affine_relu_affine(one, zero, one, zero, zero, one)
    >>> round(float(found.mean), 6), round(float(found.variance), 6)  # 1/sqrt(2 pi), 1/2 - 1/(2 pi)
    (0.398942, 0.340845)
    """
    checked_form(form)
    A, c1, B, c2, mean = (given.double() for given in (A, c1, B, c2, mean))
    root = A @ covariance_root(covariance)
    of = rectified((A @ mean.unsqueeze(-1)).squeeze(-1) + c1, lengths(root.square().sum(-1)))
    return LogitMoments((B @ of.mean.unsqueeze(-1)).squeeze(-1) + c2, spread(B, of, root, form))


def checked_form(form: str) -> None:
    if form not in FORMS:
        raise BlindspotsError(f"form must be one of {', '.join(FORMS)}, got '{form}'")


def covariance_root(covariance: Tensor) -> Tensor:
    """R (..., P, P) in float64 with R R^T the covariance (..., P, P).

    Raises:
        BlindspotsError: it is not a finite, symmetric, positive semi-definite matrix.
    """
    covariance = covariance.double()
    if covariance.ndim < 2 or covariance.shape[-1] != covariance.shape[-2]:
        raise BlindspotsError(f"a covariance must be a square matrix, got the shape {tuple(covariance.shape)}")
    if not bool(torch.isfinite(covariance).all()):
        raise BlindspotsError("a covariance must hold finite numbers, got NaN or infinity")
    size = float(covariance.detach().abs().max()) if covariance.numel() else 0.0
    if not torch.allclose(covariance, covariance.mT, rtol=0, atol=1e-9 * size):
        raise BlindspotsError("a covariance must be symmetric: give (C + C^T) / 2 if it is meant to be")
    values, vectors = torch.linalg.eigh(covariance)
    least = float(values.detach().min())
    if least < -1e-9 * size:
        raise BlindspotsError(
            f"a covariance must be positive semi-definite, got one with the eigenvalue {least:.3g}: no Gaussian has it"
        )
    root: Tensor = vectors * values.clamp(min=0).sqrt().unsqueeze(-2)
    return root
