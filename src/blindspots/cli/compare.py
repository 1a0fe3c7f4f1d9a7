"""`blindspots compare RUN RUN ...`: runs on the same images, two by two."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from .options import Command

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Compare(Command):
    """Compare finished runs on the same images: models under the same attacks, or attacks on the same model.

    Of every two runs: accuracy without attack, in the worst case at each radius that both have, and under each attack
    that both made; the difference with its paired bootstrap interval, and McNemar's exact test.
    """

    runs: Positional[tuple[str, ...]]
    """Run directories, two or more, on the same images."""
    out: str | None = None
    """Folder for comparison.html and comparison.json. Default: runs/compare-NAMES."""

    def run(self, console: Console) -> None:
        from ..evaluation.compare import compare
        from ..report.comparison import print_comparison

        folder = Path(self.out or f"runs/compare-{'-'.join(_short(path) for path in self.runs)}"[:120])
        found = compare(self.runs, out=folder)
        print_comparison(found, console)
        console.print(f"page    {folder / 'comparison.html'}", soft_wrap=True)
        console.print(f"numbers {folder / 'comparison.json'}", soft_wrap=True)


def _short(path: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", Path(path).name).strip("-")
