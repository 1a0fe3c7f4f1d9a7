"""`export`: the adversarial images of a finished run as 8-bit files that are known to fool the model, or not to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from ..classifiers import Classifier
from ..errors import BlindspotsError
from ..files import lock, remove_leftovers, replace_file
from .job import round_piece, tally
from .report import ExportProgress, ExportReport, JobExport
from .source import Only, Run, check_stored, chosen_jobs, count_rows, model_of, open_run, pieces
from .writers import Format, NpzWriter, PngWriter, Writer, check_format, read_index, write_index

if TYPE_CHECKING:
    from torch import nn

_MARK = "export.json"


def export(
    run: Run | str | Path,
    out: str | Path,
    *,
    model: Classifier | nn.Module | None = None,
    format: Format = "png",
    jobs: Sequence[str] | None = None,
    only: Only = "fooled",
    repair: bool = True,
    gradients: int = 20,
    progress: Callable[[ExportProgress], None] | None = None,
) -> ExportReport:
    """Write the adversarial images of a finished run as 8-bit images, and say which still fool the model.

    Every image is rounded to the nearest 8-bit image within the radius, judged by a fresh forward, and, where it fooled
    the model before and no longer does, repaired by a search among the 8-bit images within the radius. Files are
    OUT/JOB/INDEX-LABEL-to-PREDICTION.png, with -lost where the 8-bit image does not fool the model any more, and
    OUT/JOB/index.csv. Run again, it goes on with the jobs that are not done.

    Args:
        run: a finished run, or its directory.
        out: directory of the files; new, empty, or of the same export.
        model: the evaluated model; by default it is loaded again as the run names it. Its hash must be that of the run.
        format: "png" (gray and RGB), or "npz": one images.npz a job, any number of channels.
        jobs: ids of the jobs to export; all by default.
        only: "fooled" exports the images that fooled the model, "attacked" also those that resisted.
        repair: search for an 8-bit image that fools the model where rounding lost it.
        gradients: gradients per lost image that the search may take.
        progress: called after each piece of a job.

    Returns:
        The counts of every job.

    Raises:
        BlindspotsError: a run that is not finished or holds no images, a model that is missing or another one, an
            unknown job, a format that cannot hold the images, or a directory with other files.

    >>> print(*export("runs/r20", "png").lines, sep="\\n")  # doctest: +SKIP
    00-pgd-linf-4/255: 312 images, 14 of 312 no longer fool the model after rounding (4.5 %), 14 repaired, 0 still lost
    """
    opened, out = open_run(run), Path(out)
    if only not in get_args(Only):
        raise BlindspotsError(f"only must be one of {', '.join(get_args(Only))}, got '{only}'")
    if gradients < 1:
        raise BlindspotsError(f"gradients must be at least 1, got {gradients}: repair=False leaves out the search")
    check_format(format, opened.manifest["shape"][0])
    check_stored(opened, only)
    selected = chosen_jobs(opened, [jobs] if isinstance(jobs, str) else None if jobs is None else list(jobs))
    wrapped = model_of(opened, model)
    _claim(out, opened, format, only, gradients if repair else 0)
    with lock(out / ".lock", f"another process is writing '{out}': wait for it, or give another directory"):
        remove_leftovers(out)
        work = _Work(opened, out, wrapped, format, only, gradients if repair else 0, progress)
        return ExportReport(out, tuple(work.run(selected)))


class _Work:
    """The export of some jobs, one after the other."""

    def __init__(
        self,
        run: Run,
        out: Path,
        model: Classifier,
        format: Format,
        only: Only,
        gradients: int,
        progress: Callable[[ExportProgress], None] | None,
    ) -> None:
        self._run, self._out, self._model = run, out, model
        self._format, self._only, self._gradients, self._progress = format, only, gradients, progress
        self._done = self._total = 0

    def run(self, jobs: list[dict[str, Any]]) -> list[JobExport]:
        counts = [count_rows(self._run, job, self._only) for job in jobs]
        self._total = sum(counts)
        return [self._job(job, count) for job, count in zip(jobs, counts, strict=True)]

    def _job(self, job: dict[str, Any], count: int) -> JobExport:
        folder = self._out / job["id"]
        rows = read_index(folder)
        if rows is None:
            rows = self._write(job, folder, count)
        else:
            self._advance(job, len(rows))
        return JobExport(job["id"], folder, **tally(rows))

    def _write(self, job: dict[str, Any], folder: Path, count: int) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        with self._writer(folder, count) as writer, self._model.session():
            for piece in pieces(self._run, job, self._only):
                rounded = round_piece(self._model, piece, job["norm"], float(job["radius"]), self._gradients)
                rows += writer.write(rounded)
                self._advance(job, len(rounded.rows))
        write_index(folder, rows)
        return rows

    def _writer(self, folder: Path, count: int) -> Writer:
        if self._format == "png":
            return PngWriter(folder)
        return NpzWriter(folder, count, tuple(self._run.manifest["shape"]))

    def _advance(self, job: dict[str, Any], images: int) -> None:
        self._done += images
        if self._progress is not None:
            self._progress(ExportProgress(self._done, self._total, job["id"]))


def _claim(out: Path, run: Run, format: str, only: str, gradients: int) -> None:
    """Make the directory and its mark, or check that the one that is there belongs to this export."""
    key = hashlib.sha256(json.dumps(run.manifest, sort_keys=True).encode()).hexdigest()
    mark = {"run": key, "format": format, "only": only, "gradients": gradients}
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BlindspotsError(f"'{out}' cannot be made ({error.strerror}): give another directory") from error
    file = out / _MARK
    if not file.is_file():
        if any(not entry.name.startswith(".") for entry in out.iterdir()):
            raise BlindspotsError(f"'{out}' holds other files and no export: give an empty or a new directory")
        replace_file(file, json.dumps(mark, indent=1).encode() + b"\n")
        return
    try:
        found = cast("dict[str, Any]", json.loads(file.read_text(encoding="utf-8")))
    except ValueError:
        found = {}
    if found != mark:
        what = "another run" if found.get("run") != key else "this run with other settings"
        raise BlindspotsError(f"'{out}' holds the export of {what}: give another directory, or delete it")
