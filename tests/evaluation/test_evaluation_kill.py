"""kill -9 at any moment, run the same command again: the files are those of an uninterrupted run.

Here the moments are chosen: a process kills itself just before or just after it puts a file in place, where something
could be torn. Moments drawn by the clock are in benchmarks/kill.py.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_evaluation_run import result_files

SCRIPT = """
import os, signal, sys
import torch
torch.set_num_threads(1)
sys.path.insert(0, {folder!r})
from evaluation_victim import images, victim
import blindspots as bs
from blindspots import files
from blindspots.evaluation import plan
plan.SHARD_IMAGES = 25
replace, count = os.replace, 0
def killing(source, target):
    global count
    count += 1
    if count == {before}:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
    if count == {after}:
        os.kill(os.getpid(), signal.SIGKILL)
files.os.replace = killing
bs.evaluate(victim(), images(100), [bs.UniformNoise("0.05"), bs.FGSM("0.05"), bs.PGD("0.03", steps=5, restarts=2),
    bs.PGD("0.5", "l2", steps=5)], out={out!r}, batch=8)
"""


def work(out: Path, before: int = 0, after: int = 0) -> int:
    """Evaluate in a process of its own, killed before or after it puts that file in place; the exit status."""
    script = SCRIPT.format(folder=str(Path(__file__).parent), out=str(out), before=before, after=after)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=240, check=False).returncode


@pytest.mark.slow
def test_killed_runs_end_with_the_files_of_an_uninterrupted_one(tmp_path: Path) -> None:
    assert work(tmp_path / "whole") == 0
    expected = result_files(tmp_path / "whole")
    assert len(expected) > 40
    # In turn: before the manifest is in place, after it, between images and table, after a table, late in a shard.
    for moment in ({"before": 1}, {"after": 1}, {"before": 6}, {"after": 12}, {"before": 24}):
        assert work(tmp_path / "killed", **moment) == -signal.SIGKILL
        assert result_files(tmp_path / "killed") != expected
    assert work(tmp_path / "killed") == 0
    assert result_files(tmp_path / "killed") == expected
    assert not list((tmp_path / "killed").rglob(".tmp-*"))
