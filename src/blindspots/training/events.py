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
    """An epoch is over: one line of `metrics.jsonl`. Validation fields are None where no image is held out.

    Where the method trains for a ball, a part of the held-out images is watched: `watched_accuracy` without attack,
    `one_step_accuracy` after one step of the radius, `robust_accuracy` after a short PGD. `alarms` say what looks
    wrong, and `answer` what was done about it.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    best: bool
    watched_accuracy: float | None = None
    one_step_accuracy: float | None = None
    robust_accuracy: float | None = None
    alarms: tuple[str, ...] = ()
    answer: str = ""


@dataclass(frozen=True)
class Trained:
    """A finished training: where the model is, and how good.

    `seconds` is the time spent in the epochs, over all starts; `test_accuracy` is of the kept epoch, None where no
    test split was measured. `robust_accuracy` is that of the kept epoch against a short PGD on the watched images,
    `last_robust_accuracy` that of the last epoch, and `strong_accuracy` that of the kept one against a strong attack.
    `alarms` are those of all epochs and of the end.
    """

    model: Path
    epochs: int
    best_epoch: int
    validation_accuracy: float | None
    test_accuracy: float | None
    seconds: float
    robust_accuracy: float | None = None
    last_robust_accuracy: float | None = None
    strong_accuracy: float | None = None
    alarms: tuple[str, ...] = ()


Event = Started | Stepped | EpochRecord | Trained
Progress = Callable[[Event], None]
