"""What is exported: the stored adversarial images of a finished run, shard by shard, with what the run says of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..classifiers import Classifier
from ..config import make_defence, parse_defence
from ..errors import BlindspotsError, unknown
from ..evaluation.run import NORMS
from ..evaluation.run import Run as Run
from ..goal import Goal
from ..wrapping import classifier

if TYPE_CHECKING:
    from torch import nn

Only = Literal["fooled", "attacked"]
# Pixel values worked on at once, so that memory does not grow with the shard; at least one model batch.
_VALUES = 1 << 21


@dataclass(frozen=True)
class Piece:
    """Some rows of one job: clean and adversarial images (B, C, H, W), and the row's index, goal and verdict (B,)."""

    index: Tensor
    goal: Goal
    fooled: Tensor
    clean: Tensor
    images: Tensor


def open_run(run: Run | str | Path) -> Run:
    """The run, which must be finished."""
    opened = run if isinstance(run, Run) else Run(run)
    opened.require_complete()
    return opened


def chosen_jobs(run: Run, jobs: list[str] | None) -> list[dict[str, Any]]:
    """The jobs of these ids, in the order of the run; all of them by default."""
    for job in jobs or ():
        if job not in run.job_ids:
            raise unknown("job", job, run.job_ids)
    chosen = [job for job in run.jobs if jobs is None or job["id"] in jobs]
    for entry in chosen:
        if entry["norm"] not in NORMS:
            raise BlindspotsError(
                f"the images of the job '{entry['id']}' are bent, not changed within a radius of their values, so "
                "rounding them to 8 bits cannot be held to one: name the other jobs to export"
            )
    return chosen


def check_stored(run: Run, only: Only) -> None:
    """Refuse a run that does not hold the images that are asked for."""
    kept = run.manifest["settings"].get("keep_images", "all")
    if kept == "none" or (kept == "fooled" and only == "attacked"):
        what = "no adversarial images" if kept == "none" else "only the adversarial images that fooled the model"
        raise BlindspotsError(
            f"the run '{run.path}' holds {what} (keep_images '{kept}'): evaluate again with keep_images 'all'"
        )


def model_of(run: Run, given: Classifier | nn.Module | None) -> Classifier:
    """The classifier of the run: given or loaded again, of the run's weights, and called in the run's batches."""
    about, settings = run.manifest["model"], run.manifest["settings"]
    if given is None and about["spec"] is None:
        raise BlindspotsError(
            f"the run '{run.path}' was made with a module in Python, which cannot be loaded again: "
            "pass that module to blindspots.export as model"
        )
    if isinstance(given, Classifier):
        wrapped = copy.copy(given)
    else:
        wrapped = classifier(
            about["spec"] if given is None else given,
            weights=about.get("weights") if given is None else None,
            mean=None if about["mean"] is None else tuple(about["mean"]),
            std=None if about["std"] is None else tuple(about["std"]),
            classes=about["classes"],
            outputs=settings["outputs"],
        )
        if about.get("defences"):
            wrapped = wrapped.behind([make_defence(parse_defence(text)) for text in about["defences"]])
    if wrapped.hash != about["hash"]:
        raise BlindspotsError(
            f"the model '{wrapped.name}' is not the one of the run '{run.path}' (hash {wrapped.hash[:8]}, the run's is "
            f"{about['hash'][:8]}): pass the model that was evaluated, with its weights and its normalisation"
        )
    wrapped.batch = int(run.manifest["batch"])
    wrapped.channels_last = bool(run.manifest.get("channels_last"))
    return wrapped


def count_rows(run: Run, job: dict[str, Any], only: Only) -> int:
    """How many images of the job there are to export."""
    rows = run.rows(job["id"])
    return int(rows["success" if only == "fooled" else "attacked"].to_numpy().sum())


def pieces(run: Run, job: dict[str, Any], only: Only) -> Iterator[Piece]:
    """The rows to export, in the order of the run, a bounded number of pixels at a time."""
    kept = "success" if run.manifest["settings"].get("keep_images", "all") == "fooled" else "attacked"
    channels, height, width = run.manifest["shape"]
    most = max(int(run.manifest["batch"]), _VALUES // (channels * height * width))
    for shard in run.shard_ids:
        file = run.path / "jobs" / job["id"] / f"{shard}.parquet"
        try:
            table = pq.ParquetFile(file).read()
        except (pa.ArrowException, OSError) as error:
            raise _damaged(run, file.name, str(error)) from error
        stored = {name: torch.from_numpy(table[name].to_numpy().copy()) for name in _COLUMNS}
        stored = {name: column[stored[kept]] for name, column in stored.items()}
        wanted = (stored["success"] if only == "fooled" else stored["attacked"]).nonzero().squeeze(1)
        for rows in torch.split(wanted, most) if len(wanted) else ():
            index = stored["index"][rows]
            targets = None if job["targets"] is None else stored["target"][rows]
            yield Piece(
                index,
                Goal(stored["label"][rows], targets),
                stored["success"][rows],
                _read(run, "clean", shard, None, index),
                _read(run, job["id"], shard, rows, index),
            )


_COLUMNS = ("index", "label", "target", "attacked", "success")


def _read(run: Run, part: str, shard: str, rows: Tensor | None, index: Tensor) -> Tensor:
    """The images of these numbers from one file: at these rows of it, or, by default, wherever their number stands."""
    file = run.path / "images" / part / f"{shard}.safetensors"
    try:
        with safe_open(file, framework="pt") as tensors:
            numbers = tensors.get_tensor("index")
            if rows is None:
                order = numbers.argsort()
                rows = order[torch.searchsorted(numbers[order], index).clamp(max=len(numbers) - 1)]
            if not torch.equal(numbers[rows], index):
                raise _damaged(run, f"{part}/{file.name}", "its images are not those of its table")
            images = tensors.get_slice("images")
            first, last = int(rows.min()), int(rows.max()) + 1
            selected: Tensor = images[first:last][rows - first]
            return selected
    except (SafetensorError, OSError, IndexError) as error:
        raise _damaged(run, f"{part}/{file.name}", str(error)) from error


def _damaged(run: Run, file: str, why: str) -> BlindspotsError:
    reason = " ".join(why.split())
    return BlindspotsError(
        f"'{file}' of the run '{run.path}' is damaged ({reason}): delete it and its table, and evaluate again"
    )
