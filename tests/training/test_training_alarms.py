"""Alarms: the rules, what the loop answers, which epoch is kept, and what is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from blindspots.models import load_model
from blindspots.training import EpochRecord, Event, Trained, TrainSettings, fit
from blindspots.training.alarms import CATASTROPHIC, LEAKING, MASKING, OVERFITTING, Watched, final_alarms
from blindspots.training.loop import Loop
from blindspots.training.progress import epoch_line, trained_line

SMALL = TrainSettings(
    limit=120, epochs=4, batch=32, learning_rate=3e-3, validation=0.2, device="cpu", threads=1, test_split="",
    method="fgsm", method_settings={"radius": 0.1}, watch=10, watch_steps=2,
)  # fmt: skip

# What the loop is made to see after each epoch: clean, one step, PGD.
COURSE = [(0.9, 0.8, 0.7), (0.95, 0.9, 0.75), (0.96, 0.95, 0.1), (0.97, 0.96, 0.6)]


@pytest.mark.parametrize(
    ("seen", "alarms"),
    [
        ((0.98, 0.96, 0.92), ()),
        ((0.87, 0.57, 0.50), ()),
        ((0.98, 0.97, 0.02), (CATASTROPHIC,)),
        ((0.30, 0.20, 0.02), ()),  # hardly trained
        ((0.90, 0.95, 0.85), (LEAKING,)),
        ((0.90, 0.99, 0.0), (CATASTROPHIC, LEAKING)),
    ],
)
def test_rules_of_an_epoch(seen: tuple[float, float, float], alarms: tuple[str, ...]) -> None:
    assert Watched(*seen).alarms() == alarms


def test_rules_of_the_end() -> None:
    assert final_alarms(0.9, 0.88, 0.85) == ()
    assert final_alarms(0.9, 0.8, 0.85) == (OVERFITTING,)
    assert final_alarms(0.9, 0.9, 0.4) == (MASKING,)
    assert final_alarms(None, None, None) == ()


@pytest.fixture
def course(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Loop, "_watch", lambda loop: Watched(*COURSE[loop.state.epoch]))
    monkeypatch.setattr("blindspots.training.train.strong_accuracy", lambda *_: 0.2)


def run(settings: TrainSettings, out: Path) -> tuple[Trained, list[EpochRecord]]:
    events: list[Event] = []
    trained = fit(replace(settings, out=str(out)), progress=events.append)
    return trained, [event for event in events if isinstance(event, EpochRecord)]


@pytest.mark.usefixtures("course")
def test_the_best_epoch_is_that_of_the_highest_robust_accuracy_and_all_is_told(tmp_path: Path) -> None:
    trained, records = run(SMALL, tmp_path / "run")
    assert [record.best for record in records] == [True, True, False, False]
    assert (trained.best_epoch, trained.robust_accuracy, trained.last_robust_accuracy) == (2, 0.75, 0.6)
    assert trained.strong_accuracy == 0.2
    assert trained.alarms == (CATASTROPHIC, OVERFITTING, MASKING)
    assert records[2].alarms == (CATASTROPHIC,)
    assert records[2].answer == "report"
    assert fit(replace(SMALL, out=str(tmp_path / "run"))).alarms == trained.alarms
    assert load_model(str(trained.model)).info["alarms"] == list(trained.alarms)
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[2])
    assert line["alarms"] == [CATASTROPHIC]
    assert "watched: one step 95.00%, PGD 10.00%; ALARM: catastrophic overfitting" in epoch_line(records[2])
    told = trained_line(trained)
    assert "75.00% under PGD (last epoch 60.00%), 20.00% under a strong attack" in told
    assert "ALARM: gradient masking" in told


@pytest.mark.usefixtures("course")
def test_stop_ends_the_run_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    trained, records = run(replace(SMALL, on_overfitting="stop"), tmp_path / "run")
    assert [record.epoch for record in records] == [1, 2, 3]
    assert (trained.best_epoch, trained.last_robust_accuracy) == (2, 0.1)


@pytest.mark.usefixtures("course")
@pytest.mark.parametrize("answer", ["halve", "rollback"])
def test_the_step_is_halved_and_weights_come_back(tmp_path: Path, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loops: list[Loop] = []
    real = Loop._answer

    def spy(loop: Loop, record: EpochRecord) -> None:
        loops.append(loop)
        last = {name: value.clone() for name, value in loop.state.network.state_dict().items()}
        real(loop, record)
        now, best = loop.state.network.state_dict(), loop.state.best
        back = record.epoch == 3 and answer == "rollback"
        assert all(torch.equal(now[name], best[name] if back else last[name]) for name in now)
        assert loop.state.scale == (0.5 if record.epoch >= 3 else 1.0)

    monkeypatch.setattr(Loop, "_answer", spy)
    run(replace(SMALL, on_overfitting=answer), tmp_path / "run")  # type: ignore[arg-type]
    assert len(loops) == 4


def test_plain_training_and_no_watch_measure_nothing_more(tmp_path: Path) -> None:
    for name, settings in (
        ("plain", replace(SMALL, method="plain", method_settings={}, epochs=1)),
        ("blind", replace(SMALL, watch=0, epochs=1)),
        ("none held out", replace(SMALL, validation=0.0, epochs=1)),
    ):
        trained, (record,) = run(settings, tmp_path / name)
        assert record.robust_accuracy is None
        assert (trained.robust_accuracy, trained.strong_accuracy, trained.alarms) == (None, None, ())


def test_watched_numbers_are_those_of_attacks(tmp_path: Path) -> None:
    """One step of FGSM and PGD with the same steps, as the attacks of the library find them on the same images."""
    import blindspots as bs
    from blindspots.training.preparation import find_data, set_up

    settings = replace(SMALL, epochs=2, watch=24, limit=200)
    trained, records = run(settings, tmp_path / "run")
    held = set_up(settings, find_data(settings)[0], None, torch.device("cpu")).validation
    assert held is not None
    images, labels, _ = held.batch(torch.arange(24))
    model = bs.classifier(str(trained.model))
    record = records[trained.best_epoch - 1]
    assert record.watched_accuracy == pytest.approx(float((model.logits(images).argmax(1) == labels).float().mean()))
    result = bs.FGSM("0.1")(model, images, labels)
    assert record.one_step_accuracy == pytest.approx(float((result.prediction == labels).float().mean()))
    assert trained.strong_accuracy is not None
    assert trained.strong_accuracy <= record.one_step_accuracy
