"""Fast: the verdict of the strong ensembles for a fraction of their calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..geometry import BallName
from ..settings import at_least, one_of, read_radius
from ..several import Member, Several
from .apgd_nearest import APGDNearest
from .ddn import DDN
from .fmn import FMN


@dataclass(frozen=True)
class Fast(Several):
    """Short runs of Auto-PGD first, each image choosing the next class for itself; then another kind of search.

    The runs are those of `apgd-nearest`, the cheapest first. What withstands them is left to searches for the smallest
    change, which go along the boundary and do not care for the radius: FMN, and in l2 DDN too, of `closing` steps. On
    networks trained to resist, they find images that no run of Auto-PGD finds, at a small part of what FAB and Square
    cost for it. An image leaves with its first success.

    Cost: 2 + opening + rivals * (steps + 1) forwards and opening + rivals * steps backwards at most, and for what is
    left, 2 closing passes for each of the searches at the end.
    Source: none; its parts are those of Croce and Hein 2020, arXiv:2003.01690, Pintor et al. 2021, arXiv:2102.12827,
    and Rony et al. 2019, arXiv:1811.09600.
    """

    name: ClassVar[str] = "fast"
    summary: ClassVar[str] = "short runs of Auto-PGD towards the nearest classes, then searches for the smallest change"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")

    radius: float | str
    """Radius in the norm, in pixel units of [0, 1], such as 0.03 or 8/255."""
    norm: BallName = "linf"
    """Norm of the ball: linf, l2 or l1."""
    opening: int = 20
    """Steps of the first run, away from the label."""
    steps: int = 100
    """Steps of each run towards a class."""
    rivals: int = 3
    """Number of classes to run towards."""
    patience: float = 2.0
    """How much faster than before a gap may have to fall before its run is given up; 0: never given up."""
    closing: int = 100
    """Steps of each search for the smallest change at the end; 0: none."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        at_least(self, opening=1, steps=1, rivals=0, patience=0, closing=0)

    def members(self) -> tuple[Member, ...]:
        runs = APGDNearest(self.radius, self.norm, self.opening, self.steps, self.rivals, self.patience)
        found = [Member("apgd-nearest", runs)]
        if self.closing:
            found.append(Member("fmn", FMN(self.radius, self.norm, steps=self.closing)))
        if self.closing and self.norm == "l2":
            found.append(Member("ddn", DDN(self.radius, steps=self.closing)))
        return tuple(found)
