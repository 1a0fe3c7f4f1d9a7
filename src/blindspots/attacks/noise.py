"""Noise at the radius: the control that every table of attacks needs."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .. import noise
from ..attack import Attack
from ..geometry import NORMS, BallName
from ..objectives import LOSSES, Objective
from ..optimisers.optimiser import per_row
from ..record import Knowledge
from ..settings import at_least, one_of, read_radius
from ..spaces import Additive, Space

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle


@dataclass(frozen=True)
class _Noise(Attack):
    """Draws of noise, judged one after another; an image stops at the first that fools it."""

    radius: float | str
    """Radius in the norm, in pixel units of [0, 1], such as 0.03 or 8/255."""
    norm: BallName = "linf"
    """Norm of the ball: linf, l2 or l1."""
    draws: int = 10
    """Number of draws for each image."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        at_least(self, draws=1)

    def space(self, images: Tensor) -> Space:
        return Additive(images, self.norm, float(self.radius))

    def objective(self) -> Objective:
        return LOSSES["margin"]

    def search(self, oracle: Oracle) -> None:
        oracle.judge_clean()
        for draw in range(self.draws):
            if oracle.compact() is not None and not len(oracle.rows):
                return
            oracle.step()
            change = self._draw(oracle.keys(draw=draw), oracle.images)
            oracle.query(oracle.space.project(oracle.images + change), gradient=False)

    @abstractmethod
    def _draw(self, keys: Tensor, images: Tensor) -> Tensor:
        """The change (R, C, H, W) of one draw, before the projection."""


@dataclass(frozen=True)
class UniformNoise(_Noise):
    """Uniform noise of the whole radius: x' = project(x + e).

    linf: e uniform in [-radius, radius] for each value. l2 and l1: uniform values, scaled to the norm of the radius.
    A model that this fools has a problem that needs no adversary; an attack that this beats does not work.

    Cost: 1 + draws forwards at most.
    """

    name: ClassVar[str] = "uniform-noise"
    summary: ClassVar[str] = "uniform noise at the radius: the control"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")
    control: ClassVar[bool] = True
    knowledge: ClassVar[Knowledge] = "scores"

    def _draw(self, keys: Tensor, images: Tensor) -> Tensor:
        change = 2 * noise.uniform(keys, tuple(images.shape[1:]), images.dtype) - 1
        return change * float(self.radius) if self.norm == "linf" else _scaled(change, self.norm, float(self.radius))


@dataclass(frozen=True)
class GaussianNoise(_Noise):
    """Gaussian noise of the whole radius: x' = project(x + e).

    linf: e of standard deviation radius, cut at +-radius. l2 and l1: a Gaussian direction, scaled to the norm of the
    radius.

    Cost: 1 + draws forwards at most.
    """

    name: ClassVar[str] = "gaussian-noise"
    summary: ClassVar[str] = "Gaussian noise at the radius: the control"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")
    control: ClassVar[bool] = True
    knowledge: ClassVar[Knowledge] = "scores"

    def _draw(self, keys: Tensor, images: Tensor) -> Tensor:
        change = noise.normal(keys, tuple(images.shape[1:]), images.dtype)
        return change * float(self.radius) if self.norm == "linf" else _scaled(change, self.norm, float(self.radius))


def _scaled(change: Tensor, norm: str, radius: float) -> Tensor:
    size = per_row(NORMS[norm].size(change), change)
    return change * (radius / size.clamp(min=1e-30))
