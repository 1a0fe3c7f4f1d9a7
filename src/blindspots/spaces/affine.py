"""Rotations, shifts and zooms: x' = x read at affinely moved points, theta (R, 4) in shares of the limits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal, Self, get_args

from .. import noise
from ..errors import BlindspotsError, unknown
from ..flows import bend_measures, check_size, read
from ..lazy import torch
from .space import Space

if TYPE_CHECKING:
    from torch import Tensor

Fill = Literal["constant", "border"]


class Affine(Space):
    """Images turned, shifted and zoomed about their centre.

    theta (R, 4) lies in [-radius, radius]: counter-clockwise angle in units of `rotation`, shift down and shift right
    in units of `shift`, and zoom, the factor being zoom ** theta. So one step moves every parameter by a like share of
    its limit, and a limit that allows nothing (0, 0 or 1) switches its parameter off. `parameters` gives the real
    values.

    Args:
        images: clean images (R, C, H, W), at least 2 pixels in each direction.
        rotation: largest angle in degrees, to either side.
        shift: largest shift in pixels, in each direction.
        zoom: largest factor, at least 1; the smallest is 1 / zoom.
        fill: what lies beyond the border: `constant` (the value below) or `border` (the border's own pixels).
        value: the constant.
        radius: the share of the limits that may be used.

    Source: Engstrom et al. 2019, "Exploring the landscape of spatial robustness", arXiv:1712.02779 (30 degrees and a
    tenth of the image; they search a grid of 31 x 5 x 5).
    """

    kind: ClassVar[str] = "affine"

    def __init__(
        self,
        images: Tensor,
        rotation: float = 30.0,
        shift: float = 3.0,
        zoom: float = 1.0,
        fill: Fill = "constant",
        value: float = 0.0,
        radius: float = 1.0,
    ) -> None:
        check_size(images)
        if fill not in get_args(Fill):
            raise unknown("fill", fill, get_args(Fill))
        limits = (("rotation", rotation, 0), ("shift", shift, 0), ("zoom", zoom, 1), ("share", radius, 0))
        for name, given, least in limits:
            if not (given >= least and math.isfinite(given)):
                raise BlindspotsError(f"the largest {name} must be at least {least}, got {given}")
        if not 0 <= value <= 1:
            raise BlindspotsError(f"the fill value must lie in [0, 1], got {value}")
        self.images, self.rotation, self.shift, self.zoom = images, rotation, shift, zoom
        self.radius = radius
        # A margin of one pixel: beyond it the clamped read points find the constant, within it they fade into it.
        self._margin = 1 if fill == "constant" else 0
        self._source = torch.nn.functional.pad(images, (1,) * 4, value=value) if fill == "constant" else images
        self._free = torch.tensor([rotation > 0, shift > 0, shift > 0, zoom > 1], device=images.device)

    def zero(self) -> Tensor:
        return self.images.new_zeros(len(self.images), 4)

    def start(self, keys: Tensor) -> Tensor:
        return self.project((2 * noise.uniform(keys, (4,), self.images.dtype) - 1) * self.radius)

    def apply(self, theta: Tensor, rows: slice) -> Tensor:
        row, column = self._points(theta)
        return read(self._source[rows], row + self._margin, column + self._margin)

    def flow(self, theta: Tensor) -> Tensor:
        row, column = self._points(theta)
        height, width = self.images.shape[-2:]
        here = torch.arange(height, dtype=theta.dtype, device=theta.device).unsqueeze(1)
        return torch.stack((row - here, column - torch.arange(width, dtype=theta.dtype, device=theta.device)), 1)

    def measures(self, theta: Tensor) -> dict[str, Tensor]:
        """`affine`, the share of the limits that is used; `rotation` (degrees) and `shift` (pixels, the larger),
        without sign; `zoom`, the factor; and see `bend_measures`."""
        angle, down, right, factor = self.parameters(theta.double()).unbind(1)
        shift = torch.maximum(down.abs(), right.abs())
        own = {"affine": self.size(theta.double()), "rotation": angle.abs(), "shift": shift, "zoom": factor}
        return own | bend_measures(self.flow(theta))

    def _points(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """The row and the column (R, H, W) at which each pixel reads the image."""
        height, width = self.images.shape[-2:]
        angle, down, right, factor = self.parameters(theta).view(-1, 4, 1, 1).unbind(1)
        angle = torch.deg2rad(angle)
        middle = ((height - 1) / 2, (width - 1) / 2)
        row = torch.arange(height, dtype=theta.dtype, device=theta.device).unsqueeze(1) - middle[0] - down
        column = torch.arange(width, dtype=theta.dtype, device=theta.device) - middle[1] - right
        # The way back: undo the shift, then the turn and the zoom. Rows grow downwards.
        cosine, sine = torch.cos(angle) / factor, torch.sin(angle) / factor
        return row * cosine + column * sine + middle[0], column * cosine - row * sine + middle[1]

    def parameters(self, theta: Tensor) -> Tensor:
        """Angle in degrees, shift down and right in pixels, and zoom factor (R, 4) of theta (R, 4)."""
        units = theta.new_tensor([self.rotation, self.shift, self.shift])
        factor = torch.exp(theta[:, 3:] * math.log(self.zoom))
        return torch.cat((theta[:, :3] * units, factor), dim=1)

    def grid(self, rotations: int = 31, shifts: int = 5, zooms: int = 1) -> Tensor:
        """Every theta (G, 4) of an even grid, for exhaustive search; a parameter with one point stays at zero.

        The shifts are those of each direction, so G = rotations * shifts^2 * zooms; parameters that are switched off
        have one point.
        """
        counts = (rotations, shifts, shifts, zooms)
        if min(counts) < 1:
            raise BlindspotsError(f"a grid needs at least one point for each parameter, got {counts}")
        lines = [
            2 * torch.arange(count, dtype=torch.float64) / (count - 1) - 1 if count > 1 and free else torch.zeros(1)
            for count, free in zip(counts, self._free.tolist(), strict=True)
        ]
        return self.radius * torch.cartesian_prod(*(line.to(self.images.device, self.images.dtype) for line in lines))

    def project(self, theta: Tensor) -> Tensor:
        return torch.where(self._free, theta.clamp(-self.radius, self.radius), 0)

    def bounds(self) -> tuple[Tensor, Tensor]:
        limit = (self.radius * self._free.to(self.images.dtype)).expand(len(self.images), 4)
        return -limit, limit

    def size(self, theta: Tensor) -> Tensor:
        """The largest share of a limit that is used, (R,)."""
        return theta.abs().amax(1)

    def within(self, theta: Tensor) -> Tensor:
        """Every parameter inside radius * (1 + 1e-6) of its limit, for the radius as rounded to the images' type."""
        return ((theta.abs().double() <= self.radius * (1 + 1e-6)) & (self._free | (theta == 0))).all(1)

    def narrow(self, rows: Tensor) -> Self:
        part = object.__new__(type(self))
        part.images, part._source = self.images[rows], self._source[rows]
        part.rotation, part.shift, part.zoom, part.radius = self.rotation, self.shift, self.zoom, self.radius
        part._margin, part._free = self._margin, self._free
        return part
