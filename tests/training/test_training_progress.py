"""The progress bar: what a person sees on a terminal and what a log file gets."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from blindspots.training import EpochRecord, Started, Stepped, Trained, TrainSettings, fit
from blindspots.training.progress import TrainingBar, epoch_line, trained_line

RECORD = EpochRecord(2, 0.001, 0.25, 0.9, 0.5, 0.8, True)
TRAINED = Trained(Path("runs/a/model.safetensors"), 3, 2, 0.8, 0.75, 61.6)


def test_lines_say_everything_in_words() -> None:
    assert epoch_line(RECORD) == (
        "epoch 2: loss 0.2500, accuracy 90.00%; held-out loss 0.5000, accuracy 80.00% (best so far)"
    )
    assert epoch_line(replace(RECORD, validation_loss=None, validation_accuracy=None)) == (
        "epoch 2: loss 0.2500, accuracy 90.00%"
    )
    assert trained_line(TRAINED) == (
        "runs/a/model.safetensors: epoch 2 of 3 kept, held-out accuracy 80.00%, test accuracy 75.00%, 62 s of training"
    )


def test_a_terminal_shows_epoch_step_loss_accuracy_speed_and_time() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=140)
    with TrainingBar(console) as bar:
        bar(Started(epochs=3, steps=10, images=100, epoch=1, step=5))
        bar(Stepped(epoch=2, step=8, images=80, loss=0.1234, accuracy=0.9, learning_rate=0.1))
        bar._bar.refresh()
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for part in (
        "epoch 2/3",
        "step 8/10",
        "loss 0.1234",
        "accuracy 90.00%",
        "images/s",
        "going on in epoch 2 after step 5",
    ):
        assert part in text


def test_a_log_gets_one_line_an_epoch_and_no_bar(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=40)
    settings = TrainSettings(limit=60, epochs=2, device="cpu", threads=1, test_split="", out=str(tmp_path / "run"))
    with TrainingBar(console) as bar:
        trained = fit(settings, progress=bar)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split(":")[0] for line in lines if line] == ["epoch 1", "epoch 2", str(trained.model)]
