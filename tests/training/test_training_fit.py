"""The fit loop on digits: learns, is deterministic, keeps the best epoch, leaves nothing behind, tells what it does."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from blindspots.data import dataset
from blindspots.errors import BlindspotsError
from blindspots.models import load_model
from blindspots.training import EpochRecord, Event, Started, Stepped, Trained, TrainSettings, fit
from blindspots.training.directory import Directory

SMALL = TrainSettings(limit=200, epochs=3, batch=32, learning_rate=3e-3, validation=0.2, device="cpu", threads=1)

LONGER = replace(SMALL, limit=None, epochs=12, schedule="onecycle")


def _weights(path: Path) -> dict[str, Tensor]:
    return load_model(str(path)).module.state_dict()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, list[Event]]:
    events: list[Event] = []
    settings = replace(LONGER, out=str(tmp_path_factory.mktemp("runs") / "digits"))
    return fit(settings, progress=events.append), events


def test_a_short_training_makes_a_good_victim_that_loads_by_its_path(trained: tuple[Trained, list[Event]]) -> None:
    result, _ = trained
    loaded = load_model(str(result.model))
    test = dataset("digits", split="test")
    images, labels, _ = test.batch(0, len(test))
    mean, std = (torch.tensor(values)[:, None, None] for values in (loaded.mean, loaded.std))
    loaded.module.eval()
    accuracy = float((loaded.module((images - mean) / std).argmax(1) == labels).double().mean())
    assert result.test_accuracy == pytest.approx(accuracy)
    assert accuracy >= 0.95
    assert (loaded.info["network"], loaded.shape, loaded.classes, loaded.trained) == ("small-cnn", (1, 8, 8), 10, True)
    assert loaded.info["test_accuracy"] == result.test_accuracy
    assert loaded.info["validation_accuracy"] == result.validation_accuracy
    assert (loaded.info["seed"], loaded.info["epochs"]) == (0, 12)
    assert loaded.info["data"] == dataset("digits", split="train").describe()
    assert loaded.info["training_images"] + loaded.info["validation_images"] == 1297


def test_the_best_epoch_is_kept_and_the_metrics_say_so(trained: tuple[Trained, list[Event]]) -> None:
    result, events = trained
    directory = Directory(result.model.parent)
    lines = [json.loads(line) for line in directory.metrics.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 13))
    told = [asdict(event) for event in events if isinstance(event, EpochRecord)]
    assert lines == json.loads(json.dumps(told))
    best = max(lines, key=lambda line: (line["validation_accuracy"], -line["validation_loss"]))
    assert (result.best_epoch, result.validation_accuracy) == (best["epoch"], best["validation_accuracy"])
    assert [json.loads(line)["epoch"] for line in directory.timing.read_text().splitlines()] == list(range(1, 13))
    assert not directory.checkpoint.exists()


def test_events_come_in_order_and_count_every_image(trained: tuple[Trained, list[Event]]) -> None:
    result, events = trained
    first, last = events[0], events[-1]
    assert first == Started(epochs=12, steps=33, images=1038, epoch=0, step=0)
    assert last == result
    steps = [event for event in events if isinstance(event, Stepped)]
    assert [step.images for step in steps if step.step == 33] == [1038] * 12
    assert steps[-1].accuracy > 0.95 > steps[0].accuracy


def test_a_finished_run_returns_at_once(trained: tuple[Trained, list[Event]], monkeypatch: pytest.MonkeyPatch) -> None:
    result, _ = trained
    monkeypatch.setattr("blindspots.training.train.find_data", lambda settings: pytest.fail("read the data again"))
    again = fit(replace(LONGER, out=str(result.model.parent)))
    assert again == replace(result, seconds=pytest.approx(result.seconds))


@pytest.mark.parametrize(
    "change",
    [
        {"optimiser": "sgd", "learning_rate": 0.05, "schedule": "onecycle", "augmentation": "shift"},
        {"optimiser": "adamw", "weight_decay": 0.01, "label_smoothing": 0.1, "normalisation": "none"},
        {"network": "stadv-c", "learning_rate": 1e-3, "epochs": 1},  # with dropout
    ],
    ids=["sgd", "adamw", "dropout"],
)
def test_same_settings_give_the_same_file_and_another_seed_another(tmp_path: Path, change: dict[str, object]) -> None:
    settings = replace(SMALL, **change)  # type: ignore[arg-type]
    files = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(len(files))  # what the caller drew before does not matter
        files.append(fit(replace(settings, seed=seed, out=str(tmp_path / name))).model.read_bytes())
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_the_memory_format_reaches_the_convolutions_and_changes_rounding_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strides: dict[bool, set[tuple[int, ...]]] = {}
    forward = nn.Conv2d.forward
    found = {}
    for last in (False, True):

        def seen(self: nn.Conv2d, images: Tensor, last: bool = last) -> Tensor:
            strides.setdefault(last, set()).add(images.stride()[1:])
            return forward(self, images)

        monkeypatch.setattr(nn.Conv2d, "forward", seen)
        settings = replace(SMALL, epochs=1, optimiser="sgd", learning_rate=0.01, schedule="constant")
        found[last] = _weights(fit(replace(settings, channels_last=last, out=str(tmp_path / str(last)))).model)
    assert (1, 8, 1) in strides[True]  # one channel of 8 x 8 pixels, as the convolutions tell the formats apart
    assert (1, 8, 1) not in strides[False]
    for name, value in found[False].items():
        torch.testing.assert_close(found[True][name], value, rtol=1e-3, atol=1e-5)


def test_a_callback_that_draws_random_numbers_changes_nothing(tmp_path: Path) -> None:
    quiet = fit(replace(SMALL, augmentation="shift", out=str(tmp_path / "a")))
    noisy = fit(replace(SMALL, augmentation="shift", out=str(tmp_path / "b")), progress=lambda event: torch.rand(3))
    assert quiet.model.read_bytes() == noisy.model.read_bytes()


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    fit(replace(SMALL, epochs=1, threads=2, out=str(tmp_path / "a")))
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.rand(4), expected)


def test_without_validation_the_last_epoch_is_kept(tmp_path: Path) -> None:
    result = fit(replace(SMALL, validation=0.0, test_split="", out=str(tmp_path / "a")))
    assert (result.best_epoch, result.validation_accuracy, result.test_accuracy) == (3, None, None)
    assert load_model(str(result.model)).info["accuracy"] is None


def test_the_test_split_never_chooses(tmp_path: Path) -> None:
    with_test = fit(replace(SMALL, out=str(tmp_path / "a")))
    without = fit(replace(SMALL, test_split="", out=str(tmp_path / "b")))
    assert with_test.test_accuracy is not None
    for name, value in _weights(with_test.model).items():
        assert torch.equal(value, _weights(without.model)[name])


def test_images_in_memory_of_any_channels_and_classes(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    images = torch.rand(60, 2, 8, 8, generator=generator) * 0.2 + labels[:, None, None, None] * 0.3
    data = dataset((images, labels))
    result = fit(replace(SMALL, limit=None, data="mine", epochs=20, out=str(tmp_path / "a")), data=data, test=data)
    loaded = load_model(str(result.model))
    assert (loaded.shape, loaded.classes) == ((2, 8, 8), 3)
    assert result.test_accuracy == 1.0


def test_one_step_of_sgd_is_the_closed_form(tmp_path: Path) -> None:
    """Softmax regression from known weights: w - rate (gradient + decay w), the rate of step 0 being the peak."""
    settings = replace(
        SMALL, network="fc10", limit=None, epochs=1, batch=40, optimiser="sgd", momentum=0.0, learning_rate=0.5,
        weight_decay=0.1, schedule="cosine", label_smoothing=0.2, validation=0.0, normalisation="half", test_split="",
        out=str(tmp_path / "a"),
    )  # fmt: skip
    data = dataset("digits", split="train", limit=40)
    seen: list[nn.Module] = []

    def spy(*args: object, **values: object) -> nn.Module:
        from blindspots.models import build

        seen.append(build(*args, **values).double())  # type: ignore[arg-type]
        return seen[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("blindspots.training.preparation.build", spy)
        patch.setattr("blindspots.training.rows._decode", lambda stored: stored.double())
        patch.setattr("blindspots.training.loop.Loop._save", lambda loop: None)
        first: list[dict[str, Tensor]] = []

        def note(event: Event) -> None:
            if isinstance(event, Started):
                first.append({name: value.clone() for name, value in seen[0].state_dict().items()})

        fit(settings, data=data, progress=note)
    images, labels, _ = data.batch(0, 40)
    x = (images.double().flatten(1) - 0.5) / 0.5
    (w_name, w), (b_name, b) = sorted(first[0].items(), key=lambda item: -item[1].ndim)
    target = 0.8 * torch.eye(10, dtype=torch.float64)[labels] + 0.02
    error = (torch.softmax(x @ w.T + b, 1) - target) / 40
    after = seen[0].state_dict()
    torch.testing.assert_close(after[w_name], w - 0.5 * (error.T @ x + 0.1 * w), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(after[b_name], b - 0.5 * (error.sum(0) + 0.1 * b), rtol=1e-9, atol=1e-12)


def test_same_images_under_two_split_names_are_no_test(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    images, labels, _ = dataset("digits", limit=40).batch(0, 40)
    numpy.savez(tmp_path / "mine.npz", images=images.numpy(), labels=labels.numpy())
    settings = replace(SMALL, data=str(tmp_path / "mine.npz"), limit=None, out=str(tmp_path / "a"))
    with pytest.raises(BlindspotsError, match=r"hold the same images.*leave test_split empty"):
        fit(settings)
    assert fit(replace(settings, test_split="")).test_accuracy is None
