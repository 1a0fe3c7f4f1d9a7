"""How a figure is measured: interleaved rounds, a ratio from each round, the median and the spread of the ratios.

What is to be compared takes turns, so that a busy spell of the machine falls on all of it, and their ratio is formed
within each round. Wall time is what counts; processor time is recorded beside it, because it leaves out the moments
in which another process had the core.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Time:
    """Seconds of one piece of work, and what it returned."""

    wall: float
    cpu: float
    value: Any = None


@dataclass(frozen=True)
class Figure:
    """One line of the table; `met` is None where nothing is asked."""

    what: str
    measured: str
    asked: str = ""
    spread: str = ""
    met: bool | None = None
    raw: dict[str, Any] = field(default_factory=dict)


def timed(work: Callable[[], Any]) -> Time:
    """Do it and say how long it took, on the wall clock and on this process's processor clock."""
    cpu, wall = time.process_time(), time.perf_counter()
    value = work()
    return Time(time.perf_counter() - wall, time.process_time() - cpu, value)


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Smallest to largest of the rounds."""
    return f"{min(values):.{digits}f} to {max(values):.{digits}f} in {len(values)} rounds"


def at_most(what: str, ratios: Sequence[float], bound: float, *, strict: bool = False, **raw: Any) -> Figure:
    """A figure whose median must not exceed a bound (must stay below it, if strict)."""
    value = median(ratios)
    met = value < bound if strict else value <= bound
    sign = "<" if strict else "<="
    raw |= {"ratios": list(ratios)}
    return Figure(what, f"{value:.3f}", f"{sign} {bound:g}", spread(ratios), met, raw)


def at_least(what: str, ratios: Sequence[float], bound: float, **raw: Any) -> Figure:
    """A figure whose median must reach a bound."""
    value = median(ratios)
    raw |= {"ratios": list(ratios)}
    return Figure(what, f"{value:.2f}", f">= {bound:g}", spread(ratios, 2), value >= bound, raw)


def information(what: str, ratios: Sequence[float], **raw: Any) -> Figure:
    """A figure of which nothing is asked."""
    return Figure(what, f"{median(ratios):.3f}", "", spread(ratios), None, raw | {"ratios": list(ratios)})


def counted(what: str, got: int, asked: int, of: str = "", **raw: Any) -> Figure:
    """A number that must be exactly this."""
    return Figure(what, f"{got}{of}", f"{asked}{of}", "", got == asked, raw)


# ru_maxrss of a program includes what the process that started it occupied at that moment, so that a small one has to
# start it. Its last line: exit status, seconds, seconds of processor time, peak memory in KiB (Linux).
_STARTER = """
import os, sys, time
started = time.perf_counter()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
cpu = usage.ru_utime + usage.ru_stime
print(f"\\n{os.waitstatus_to_exitcode(status)} {time.perf_counter() - started} {cpu} {usage.ru_maxrss}")
"""


@dataclass(frozen=True)
class Ran:
    """A finished child process."""

    status: int
    seconds: float
    cpu: float
    peak_mib: float
    output: str


def child(command: Sequence[str], *, folder: Path | None = None, environment: Mapping[str, str] | None = None) -> Ran:
    """Run a command in a process of its own and wait for it; its output and errors together."""
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", _STARTER, *command],
        cwd=folder,
        env=os.environ | dict(environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    output, _, last = done.stdout.rstrip("\n").rpartition("\n")
    status, seconds, cpu, peak = last.split()
    return Ran(int(status), float(seconds), float(cpu), int(peak) / 1024, output)


def blindspots_command() -> list[str]:
    """The installed command line of this environment."""
    return [str(Path(sys.executable).parent / "blindspots")]


def checked(ran: Ran) -> Ran:
    """The finished process, if it ended well."""
    if ran.status:
        raise RuntimeError(f"a child process ended with status {ran.status}:\n{ran.output[-2000:]}")
    return ran
