"""What an export did: the counts of every job."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class JobExport:
    """One job's images as 8-bit files.

    Attributes:
        job: its id.
        folder: where its files and its index.csv are.
        exported: images written.
        fooled: of those, how many fooled the model in the run, before rounding.
        lost: of those, how many no longer do after plain rounding.
        repaired: of the lost ones, how many fool it again after the lattice search.
        outside: images further from the clean one than the radius, since the ball holds no 8-bit image.
        still_lost: the files of those that were lost and not repaired.

    >>> JobExport("00-pgd-linf-0.1", Path("out"), 120, 120, 5, 4, 0, ("7-1-to-1-lost.png",)).summary
    '00-pgd-linf-0.1: 120 images, 5 of 120 no longer fool the model after rounding (4.2 %), 4 repaired, 1 still lost'
    """

    job: str
    folder: Path
    exported: int
    fooled: int
    lost: int
    repaired: int
    outside: int
    still_lost: tuple[str, ...]

    @property
    def summary(self) -> str:
        """One line for the terminal."""
        images = f"{self.job}: {self.exported} image{'' if self.exported == 1 else 's'}"
        outside = f", {self.outside} outside the radius (no 8-bit image is inside)" if self.outside else ""
        if not self.lost:
            return f"{images}, none lost by rounding{outside}"
        share = f"{self.lost} of {self.fooled} no longer fool the model after rounding ({self.lost / self.fooled:.1%})"
        rest = f"{self.repaired} repaired, {len(self.still_lost)} still lost"
        return f"{images}, {share.replace('%', ' %')}, {rest}{outside}"


@dataclass(frozen=True)
class ExportReport:
    """All jobs of an export, in the order of the run, and the directory they are in."""

    out: Path
    jobs: tuple[JobExport, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """One line a job, for the terminal."""
        return tuple(job.summary for job in self.jobs)


@dataclass(frozen=True)
class ExportProgress:
    """How far an export is: images done of all, and the job at work."""

    done: int
    total: int
    job: str
