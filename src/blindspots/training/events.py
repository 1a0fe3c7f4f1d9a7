"""What a training run tells while it goes on, and what it returns. Plain values, no torch.

`fit` prints nothing: it calls `progress(event)` with one of these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Started:
    """Data and network are ready; the run begins, or goes on after `epoch` finished epochs and `step` more steps."""

    epochs: int
    steps: int
    images: int
    epoch: int
    step: int


@dataclass(frozen=True)
class Stepped:
    """Some steps were made; told every few steps. Means are over the epoch so far."""

    epoch: int
    step: int
    images: int
    loss: float
    accuracy: float
    learning_rate: float


@dataclass(frozen=True)
class EpochRecord:
    """An epoch is over: one line of `metrics.jsonl`. Validation fields are None where no image is held out."""

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    best: bool


@dataclass(frozen=True)
class Trained:
    """A finished training: where the model is, and how good.

    `seconds` is the time spent in the epochs, over all starts; `test_accuracy` is of the kept epoch, None where no
    test split was measured.
    """

    model: Path
    epochs: int
    best_epoch: int
    validation_accuracy: float | None
    test_accuracy: float | None
    seconds: float


Event = Started | Stepped | EpochRecord | Trained
Progress = Callable[[Event], None]
