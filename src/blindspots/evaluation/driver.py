"""`evaluate`: the main job. Attack a model on data, shard by shard, into a run directory that survives anything."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from ..attack import Attack
from ..classifiers import Classifier
from ..data import ImageData, dataset
from ..errors import BlindspotsError
from ..files import lock, remove_leftovers
from ..record import Budget
from ..several import Several
from ..wrapping import classifier
from .defaults import default_attacks
from .jobs import plan_jobs
from .plan import Choices, differences, make_identity, make_manifest
from .run import Run
from .store import Store
from .work import Progress, Work

if TYPE_CHECKING:
    from torch import nn


def evaluate(
    model: Classifier | nn.Module | str,
    data: ImageData | Any = "digits",
    attacks: Sequence[Attack | Several] | None = None,
    *,
    out: str | Path | None = None,
    targets: str | int | None = None,
    budget: Budget | int | None = None,
    seed: int = 0,
    batch: int | None = None,
    labels_from: str = "data",
    keep_images: str = "all",
    part: tuple[int, int] = (1, 1),
    progress: Callable[[Progress], None] | None = None,
) -> Run:
    """Measure how robust a model is, with evidence.

    Every image that the clean model gets right is attacked by every attack; the rows, the images and their cost are
    written shard by shard. Run again with the same settings, it goes on where it stopped.

    An attack given at several radii takes over what fooled the model within a smaller one. One that looks for the
    smallest change of each image (`minimum`) is run once, at the largest, and answers for all radii below.

    Args:
        model: a classifier, a module, or a name or path as `classifier` takes it.
        data: as `dataset` makes it, or what `dataset` takes.
        attacks: attacks with their radii; by default noise and `fast` at the data's usual radii, and `stadv`.
        out: run directory; by default runs/MODEL-DATA-KEY, the key being a hash of the settings.
        targets: None, a class, or a rule ("random", "least-likely", "second", "all").
        budget: model calls per image and attack.
        seed: key of all randomness.
        batch: images per model call; by default measured once on this machine.
        labels_from: "data", or "predictions" to take what the model says of the clean images as their labels: then
            shares are of unchanged predictions, not of right ones, and a note in the report says so.
        keep_images: which adversarial images to store: "all" attacked ones, "fooled" or "none".
        part: (i, n) works on every n-th shard from the i-th on, so that n processes share one run; the one that
            completes it writes the report.
        progress: called after each piece.

    Returns:
        The run, opened for reading; `run.complete` says whether all parts are done.

    Raises:
        BlindspotsError: input that cannot be used, a run directory with other settings, or one in use.

    >>> run = evaluate("small-cnn", "digits", out="runs/doc")  # doctest: +SKIP
    """
    # A copy, so that the layout of this run does not stay on the caller's classifier.
    wrapped = copy.copy(model if isinstance(model, Classifier) else classifier(model))
    images = data if isinstance(data, ImageData) else dataset(data)
    planned = plan_jobs(list(attacks) if attacks is not None else default_attacks(images.name))
    limit = Budget(forwards=budget) if isinstance(budget, int) else budget
    choices = Choices(targets, limit, seed, labels_from, keep_images)
    number, parts = part
    if not 1 <= number <= parts:
        raise BlindspotsError(f"part must be (i, n) with 1 <= i <= n, got ({number}, {parts})")
    identity = make_identity(wrapped, images, planned, choices)
    path = Path(out) if out is not None else default_out(wrapped.name, images.name, identity)
    if batch is not None or wrapped.batch is None:
        wrapped.batch = batch
        if batch is None:
            _take_stored_layout(wrapped, path)
    manifest = make_manifest(wrapped, images, planned, choices)
    _claim(path, manifest)
    busy = f"another process is writing the run '{path}': wait for it, or give another --out"
    with lock(path / f".lock-{number}-of-{parts}", busy):
        if parts == 1:
            remove_leftovers(path)
        Work(wrapped, images, planned, manifest, path, choices, progress).run(number, parts)
        run = Run(path)
        if run.complete:
            finish(run)
    return run


def finish(run: Run) -> None:
    """Write summary and report of a complete run."""
    from ..report import write_report
    from .summary import summarise

    summary = summarise(run)
    Store(run.path).write_json("summary.json", summary)
    write_report(run, summary, run.path / "report.html")


def default_out(model: str, data: str, identity: dict[str, Any]) -> Path:
    """runs/MODEL-DATA-KEY: the same settings lead to the same directory."""
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    name = f"{Path(model).stem}-{Path(data).stem}"
    return Path("runs") / f"{re.sub(r'[^A-Za-z0-9.]+', '-', name).strip('-')}-{key}"


def _take_stored_layout(model: Classifier, path: Path) -> None:
    """The model batch and memory format of the run that is there, if one is, so that it can go on as it began."""
    if (path / "manifest.json").is_file():
        manifest = Run(path).manifest
        model.batch, model.channels_last = int(manifest["batch"]), bool(manifest.get("channels_last"))
        model.smaller = tuple(manifest.get("smaller", ()))


def _claim(path: Path, manifest: dict[str, Any]) -> None:
    """Make the run directory with its manifest, or check that the one that is there is of the same run."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BlindspotsError(
            f"the run directory '{path}' cannot be made ({error.strerror}): give another --out"
        ) from error
    with FileLock(path / ".lock-manifest"):
        if (path / "manifest.json").is_file():
            _compare(path, manifest)
        elif any(entry for entry in path.iterdir() if not entry.name.startswith(".")):
            raise BlindspotsError(f"'{path}' holds other files and no run: give another --out, or an empty directory")
        else:
            Store(path).write_json("manifest.json", manifest)


def _compare(path: Path, manifest: dict[str, Any]) -> None:
    stored = Run(path).manifest
    found = differences(stored, json.loads(json.dumps(manifest)))
    if found:
        more = f" and {len(found) - 4} more" if len(found) > 4 else ""
        raise BlindspotsError(
            f"the run '{path}' was made with other settings ({'; '.join(found[:4])}{more}): "
            "repeat its settings to go on, give another --out, or delete it"
        )
