"""The four norms in which a change is measured, each with all that attacks ask of it.

Tensors are (B, ...) with everything after the batch flattened; radii and sizes are (B,), in units of [0, 1] (l0 counts
changed values). `NORMS` is the table by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal, get_args

from . import noise, projection
from .errors import unknown
from .lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

NormName = Literal["linf", "l2", "l1", "l0"]
BallName = Literal["linf", "l2", "l1"]
NORM_NAMES: tuple[str, ...] = get_args(NormName)


class Norm(ABC):
    """A norm (for l0: a count) and its ball."""

    name: str
    dual: str

    def size(self, change: Tensor) -> Tensor:
        """The norm (B,) of each change (B, ...)."""
        return self._size(change.flatten(1))

    def project(self, y: Tensor, x: Tensor, radius: Tensor) -> Tensor:
        """The image nearest to y (B, ...) in l2, within the radius (B,) of x and within [0, 1]; x must be in [0, 1]."""
        return self._project(y.flatten(1), x.flatten(1), radius).view_as(y)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The step of unit size along which <gradient, step> falls fastest; zero where the gradient is zero."""
        return self._steepest(gradient.flatten(1)).view_as(gradient)

    def sample(self, keys: Tensor, x: Tensor, radius: Tensor) -> Tensor:
        """A uniform draw from the ball of radius (B,) round x, then projected onto the box; keys (B,) of `noise`."""
        flat = x.flatten(1)
        return projection.box(flat + self._sample(keys, flat, radius)).view_as(x)

    @abstractmethod
    def _size(self, change: Tensor) -> Tensor: ...

    @abstractmethod
    def _project(self, y: Tensor, x: Tensor, radius: Tensor) -> Tensor: ...

    @abstractmethod
    def _steepest(self, gradient: Tensor) -> Tensor: ...

    @abstractmethod
    def _sample(self, keys: Tensor, x: Tensor, radius: Tensor) -> Tensor: ...


class Linf(Norm):
    """max_i |d_i|; steepest step -sign(g)."""

    name, dual = "linf", "l1"

    def _size(self, change: Tensor) -> Tensor:
        return change.abs().amax(1)

    def _project(self, y: Tensor, x: Tensor, radius: Tensor) -> Tensor:
        low, high = projection.linf_bounds(x, radius)
        return torch.minimum(torch.maximum(y, low), high)

    def _steepest(self, gradient: Tensor) -> Tensor:
        return -gradient.sign()

    def _sample(self, keys: Tensor, x: Tensor, radius: Tensor) -> Tensor:
        return (2 * noise.uniform(keys, x.shape[1:], x.dtype) - 1) * radius.unsqueeze(1)


class L2(Norm):
    """sqrt(sum_i d_i^2); steepest step -g / ||g||_2."""

    name, dual = "l2", "l2"

    def _size(self, change: Tensor) -> Tensor:
        size: Tensor = torch.linalg.vector_norm(change, dim=1)
        return size

    def _project(self, y: Tensor, x: Tensor, radius: Tensor) -> Tensor:
        return projection.l2(y, x, radius)

    def _steepest(self, gradient: Tensor) -> Tensor:
        # Scaled by the largest entry first: the square of a tiny gradient would vanish.
        scaled = gradient / gradient.abs().amax(1, keepdim=True).clamp(min=_TINY)
        return -scaled / self._size(scaled).clamp(min=_TINY).unsqueeze(1)

    def _sample(self, keys: Tensor, x: Tensor, radius: Tensor) -> Tensor:
        n = x.shape[1]
        direction = noise.normal(keys, (n,), x.dtype)
        share = noise.uniform(noise.key(0, keys, "radius"), (1,), x.dtype).pow(1 / n)
        length = self._size(direction).clamp(min=_TINY).unsqueeze(1)
        return direction * (share * radius.unsqueeze(1) / length)


class L1(Norm):
    """sum_i |d_i|; steepest step: the one value with the largest |g_i|, by -sign(g_i)."""

    name, dual = "l1", "linf"

    def _size(self, change: Tensor) -> Tensor:
        return change.abs().sum(1)

    def _project(self, y: Tensor, x: Tensor, radius: Tensor) -> Tensor:
        return projection.l1(y, x, radius)

    def _steepest(self, gradient: Tensor) -> Tensor:
        best = gradient.abs().argmax(1, keepdim=True)
        return torch.zeros_like(gradient).scatter_(1, best, -gradient.gather(1, best).sign())

    def _sample(self, keys: Tensor, x: Tensor, radius: Tensor) -> Tensor:
        n = x.shape[1]
        # n + 1 exponential gaps of sum 1 are uniform on the simplex; the last is the share left unused.
        gaps = -torch.log1p(-noise.uniform(keys, (n + 1,), torch.float64))
        sign = noise.uniform(noise.key(0, keys, "sign"), (n,), torch.float64) * 2 - 1
        return (sign.sign() * gaps[:, :n] / gaps.sum(1, keepdim=True) * radius.unsqueeze(1)).to(x.dtype)


class L0(Norm):
    """The number of changed values; steepest step of unit size: the one value with the largest |g_i|, to its bound.

    No norm: it counts, and has no dual. A unit step in it is one value, moved by one whole range.
    """

    name, dual = "l0", "none"

    def _size(self, change: Tensor) -> Tensor:
        return (change != 0).sum(1).to(change.dtype)

    def _project(self, y: Tensor, x: Tensor, radius: Tensor) -> Tensor:
        return projection.l0(y, x, radius)

    def _steepest(self, gradient: Tensor) -> Tensor:
        return NORMS["l1"]._steepest(gradient)

    def _sample(self, keys: Tensor, x: Tensor, radius: Tensor) -> Tensor:
        n = x.shape[1]
        order = noise.uniform(noise.key(0, keys, "place"), (n,), torch.float64).argsort(1).argsort(1)
        drawn = noise.uniform(keys, (n,), x.dtype)
        return torch.where(order < radius.unsqueeze(1), drawn - x, 0)


_TINY = 1e-30
NORMS: dict[str, Norm] = {"linf": Linf(), "l2": L2(), "l1": L1(), "l0": L0()}


def norm(name: str) -> Norm:
    """The norm of that name: `linf`, `l2`, `l1` or `l0`."""
    if name not in NORMS:
        raise unknown("norm", name, NORMS)
    return NORMS[name]


def sizes(change: Tensor) -> dict[str, Tensor]:
    """The size (B,) of each change (B, ...) in every norm, in float64."""
    change = change.double()
    return {name: norm.size(change) for name, norm in NORMS.items()}
