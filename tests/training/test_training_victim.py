"""The cached victim: good, quick, trained once even when two processes ask at once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from blindspots.errors import BlindspotsError
from blindspots.models import load_model
from blindspots.training import Event, Trained, cached_victim
from blindspots.training.victim import VICTIMS


def test_the_digits_victim_is_good_quick_and_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLINDSPOTS_CACHE", str(tmp_path))
    events: list[Event] = []
    start = time.process_time()
    path = cached_victim("digits", progress=events.append)
    assert time.process_time() - start < 15
    assert isinstance(events[-1], Trained)
    assert events[-1].test_accuracy is not None
    assert events[-1].test_accuracy >= 0.97
    assert load_model(str(path)).info["accuracy"] == events[-1].test_accuracy
    written = path.stat().st_mtime_ns
    start = time.process_time()
    assert cached_victim() == path
    assert time.process_time() - start < 0.5
    assert path.stat().st_mtime_ns == written


def test_other_settings_or_version_have_another_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLINDSPOTS_CACHE", str(tmp_path))
    quick = replace(VICTIMS["digits"], limit=50, epochs=1)
    places = set()
    for settings, version in ((quick, "1.0"), (replace(quick, seed=1), "1.0"), (quick, "1.1")):
        monkeypatch.setitem(VICTIMS, "digits", settings)
        monkeypatch.setattr("blindspots.training.victim.own_version", lambda version=version: version)
        places.add(cached_victim())
    assert len(places) == 3


def test_two_processes_at_once_train_one_network(tmp_path: Path) -> None:
    code = (
        "from dataclasses import replace\n"
        "from blindspots.training import victim, Started\n"
        "victim.VICTIMS['digits'] = replace(victim.VICTIMS['digits'], limit=50, epochs=2)\n"
        "began = []\n"
        "path = victim.cached_victim(progress=lambda e: began.append(e) if isinstance(e, Started) else None)\n"
        "print(path, len(began))\n"
    )
    environment = {**os.environ, "BLINDSPOTS_CACHE": str(tmp_path)}
    children = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True) for _ in "ab"
    ]
    answers = [child.communicate(timeout=200)[0].split() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert answers[0][0] == answers[1][0]
    assert sorted(answer[1] for answer in answers) == ["0", "1"]


def test_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BlindspotsError, match="unknown victim 'digit': did you mean 'digits'"):
        cached_victim("digit")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BLINDSPOTS_CACHE", str(tmp_path / "file"))
    with pytest.raises(BlindspotsError, match="set BLINDSPOTS_CACHE to a folder"):
        cached_victim()
