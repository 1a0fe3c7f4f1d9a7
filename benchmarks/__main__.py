"""`python -m benchmarks [names...] [--quick] [--out FILE.md]`: measure, print, and keep what was found."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from .measure import Figure
from .page import ORDER, TITLES, make_record, write_page
from .parts import Parts


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure blindspots on this machine.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"which: {', '.join(ORDER)}; all by default")
    parser.add_argument("--quick", action="store_true", help="fewer images and rounds: does it work at all")
    parser.add_argument("--out", type=Path, help="write the page here, and what was found into benchmarks/results")
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in ORDER]
    if unknown:
        parser.error(f"unknown benchmark {', '.join(unknown)}: there are {', '.join(ORDER)}")
    torch.set_num_threads(1)
    console, missed = Console(highlight=False), 0
    for name in given.names or ORDER:
        before, started = os.getloadavg()[0], time.perf_counter()
        figures: list[Figure] = import_module(f".{name}", __package__).run(given.quick)
        seconds = time.perf_counter() - started + Parts.earlier
        Parts.earlier = 0.0
        record = make_record(figures, seconds, given.quick, (before, os.getloadavg()[0]))
        console.print(_table(name, figures, record))
        if given.out is not None:
            write_page(given.out, {name: record})
        else:
            print(json.dumps({name: record}))
        missed += sum(figure.met is False for figure in figures)
    return 1 if missed else 0


def _table(name: str, figures: list[Figure], record: dict[str, Any]) -> Table:
    load = record["load"]
    caption = f"{record['seconds']:.0f} s; load {load['before']} before, {load['after']} after"
    table = Table("what", "asked", "measured", "spread", title=TITLES[name], caption=caption, title_justify="left")
    for figure in figures:
        colour = {True: "green", False: "bold red", None: "default"}[figure.met]
        table.add_row(figure.what, figure.asked, f"[{colour}]{figure.measured}[/]", figure.spread)
    return table


if __name__ == "__main__":
    sys.exit(main())
