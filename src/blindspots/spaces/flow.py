"""Flow fields: x' = x read at points moved by theta, a flow (R, 2, H, W) in pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self, get_args

from .. import noise
from ..errors import BlindspotsError, unknown
from ..flows import bend_measures, check_size, displacement, warp
from ..lazy import torch
from .space import Space

if TYPE_CHECKING:
    from torch import Tensor

FlowStart = Literal["zero", "gaussian", "uniform"]


class Flow(Space):
    """Images bent by a flow: output pixel (r, c) reads the image at (r + theta_0, c + theta_1).

    Every output pixel lies between four pixels of the image, so the box needs no projection. The size is the mean
    displacement in pixels; `displacement` and `FlowLoss` of `flows` tell more.

    Args:
        images: clean images (R, C, H, W), at least 2 pixels in each direction.
        start: where a search starts: `zero`, `gaussian` (standard deviation `spread` in each coordinate) or `uniform`
            (each coordinate in [0, spread]).
        spread: width of the random starts in pixels.
        limit: largest displacement of a pixel, for all images or one an image (R,); None is no limit.

    Source: Xiao et al. 2018, arXiv:1801.02612.
    """

    kind: ClassVar[str] = "flow"

    def __init__(
        self,
        images: Tensor,
        start: FlowStart = "zero",
        spread: float = 1.0,
        limit: float | Tensor | None = None,
    ) -> None:
        check_size(images)
        if start not in get_args(FlowStart):
            raise unknown("start of a flow", start, get_args(FlowStart))
        if not spread >= 0:
            raise BlindspotsError(f"the spread of a flow's start must not be negative, got {spread}")
        self.images, self._start, self._spread = images, start, spread
        self._limit: Tensor | None = None
        if limit is not None:
            self._limit = torch.as_tensor(limit, dtype=images.dtype, device=images.device).expand(len(images))
            if not bool((self._limit >= 0).all()):
                raise BlindspotsError(f"the limit of a flow must not be negative, got {limit}")

    def zero(self) -> Tensor:
        count, _, height, width = self.images.shape
        return self.images.new_zeros(count, 2, height, width)

    def start(self, keys: Tensor) -> Tensor:
        shape, dtype = (2, *self.images.shape[2:]), self.images.dtype
        if self._start == "zero":
            return self.zero()
        draw = noise.normal if self._start == "gaussian" else noise.uniform
        return self.project(draw(keys, shape, dtype) * self._spread)

    def apply(self, theta: Tensor, rows: slice) -> Tensor:
        return warp(self.images[rows], theta)

    def project(self, theta: Tensor) -> Tensor:
        """Displacements longer than the limit are shortened to it; without a limit nothing changes."""
        if self._limit is None:
            return theta
        length = displacement(theta).unsqueeze(1)
        limit = self._limit.view(-1, 1, 1, 1)
        return torch.where(length > limit, theta * (limit / length.clamp(min=torch.finfo(theta.dtype).tiny)), theta)

    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """The limit in each coordinate, if there is one; the disc that it means is cut out by `project`."""
        if self._limit is None:
            return None
        limit = self._limit.view(-1, 1, 1, 1).expand_as(self.zero())
        return -limit, limit

    def size(self, theta: Tensor) -> Tensor:
        """Mean displacement in pixels, (R,)."""
        return displacement(theta).mean((1, 2))

    def measures(self, theta: Tensor) -> dict[str, Tensor]:
        """See `bend_measures`."""
        return bend_measures(theta)

    def flow(self, theta: Tensor) -> Tensor:
        return theta

    def within(self, theta: Tensor) -> Tensor:
        """No displacement above limit * (1 + 1e-6), and no pixel outside the range of its image, exactly."""
        length = displacement(theta.double()).amax((1, 2))
        inside = torch.isfinite(length)
        if self._limit is not None:
            inside &= length <= self._limit.double() * (1 + 1e-6)
        bent, clean = self.apply(theta, slice(None)).flatten(1), self.images.flatten(1)
        return inside & (bent.amin(1) >= clean.amin(1)) & (bent.amax(1) <= clean.amax(1))

    def narrow(self, rows: Tensor) -> Self:
        part = object.__new__(type(self))
        part.images, part._start, part._spread = self.images[rows], self._start, self._spread
        part._limit = None if self._limit is None else self._limit[rows]
        return part
