"""Settings: what is refused at construction, what a run's directory remembers, and that no torch is needed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from blindspots.errors import BlindspotsError
from blindspots.training import TrainSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "TrainSettings.epochs must be at least 1, got 0"),
        ({"batch": 0}, "TrainSettings.batch must be at least 1, got 0"),
        ({"limit": 1}, "TrainSettings.limit must be at least 2, got 1"),
        ({"seed": -1}, "TrainSettings.seed must be at least 0, got -1"),
        ({"threads": -1}, "TrainSettings.threads must be at least 0, got -1"),
        ({"learning_rate": 0.0}, "TrainSettings.learning_rate must be above 0, got 0.0"),
        ({"learning_rate": float("nan")}, "TrainSettings.learning_rate must be above 0, got nan"),
        ({"weight_decay": -1.0}, "TrainSettings.weight_decay must be at least 0, got -1.0"),
        ({"checkpoint_seconds": float("nan")}, "TrainSettings.checkpoint_seconds must be at least 0, got nan"),
        ({"label_smoothing": 1.0}, "TrainSettings.label_smoothing must lie in [0, 1), got 1.0"),
        ({"validation": 0.95}, "TrainSettings.validation must lie in [0, 0.9], got 0.95"),
        ({"optimiser": "sgd", "momentum": 1.0}, "TrainSettings.momentum must lie in [0, 1), got 1.0"),
        (
            {"optimiser": "adam", "momentum": 0.9},
            "TrainSettings.momentum applies to sgd only, got 0.9 with adam: leave it out",
        ),
        ({"optimiser": "lion"}, "TrainSettings.optimiser must be one of sgd, adam, adamw, got 'lion'"),
        (
            {"schedule": "step"},
            "TrainSettings.schedule must be one of constant, cosine, onecycle, cyclic, steps, got 'step'",
        ),
        (
            {"augmentation": "shift-flip", "data": "mnist"},
            "TrainSettings.augmentation 'shift-flip' would mirror the signs of 'mnist': use shift or none",
        ),
    ],
)
def test_wrong_values_fail_at_construction(values: dict[str, object], message: str) -> None:
    with pytest.raises(BlindspotsError) as error:
        TrainSettings(**values)  # type: ignore[arg-type]
    assert str(error.value) == message


def test_settings_are_frozen_and_every_field_explains_itself() -> None:
    settings = TrainSettings()
    with pytest.raises(FrozenInstanceError):
        settings.epochs = 3  # type: ignore[misc]
    source = Path(sys.modules[TrainSettings.__module__].__file__ or "").read_text()
    for item in fields(TrainSettings):
        after = source.split(f"    {item.name}: ", 1)[1].split("\n", 2)[1]
        assert after.strip().startswith('"""'), f"{item.name} has no help"


def test_fields_become_flags() -> None:
    tyro = pytest.importorskip("tyro")
    line = "--network resnet20 --network-settings width 8 norm batch --epochs 3 --optimiser sgd --limit 50"
    settings = tyro.cli(TrainSettings, args=line.split())
    assert settings == TrainSettings(
        network="resnet20", network_settings={"width": 8, "norm": "batch"}, epochs=3, optimiser="sgd", limit=50
    )


def test_defaults_that_depend_on_the_optimiser() -> None:
    assert TrainSettings(optimiser="sgd").rate == 0.1
    assert TrainSettings(optimiser="adamw").rate == 1e-3
    assert TrainSettings(optimiser="sgd").plain()["momentum"] == 0.9
    assert TrainSettings(optimiser="adam").plain()["momentum"] is None


def test_differences_name_what_changed_and_forgive_places() -> None:
    before = TrainSettings(optimiser="sgd", epochs=3, out="a", data_dir="x", checkpoint_seconds=1)
    same = TrainSettings(optimiser="sgd", epochs=3, out="b", data_dir="y", learning_rate=0.1, momentum=0.9)
    assert same.differences(before.plain()) == []
    other = TrainSettings(optimiser="sgd", epochs=4, seed=1)
    assert other.differences(before.plain()) == ["epochs: 3 there, 4 now", "seed: 0 there, 1 now"]


def test_directory_is_named_after_data_and_network() -> None:
    assert TrainSettings(data="imagefolder:a/b c", network="resnet20").directory == Path(
        "runs/imagefolder-a-b-c-resnet20"
    )
    fgsm = TrainSettings(method="fgsm", method_settings={"radius": 0.1})
    assert fgsm.directory == Path("runs/digits-small-cnn-fgsm")
    assert TrainSettings(out="here").directory == Path("here")


def test_settings_and_progress_need_no_torch() -> None:
    code = "import blindspots.training, blindspots.training.progress, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_settings_that_are_newer_than_a_run_were_at_their_defaults() -> None:
    stored = {name: value for name, value in TrainSettings(epochs=3).plain().items() if name not in ("method", "ema")}
    assert TrainSettings(epochs=3).differences(stored) == []
    assert TrainSettings(epochs=3, ema=0.9).differences(stored) == ["ema: 0.0 there, 0.9 now"]


def test_a_preset_on_the_command_line_gives_the_defaults() -> None:
    from blindspots.cli.train import with_preset

    for words in (
        ["train", "--preset", "fast-mnist", "--epochs", "3"],
        ["train", "--preset=fast-mnist", "--epochs", "3"],
    ):
        rest, command = with_preset(words)
        assert rest == ["train", "--epochs", "3"]
        assert (command.settings.method, command.settings.schedule, command.settings.batch) == (
            "fast-mnist",
            "cyclic",
            100,
        )
    assert with_preset(["train", "--epochs", "3"])[1].settings == TrainSettings()
