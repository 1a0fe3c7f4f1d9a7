"""The low spatial frequencies alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..errors import BlindspotsError
from ..lazy import torch
from ..settings import above
from .defence import Defence, boxed

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LowPass(Defence):
    """Of the cosine transform of the image only the lowest share of frequencies is kept, in each direction.

    A cosine transform sees the image mirrored at its border, so no edge is made where the image ends. What rings
    out of [0, 1] is clamped, the gradient passing straight through.
    """

    name: ClassVar[str] = "low-pass"
    summary: ClassVar[str] = "keeps the low spatial frequencies"

    keep: float = 0.5
    """Share of the frequencies that is kept in each direction, up to 1, which keeps all."""

    def __post_init__(self) -> None:
        above(self, keep=0)
        if self.keep > 1:
            raise BlindspotsError(f"LowPass.keep is a share and must be at most 1, got {self.keep}")

    def __call__(self, images: Tensor) -> Tensor:
        rows, columns = (self._filter(length).to(images.device, images.dtype) for length in images.shape[-2:])
        return boxed(rows @ images @ columns)

    def _filter(self, length: int) -> Tensor:
        """The matrix (n, n) that projects a line of pixels onto its lowest frequencies."""
        kept = cosines(length)[: max(1, round(self.keep * length))]
        return kept.T @ kept


def cosines(length: int) -> Tensor:
    """The orthonormal cosine transform (n, n), float64: row k is the wave of frequency k."""
    wave = torch.arange(length, dtype=torch.float64).unsqueeze(1) * math.pi / length
    matrix = torch.cos(wave * (torch.arange(length) + 0.5)) * math.sqrt(2 / length)
    matrix[0] /= math.sqrt(2)
    return matrix
