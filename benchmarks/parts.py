"""Parts of long benchmarks, kept until the whole is done: one that was broken off goes on where it stopped.

What is kept holds for the same sources, processor and versions; it is gone once the benchmark ends.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

import torch

import blindspots
from blindspots.cache import cache_directory
from blindspots.studies.notebook import Notebook

from .measure import Figure
from .page import machine


class Parts:
    """The parts of a benchmark so far."""

    earlier: ClassVar[float] = 0.0
    """Seconds that the parts took which were done before."""

    def __init__(self, benchmark: str, quick: bool) -> None:
        place = f"{benchmark}{'-quick' * quick}-{_fingerprint()}"
        self._book = Notebook(
            cache_directory() / "benchmarks" / "parts" / place, {}, lambda name: print(name, flush=True)
        )

    def part(self, name: str, work: Callable[[], list[Figure]]) -> list[Figure]:
        """The figures of this part, worked out unless an earlier run has done so."""
        worked = False

        def once() -> tuple[dict[str, object], dict[str, torch.Tensor]]:
            nonlocal worked
            worked = True
            return {"figures": [asdict(figure) for figure in work()]}, {}

        values, _ = self._book.cell(name, {}, once)
        if not worked:
            Parts.earlier += values["seconds"]
        return [Figure(**figure) for figure in values["figures"]]

    def forget(self) -> None:
        """The benchmark is done: the next run measures everything anew."""
        self._book.close()
        shutil.rmtree(self._book.path)


def _fingerprint() -> str:
    """Of the sources, the processor and the versions."""
    told = hashlib.sha256(json.dumps(machine()).encode())
    for folder in (Path(__file__).parent, Path(blindspots.__file__).parent):
        for file in sorted(folder.rglob("*.py")):
            told.update(file.relative_to(folder).as_posix().encode() + file.read_bytes())
    return told.hexdigest()[:16]
