"""Killed anywhere and started again, a run ends with the very file of one that never stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from blindspots.errors import BlindspotsError
from blindspots.training import Event, Started, Stepped, Trained, TrainSettings, fit
from blindspots.training.directory import Directory

# Seven steps an epoch; a checkpoint after every step, the shortest interval there is.
SMALL = TrainSettings(
    limit=200, epochs=3, batch=24, learning_rate=3e-3, schedule="onecycle", augmentation="shift", validation=0.2,
    device="cpu", threads=1, checkpoint_seconds=0.0, test_split="",
)  # fmt: skip


class Killed(BaseException):
    """Stands for a kill -9 where a process of its own would take too long: no code of the library catches it."""


def _files(trained: Trained) -> dict[str, bytes]:
    folder = trained.model.parent
    return {name: (folder / name).read_bytes() for name in ("model.safetensors", "metrics.jsonl", "result.json")}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return _files(fit(replace(SMALL, out=str(tmp_path_factory.mktemp("runs") / "whole"))))


CHILD = """
import json, os, signal, sys
from blindspots.training import Stepped, TrainSettings, fit
settings, moment = TrainSettings(**json.loads(sys.argv[1])), sys.argv[2]
count = 0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def watch(event):
    global count
    count += isinstance(event, Stepped)
    if moment == f"step {count}":
        die()

real, replaced = os.replace, 0
def replace(old, new):
    global replaced
    replaced += 1
    if moment == f"before replace {replaced}":
        die()
    real(old, new)
    if moment == f"after replace {replaced}":
        die()

os.replace = replace
fit(settings, progress=watch)
"""


@pytest.mark.parametrize("moment", ["step 3", "before replace 5", "after replace 11"])
def test_kill_9(tmp_path: Path, uninterrupted: dict[str, bytes], moment: str) -> None:
    settings = replace(SMALL, out=str(tmp_path / "run"))
    arguments = [sys.executable, "-c", CHILD, json.dumps(asdict(settings)), moment]
    child = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr
    directory = Directory(settings.directory)
    assert not directory.result.exists()
    (directory.path / ".tmp-1-checkpoint.pt").write_bytes(b"half")
    (directory.path / ".mine").write_bytes(b"kept")
    started: list[Event] = []
    assert _files(fit(settings, progress=started.append)) == uninterrupted
    assert isinstance(started[0], Started)
    assert sorted(path.name for path in directory.path.glob(".*")) == [".lock", ".mine"]
    assert started[0].epoch * 7 + started[0].step > 0, "it began from the start"


def test_stopped_before_and_after_every_file_it_writes(
    tmp_path: Path, uninterrupted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run stopped again and again around a rename; the end alone writes four files, so each start gets five."""
    settings = replace(SMALL, out=str(tmp_path / "run"))
    real, stops = os.replace, 0
    files = None
    while files is None and stops < 40:
        writes = 0

        def cut(old: object, new: object, late: bool = bool(stops % 2)) -> None:
            nonlocal writes
            writes += 1
            if writes == 5 and not late:
                raise Killed
            real(old, new)  # type: ignore[call-overload]
            if writes == 5:
                raise Killed

        monkeypatch.setattr(os, "replace", cut)
        try:
            files = _files(fit(settings))
        except Killed:
            stops += 1
    assert stops >= 4
    assert files == uninterrupted


@pytest.mark.parametrize(
    "change",
    [
        {"optimiser": "sgd", "momentum": 0.8, "learning_rate": 0.05, "network": "resnet8", "data": "digits"},
        {"optimiser": "adamw", "weight_decay": 0.1, "label_smoothing": 0.1, "network": "stadv-c"},
        {"method": "free", "method_settings": {"radius": 0.1, "replays": 2}, "watch": 0},
        {"method": "pool", "method_settings": {"every": 1, "fresh": 3, "size": 8, "steps": 2}},
        {"method": "universal", "method_settings": {"radius": 0.1}, "ema": 0.9, "transforms": "RandomErasing:p=0.5"},
        {
            "method": "fast",
            "method_settings": {"radius": 0.1},
            "awp": 0.01,
            "clip": 1.0,
            "accumulate": 2,
            "network": "resnet8",
            "watch": 4,
            "watch_steps": 2,
        },
    ],
    ids=["batch-norm", "dropout", "free", "pool", "universal-average", "fast-awp"],
)
def test_all_state_comes_back(tmp_path: Path, change: dict[str, object]) -> None:
    settings = replace(SMALL, **{"limit": 100, "epochs": 2, **change})  # type: ignore[arg-type]
    whole = _files(fit(replace(settings, out=str(tmp_path / "whole"))))
    cut = replace(settings, out=str(tmp_path / "cut"))
    for last in (2, 4):  # in the first epoch, and in the second: four steps each
        with pytest.raises(Killed):
            fit(cut, progress=_kill_at(last))
    assert _files(fit(cut)) == whole


