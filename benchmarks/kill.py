"""kill -9 at random moments of a run of `blindspots evaluate`, then the same command again: are the files the same?

The moments are uniform over the time that an undisturbed run takes from its start, imports included. Each has a fresh
run directory. All files are compared byte for byte, except `timing/`, `report.html` (which shows times) and lock files.
A run that ended before its moment came is not counted and is tried again.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from .invariance import results
from .measure import Figure, blindspots_command, checked, child, counted
from .subjects import conv_file, digit_data

IMAGES, KILLS = 2000, 20


def run(quick: bool) -> list[Figure]:
    images, kills = (600, 3) if quick else (IMAGES, KILLS)
    # Not seeded: each time the moments are others, and the record says which.
    draw = random.SystemRandom()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = digit_data("test", images)
        pixels, labels, _ = data.batch(0, images)
        np.savez(folder / "data.npz", images=(pixels.numpy() * 255).round().astype(np.uint8), labels=labels.numpy())
        command = _command(folder)
        whole = checked(child([*command, str(folder / "whole")]))
        expected = results(folder / "whole")
        same, late = 0, 0
        moments: list[dict[str, Any]] = []
        while len(moments) < kills:
            moment = draw.uniform(0, whole.seconds)
            out = folder / "killed"
            shutil.rmtree(out, ignore_errors=True)
            if not killed([*command, str(out)], moment):
                late += 1
                continue
            there = len(results(out)) if out.exists() else 0
            checked(child([*command, str(out)]))
            got = results(out)
            differing = sorted(name for name in expected | got if expected.get(name) != got.get(name))
            differing += [path.name for path in out.rglob(".tmp-*")]
            same += not differing
            moments.append({"seconds": round(moment, 3), "files_there": there, "differing": differing})
    shards = len([path for path in expected if path.startswith("clean/")])
    what = (
        f"killed and resumed runs with identical files ({len(expected)} files, {shards} shards, {whole.seconds:.1f} s)"
    )
    middle = sum(0 < m["files_there"] < len(expected) for m in moments)
    return [
        counted(what, same, kills, f" of {kills}", moments=moments, ended_before=late),
        Figure("of these, killed when some of the files were there and some not", f"{middle} of {kills}"),
    ]


def _command(folder: Path) -> list[str]:
    attacks = [word for name in ("uniform-noise:draws=1", "fgsm", "pgd:steps=5") for word in ("--attack", name)]
    data, radius = str(folder / "data.npz"), "0.1"
    start = [*blindspots_command(), "evaluate", "--model", str(conv_file()), "--data", data]
    return [*start, *attacks, "--radius", radius, "--batch", "16", "--out"]


def killed(command: list[str], moment: float, begun: Path | None = None) -> bool:
    """Start the command and kill it after so many seconds, counted from when the file `begun` is there, if one is
    given; False if it had ended by then."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while begun is not None and not begun.exists() and process.poll() is None:
        time.sleep(0.01)
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait() == -signal.SIGKILL
    return False
