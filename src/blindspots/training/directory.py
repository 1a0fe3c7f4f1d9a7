"""The training directory: its files, its lock, and what happens when it already holds a run.

    settings.json       settings and data of the run, written first; the same command goes on, another is refused
    checkpoint.pt       everything needed to go on; removed when the run is finished
    metrics.jsonl       one line an epoch; identical for identical runs
    timing.jsonl        seconds of each epoch, kept apart because they are never identical
    model.safetensors   the model of the best epoch, loadable by this path alone
    result.json         written last: the run is finished

Every file is written under another name, flushed to the disk and renamed: a kill leaves the old file or the new one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import BlindspotsError
from ..files import lock, replace_file
from ..models import save_model
from .events import EpochRecord, Trained
from .settings import TrainSettings

FORMAT = 1
BUSY = "another process is training in {}: wait for it, or choose another out"


class Directory:
    """Paths of a training directory, and the few things done with its small files. Creates nothing by itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = path / "settings.json"
        self.checkpoint = path / "checkpoint.pt"
        self.metrics = path / "metrics.jsonl"
        self.timing = path / "timing.jsonl"
        self.model = path / "model.safetensors"
        self.result = path / "result.json"

    def check(self, settings: TrainSettings) -> None:
        """Refuse a directory that holds something else than a run of these settings."""
        if self.path.exists() and not self.path.is_dir():
            raise BlindspotsError(f"the training directory {self.path} is a file: choose another out")
        if not self.settings.exists():
            if self.model.exists() or self.checkpoint.exists():
                raise BlindspotsError(
                    f"{self.path} holds a model but no settings.json, so it is no training directory: give another out"
                )
            return
        stored = self._json(self.settings)
        differences = settings.differences(stored.get("settings", {}))
        if differences:
            raise BlindspotsError(
                f"{self.path} holds a training with other settings ({'; '.join(differences)}): "
                "repeat them, choose another out, or delete the directory"
            )

    def check_data(self, fingerprint: str) -> None:
        """Refuse to go on with other images than those the run began with."""
        if self.settings.exists() and self._json(self.settings).get("fingerprint") != fingerprint:
            raise BlindspotsError(
                f"the images are not those that the training in {self.path} began with: "
                "give it the same data, choose another out, or delete the directory"
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Create the directory and keep every other process out of it, until the block ends or the process dies."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            held = lock(self.path / ".lock", BUSY.format(self.path))
        except OSError as error:
            raise _unwritable(self.path, error) from error
        with held:
            self._remove_leftovers()
            yield

    def begin(self, settings: TrainSettings, fingerprint: str) -> None:
        """Write the settings, unless an earlier start did."""
        if not self.settings.exists():
            self._write_json(
                self.settings, {"format": FORMAT, "settings": settings.plain(), "fingerprint": fingerprint}
            )

    def write_history(self, history: list[EpochRecord], seconds: list[float]) -> None:
        """Write metrics and timing of all epochs so far, whole: after a resume nothing is there twice."""
        timing = [{"epoch": record.epoch, "seconds": spent} for record, spent in zip(history, seconds, strict=True)]
        for path, rows in ((self.metrics, [asdict(record) for record in history]), (self.timing, timing)):
            text = "".join(json.dumps(row) + "\n" for row in rows)
            write(path, text.encode())

    def write_model(self, module: nn.Module, **about: Any) -> None:
        """Write the model of the best epoch; `about` as in `models.save_model`."""
        try:
            save_model(self.model, module, **about)
        except OSError as error:
            raise _unwritable(self.model, error) from error

    def finish(self, trained: Trained) -> None:
        """Say that the model is complete, and remove the checkpoint, which nobody needs any more."""
        values = {name: value for name, value in asdict(trained).items() if name not in ("model", "seconds")}
        self._write_json(self.result, {"format": FORMAT, **values})
        self.checkpoint.unlink(missing_ok=True)

    def finished(self) -> Trained | None:
        """The result of a finished run, or None."""
        if not (self.result.exists() and self.model.exists()):
            return None
        stored = self._json(self.result)
        try:
            spent = sum(float(json.loads(line)["seconds"]) for line in self.timing.read_text().splitlines())
            return Trained(
                model=self.model,
                epochs=int(stored["epochs"]),
                best_epoch=int(stored["best_epoch"]),
                validation_accuracy=stored["validation_accuracy"],
                test_accuracy=stored["test_accuracy"],
                seconds=spent,
                robust_accuracy=stored.get("robust_accuracy"),
                last_robust_accuracy=stored.get("last_robust_accuracy"),
                strong_accuracy=stored.get("strong_accuracy"),
                alarms=tuple(stored.get("alarms", ())),
            )
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise _damaged(self.result, error) from error

    def _remove_leftovers(self) -> None:
        """Remove what killed starts left half-written of these files; other hidden files are not ours."""
        for file in (self.settings, self.checkpoint, self.metrics, self.timing, self.model, self.result):
            for leftover in self.path.glob(f".tmp-*-{file.name}"):
                leftover.unlink(missing_ok=True)

    def _json(self, path: Path) -> dict[str, Any]:
        try:
            values = json.loads(path.read_text())
            if not isinstance(values, dict) or values.get("format") != FORMAT:
                raise ValueError(f"format {FORMAT} expected")
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from error
        return values

    def _write_json(self, path: Path, values: dict[str, Any]) -> None:
        write(path, (json.dumps(values, indent=2) + "\n").encode())


def write(path: Path, content: bytes) -> None:
    """Write a file of the directory, atomically; what cannot be written is told in one sentence."""
    try:
        replace_file(path, content)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> BlindspotsError:
    return BlindspotsError(f"cannot write {path} ({error.strerror or error}): free or choose another out")


def _damaged(path: Path, error: Exception) -> BlindspotsError:
    return BlindspotsError(
        f"{path} cannot be read ({str(error).splitlines()[0] if str(error) else type(error).__name__}): "
        f"delete {path.parent} to start over, or choose another out"
    )