def _kill_at(last: int) -> Callable[[Event], None]:
    count = 0

    def watch(event: Event) -> None:
        nonlocal count
        count += isinstance(event, Stepped)
        if count == last:
            raise Killed

    return watch


@pytest.mark.parametrize(("kind", "place"), [(Started, (0, 1)), (Stepped, (1, 0))], ids=["within", "end of epoch"])
def test_control_c_saves_and_goes_on_at_the_same_place(
    tmp_path: Path, uninterrupted: dict[str, bytes], kind: type, place: tuple[int, int]
) -> None:
    settings = replace(SMALL, checkpoint_seconds=1e9, out=str(tmp_path / "run"))
    before, pressed = signal.getsignal(signal.SIGINT), False

    def press(event: Event) -> None:
        nonlocal pressed
        if isinstance(event, kind) and not pressed:
            pressed = True
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="goes on from epoch"):
        fit(settings, progress=press)
    assert signal.getsignal(signal.SIGINT) is before
    started: list[Event] = []
    result = fit(settings, progress=started.append)
    assert isinstance(started[0], Started)
    assert (started[0].epoch, started[0].step) == place
    assert _files(result)["metrics.jsonl"] == uninterrupted["metrics.jsonl"]


def test_a_second_control_c_stops_at_once(tmp_path: Path) -> None:
    def press_twice(event: Event) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second Ctrl-C was swallowed")

    # A process that was started in the background ignores Ctrl-C from the beginning; here it must not.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(replace(SMALL, out=str(tmp_path / "run")), progress=press_twice)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_changed_setting_is_refused_and_named(tmp_path: Path) -> None:
    settings = replace(SMALL, out=str(tmp_path / "run"))
    with pytest.raises(Killed):
        fit(settings, progress=_kill_at(3))
    with pytest.raises(BlindspotsError, match=r"other settings .epochs: 3 there, 4 now; seed: 0 there, 1 now.: repeat"):
        fit(replace(settings, epochs=4, seed=1))
    fit(settings)
    with pytest.raises(BlindspotsError, match=r"learning_rate: 0.003 there, 0.01 now"):
        fit(replace(settings, learning_rate=0.01))


def test_changed_images_are_refused(tmp_path: Path) -> None:
    from blindspots.data import dataset

    images, labels, _ = dataset("digits", limit=100).batch(0, 100)
    settings = replace(SMALL, data="mine", limit=None, out=str(tmp_path / "run"))
    with pytest.raises(Killed):
        fit(settings, progress=_kill_at(3), data=dataset((images, labels)))
    with pytest.raises(BlindspotsError, match="images are not those"):
        fit(settings, data=dataset((1 - images, labels)))


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "other"])
def test_a_damaged_checkpoint_is_named_with_the_remedy(tmp_path: Path, damage: str) -> None:
    settings = replace(SMALL, out=str(tmp_path / "run"))
    with pytest.raises(Killed):
        fit(settings, progress=_kill_at(3))
    path = Directory(settings.directory).checkpoint
    good = path.read_bytes()
    if damage == "other":
        torch.save({"format": 1, "network": {}}, path)
    else:
        path.write_bytes({"cut": good[: len(good) // 2], "noise": b"\x00\x01" * 500, "empty": b""}[damage])
    with pytest.raises(BlindspotsError) as error:
        fit(settings)
    assert f"{path} is damaged" in str(error.value)
    assert "delete it to start this training over" in str(error.value)
    path.unlink()
    fit(settings)


def test_a_checkpoint_is_data_and_runs_no_code(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "trapped"),))

    settings = replace(SMALL, out=str(tmp_path / "run"))
    with pytest.raises(Killed):
        fit(settings, progress=_kill_at(3))
    torch.save({"format": 1, "network": Trap()}, Directory(settings.directory).checkpoint)
    with pytest.raises(BlindspotsError, match="damaged"):
        fit(settings)
    assert not (tmp_path / "trapped").exists()


def test_two_processes_do_not_train_in_one_directory(tmp_path: Path) -> None:
    settings = replace(SMALL, out=str(tmp_path / "run"))
    with Directory(settings.directory).locked(), pytest.raises(BlindspotsError, match="another process is training in"):
        fit(settings)
    fit(settings)
