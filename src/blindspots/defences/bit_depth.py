"""Fewer grey levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..errors import BlindspotsError
from ..settings import at_least
from .defence import Defence, straight_through

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class BitDepth(Defence):
    """Every value is rounded to the nearest of 2^bits even levels from 0 to 1; the gradient passes straight through.

    Source: Xu et al. 2018, "Feature squeezing", arXiv:1704.01155.
    """

    name: ClassVar[str] = "bit-depth"
    summary: ClassVar[str] = "rounds to 2^bits grey levels (Xu et al. 2018)"

    bits: int = 4
    """Bits that are kept, from 1 to 8."""

    def __post_init__(self) -> None:
        at_least(self, bits=1)
        if self.bits > 8:
            raise BlindspotsError(f"BitDepth.bits must be at most 8, got {self.bits}")

    def __call__(self, images: Tensor) -> Tensor:
        steps = 2**self.bits - 1
        return straight_through((images.detach() * steps).round() / steps, images)
