"""`reproduce`: run a study by name, write its page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import unknown
from .assignment import AssignmentStudy
from .defended import DefendedStudy
from .gap import GapStudy
from .gap_imagenet import GapImageNetStudy
from .intriguing import IntriguingStudy
from .page import Block, write_page
from .stadv import StAdvStudy
from .study import Study
from .szegedy import SzegedyStudy

STUDIES: dict[str, type[Study]] = {
    study.name: study
    for study in (
        *(StAdvStudy, SzegedyStudy, IntriguingStudy, AssignmentStudy, DefendedStudy),
        *(GapStudy, GapImageNetStudy),
    )
}


@dataclass(frozen=True)
class Reproduced:
    """A finished study: its page as Markdown and as one HTML file, and what stands on it."""

    text: Path
    page: Path
    blocks: list[Block]


def reproduce(
    name: str,
    *,
    full: bool = False,
    data: str = "mnist",
    data_dir: str | None = None,
    seed: int = 0,
    device: str = "auto",
    out: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Reproduced:
    """Run a classic paper's experiments again, and write a page with paper and here side by side.

    Args:
        name: `stadv`, `szegedy-lbfgs`, `intriguing`, `assignment`, `defended`, `gap` or `gap-imagenet`.
        full: the size at which the numbers mean something (hours on a CPU); otherwise one of minutes, to see it work.
        data: small images, as `mnist` and `fashion-mnist` are; other data as `dataset` takes them by name.
        data_dir: where they are; BLINDSPOTS_DATA by default.
        seed: of training, choices and attacks.
        device: `auto`, `cpu`, `cuda`.
        out: folder of the study; by default runs/NAME-DATA-SIZE. Run again, it goes on where it stopped.
        progress: is told the name of each cell of work as it begins.

    Raises:
        BlindspotsError: an unknown name, missing data, or a folder with another study.

    >>> reproduce("stadv", data="mnist").page  # doctest: +SKIP
    PosixPath('runs/stadv-mnist-quick/stadv.html')
    """
    if name not in STUDIES:
        raise unknown("study", name, STUDIES)
    study = STUDIES[name](full, data, data_dir, seed, device, out or "")
    blocks = study.run(progress or (lambda line: None))
    return Reproduced(*write_page(study.folder, study.name, study.title, blocks), blocks)
