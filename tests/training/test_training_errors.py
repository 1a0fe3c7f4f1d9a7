"""What cannot work ends in one sentence that names the remedy, and nothing is lost or left lying about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from blindspots.data import dataset
from blindspots.errors import BlindspotsError
from blindspots.training import Event, Stepped, TrainSettings, fit
from blindspots.training.directory import Directory

SMALL = TrainSettings(limit=100, epochs=2, batch=32, device="cpu", threads=1, test_split="")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": "smal-cnn"}, "did you mean 'small-cnn'"),
        ({"data": "digit"}, "did you mean 'digits'"),
        ({"split": "training"}, "did you mean 'train'"),
        ({"normalisation": "minst"}, "did you mean 'mnist'"),
        ({"normalisation": "cifar10"}, "3 values, the images have 1 channels"),
        ({"network": "lenet"}, "lenet"),
        ({"network_settings": {"depth": 3}}, "depth"),
        ({"device": "abacus"}, "device 'abacus' cannot be used on this machine: give auto, cpu, or a GPU"),
        ({"device": "cuda:77"}, "device 'cuda:77' cannot be used on this machine"),
    ],
)
def test_impossible_runs_leave_no_directory(tmp_path: Path, change: dict[str, object], message: str) -> None:
    settings = replace(SMALL, out=str(tmp_path / "run"), **change)  # type: ignore[arg-type]
    with pytest.raises(BlindspotsError) as error:
        fit(settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_an_out_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BlindspotsError, match=r"cannot write .*file/run.*choose another out"):
        fit(replace(SMALL, out=str(tmp_path / "file" / "run")))
    with pytest.raises(BlindspotsError, match="is a file: choose another out"):
        fit(replace(SMALL, out=str(tmp_path / "file")))


def test_a_folder_with_somebody_elses_model_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"precious")
    with pytest.raises(BlindspotsError, match=r"no settings.json"):
        fit(replace(SMALL, out=str(tmp_path)))
    assert (tmp_path / "model.safetensors").read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["settings.json", "result.json"])
def test_damaged_small_files_are_named(tmp_path: Path, name: str) -> None:
    settings = replace(SMALL, epochs=1, out=str(tmp_path / "run"))
    fit(settings)
    (tmp_path / "run" / name).write_text('{"format": 1, "ep')
    with pytest.raises(BlindspotsError) as error:
        fit(settings)
    assert str(error.value).startswith(f"{tmp_path / 'run' / name} cannot be read (")
    assert str(error.value).endswith(f"delete {tmp_path / 'run'} to start over, or choose another out")


def test_one_image_a_class_leaves_none_to_hold_out(tmp_path: Path) -> None:
    data = dataset((torch.rand(3, 1, 8, 8), torch.arange(3)))
    settings = replace(SMALL, limit=None, out=str(tmp_path / "run"))
    with pytest.raises(BlindspotsError, match="none can be held out: give more images or validation 0"):
        fit(settings, data=data)
    fit(replace(settings, validation=0.0), data=data)


def test_test_images_of_another_shape(tmp_path: Path) -> None:
    other = dataset((torch.rand(20, 1, 9, 9), torch.arange(20) % 10))
    with pytest.raises(BlindspotsError, match=r"training images are \(1, 8, 8\).*test images \(1, 9, 9\)"):
        fit(replace(SMALL, out=str(tmp_path / "run")), data=dataset("digits", limit=50), test=other)


@pytest.mark.parametrize("seconds", [0.0, 1e9], ids=["every step saved", "only epochs saved"])
def test_a_diverging_run_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path, seconds: float) -> None:
    settings = replace(
        SMALL, optimiser="sgd", learning_rate=1e12, epochs=5, checkpoint_seconds=seconds, out=str(tmp_path / "run")
    )
    events: list[Event] = []
    with pytest.raises(BlindspotsError) as error:
        fit(settings, progress=events.append)
    message, path = str(error.value), Directory(settings.directory).checkpoint
    assert message.startswith("training diverged in epoch 1, step ")
    assert "train again with a learning_rate below 1e+12 in another out" in message
    assert all(torch.isfinite(torch.tensor(event.loss)) for event in events if isinstance(event, Stepped))
    if seconds == 0.0:
        assert f"the last good checkpoint is {path}" in message
        weights = torch.load(path, weights_only=True)["network"].values()
        assert all(bool(torch.isfinite(value).all()) for value in weights)
    else:
        assert "no checkpoint was written yet" in message
        assert not path.exists()
