"""What it costs to import the package, and to ask the command line for help, in fresh processes; the best of five.

The best, because anything else on the machine only adds. Files are in the system's cache after the first.
"""

from __future__ import annotations

import sys

from .measure import Figure, Ran, blindspots_command, checked, child, information

_IMPORT = "import time, torch; t = time.perf_counter(); import blindspots{more}; print(time.perf_counter() - t)"
_NAMES = "; [getattr(blindspots, name) for name in blindspots.__all__]"
_LOADED = """
import sys
from blindspots.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
print(len([name for name in sys.modules if name.partition(".")[0] == "torch"]))
"""


def run(quick: bool) -> list[Figure]:
    rounds = 2 if quick else 5
    alone, names = [], []
    helped: list[Ran] = []
    for _ in range(rounds):
        alone.append(_seconds(_IMPORT.format(more="")))
        names.append(_seconds(_IMPORT.format(more=_NAMES)))
        helped.append(checked(child([*blindspots_command(), "--help"])))
    loaded = int(_last(_LOADED))
    return [
        _fast("`import blindspots` beyond `import torch`", alone, 0.3),
        information("the same, and every public name of it, in seconds", [min(names)], seconds=names),
        _fast("`blindspots --help`", [ran.seconds for ran in helped], 1.0),
        information("`blindspots --help`, processor time in seconds", [min(ran.cpu for ran in helped)]),
        Figure("modules of torch that `blindspots --help` loads", str(loaded), "0", met=loaded == 0),
    ]


def _fast(what: str, seconds: list[float], bound: float) -> Figure:
    text = f"{min(seconds):.3f} to {max(seconds):.3f} s in {len(seconds)} processes"
    return Figure(what, f"{min(seconds):.3f} s", f"< {bound:g} s", text, min(seconds) < bound, {"seconds": seconds})


def _seconds(code: str) -> float:
    return float(_last(code))


def _last(code: str) -> str:
    return checked(child([sys.executable, "-c", code])).output.strip().splitlines()[-1]
