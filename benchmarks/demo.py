"""`blindspots evaluate` without arguments, with an empty cache: train a small network, attack it, write the report."""

from __future__ import annotations

import tempfile
from pathlib import Path

from .measure import Figure, blindspots_command, checked, child


def run(quick: bool) -> list[Figure]:
    seconds = []
    for _ in range(1 if quick else 3):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            ran = checked(
                child(
                    [*blindspots_command(), "evaluate", "--out", "demo"],
                    folder=folder,
                    environment={"BLINDSPOTS_CACHE": str(folder / "cache")},
                )
            )
            assert (folder / "demo" / "report.html").is_file()
            seconds.append(ran.seconds)
    middle = sorted(seconds)[len(seconds) // 2]
    text = f"{min(seconds):.1f} to {max(seconds):.1f} s in {len(seconds)} runs"
    return [
        Figure(
            "`blindspots evaluate`, fresh cache", f"{middle:.1f} s", "< 90 s", text, middle < 90, {"seconds": seconds}
        )
    ]
