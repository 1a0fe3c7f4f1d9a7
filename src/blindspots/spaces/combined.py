"""A change of geometry followed by an additive one: x' = clip(g(x) + delta) with ||delta||_p <= radius."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from .. import noise
from ..errors import BlindspotsError
from ..flows import held
from ..geometry import NORMS
from ..lazy import torch
from .affine import Affine
from .flow import Flow
from .space import Space

if TYPE_CHECKING:
    from torch import Tensor


class Combined(Space):
    """Images bent or turned first, and then changed inside the ball of a norm.

    theta (R, n) is flat: the geometric theta over `unit`, and after it delta (C * H * W); `parts` takes it apart.

    Args:
        images: clean images (R, C, H, W) in [0, 1].
        geometry: a `Flow` or `Affine` space of the same images.
        norm: `linf`, `l2` or `l1`, of the ball round the bent image.
        radius: one number for all images, or one an image (R,), in units of [0, 1].
        unit: how far the geometric theta goes for one unit of the flat one. A sign step of 0.01 moves values by 0.01;
            with unit = 10 it moves a flow by 0.1 pixels.
    """

    def __init__(
        self, images: Tensor, geometry: Flow | Affine, norm: str, radius: float | Tensor, unit: float = 1.0
    ) -> None:
        if norm not in ("linf", "l2", "l1"):
            raise BlindspotsError(f"a combined space takes a ball in linf, l2 or l1, got '{norm}'")
        if not unit > 0:
            raise BlindspotsError(f"the unit of the geometric part must be above 0, got {unit}")
        self.images, self.geometry, self.norm, self.unit = images, geometry, NORMS[norm], unit
        self.radius = torch.as_tensor(radius, dtype=torch.float64, device=images.device).expand(len(images))
        self._shape = geometry.zero().shape[1:]
        self._split = self._shape.numel()

    def parts(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """The geometric theta (R, ...) and delta (R, C, H, W) of the flat theta (R, n)."""
        bend = theta[:, : self._split].view(-1, *self._shape) * self.unit
        return bend, theta[:, self._split :].view(-1, *self.images.shape[1:])

    def join(self, bend: Tensor, delta: Tensor) -> Tensor:
        """The flat theta (R, n) of its parts."""
        return torch.cat((bend.flatten(1) / self.unit, delta.flatten(1)), dim=1)

    def zero(self) -> Tensor:
        return self.join(self.geometry.zero(), torch.zeros_like(self.images))

    def start(self, keys: Tensor) -> Tensor:
        bend = self.geometry.start(keys)
        bent = self.geometry.apply(bend, slice(None))
        drawn = self.norm.sample(noise.key(0, keys, "ball"), bent, self.radius.to(bent.dtype))
        return self.project(self.join(bend, drawn - bent))

    def apply(self, theta: Tensor, rows: slice) -> Tensor:
        bend, delta = self.parts(theta)
        return held(self.geometry.apply(bend, rows) + delta, 0, 1)

    def project(self, theta: Tensor) -> Tensor:
        """Each part in turn: the geometric theta into its set, then delta into the ball and box round the bent image.

        Not the nearest point of both together: the box moves with the bent image.
        """
        bend, delta = self.parts(theta)
        bend = self.geometry.project(bend)
        bent = self.geometry.apply(bend, slice(None))
        moved = bent + delta
        inside = self.norm.project(moved, bent, self.radius.to(bent.dtype))
        # A delta that need not move keeps its bits, which bent + delta - bent would not.
        held = (self.norm.size(delta) <= self.radius).view(-1, 1, 1, 1)
        return self.join(bend, torch.where((inside == moved) & held, delta, inside - bent))

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Those of the geometric part, and the radius for each value of delta."""
        bends = self.geometry.bounds()
        if bends is None:
            endless = torch.full_like(self.geometry.zero(), float("inf"))
            bends = -endless, endless
        radius = self.radius.to(self.images.dtype).view(-1, 1, 1, 1).expand_as(self.images)
        return self.join(bends[0], -radius), self.join(bends[1], radius)

    def size(self, theta: Tensor) -> Tensor:
        """The norm of the whole change x' - x, (R,): a bent image counts by its pixels."""
        return self.norm.size(self.apply(theta, slice(None)) - self.images)

    def measures(self, theta: Tensor) -> dict[str, Tensor]:
        """Those of the geometric part; `ball`, the norm of delta; and, under the names of both as in `flow-linf`, the
        larger of delta's norm and of the geometric size over `unit`."""
        bend, delta = self.parts(theta)
        measures, ball = self.geometry.measures(bend), self.norm.size(delta.double())
        kind = self.geometry.kind
        return measures | {"ball": ball, f"{kind}-{self.norm.name}": torch.maximum(ball, measures[kind] / self.unit)}

    def flow(self, theta: Tensor) -> Tensor | None:
        return self.geometry.flow(self.parts(theta)[0])

    def within(self, theta: Tensor) -> Tensor:
        """The geometric part in its set, and ||delta|| <= radius * (1 + 1e-6) as computed in float64; the box holds by
        construction."""
        bend, delta = self.parts(theta)
        return self.geometry.within(bend) & (self.norm.size(delta.double()) <= self.radius * (1 + 1e-6))

    def narrow(self, rows: Tensor) -> Self:
        part = object.__new__(type(self))
        part.images, part.geometry, part.radius = self.images[rows], self.geometry.narrow(rows), self.radius[rows]
        part.norm, part.unit, part._shape, part._split = self.norm, self.unit, self._shape, self._split
        return part
