"""Additive changes of any size in the box, of which those inside a ball count: for searches of the smallest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..projection import box
from .additive import Additive

if TYPE_CHECKING:
    from torch import Tensor


class Free(Additive):
    """The box: the radius bends no path, it only says in the end which successes are small enough.

    A minimum-norm search passes through points that are larger than what it ends with. Held inside the ball it would
    find other points for every radius; free of it, one search answers for all radii.
    """

    def project(self, theta: Tensor) -> Tensor:
        return box(theta)
