"""Training on the terminal: a bar for the whole run and a line for each epoch.

with TrainingBar() as bar:
    fit(settings, progress=bar)
"""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from .events import EpochRecord, Event, Started, Stepped, Trained


class TrainingBar:
    """Shows epoch, step, loss, accuracy, images per second and remaining time; where nobody watches, only the lines."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TextColumn("step {task.fields[step]}/{task.fields[steps]}"),
            TextColumn("loss {task.fields[loss]:.4f}  accuracy {task.fields[accuracy]:.2%}"),
            TextColumn("{task.fields[speed]:,.0f} images/s"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("", epoch=0, epochs=0, step=0, steps=0, loss=0.0, accuracy=0.0, speed=0.0)
        self._started: Started | None = None
        self._first = 0  # images that earlier starts had done
        self._clock = 0.0

    def __enter__(self) -> TrainingBar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Show one event of the run."""
        if isinstance(event, Started):
            self._start(event)
        elif isinstance(event, Stepped) and self._started is not None:
            self._step(event, self._started)
        elif isinstance(event, EpochRecord):
            self.console.print(epoch_line(event), highlight=False, soft_wrap=True)
        elif isinstance(event, Trained):
            self._bar.stop()
            self.console.print(trained_line(event), highlight=False, soft_wrap=True)

    def _start(self, event: Started) -> None:
        self._started, self._clock = event, time.monotonic()
        self._first = event.epoch * event.images + event.step * event.images // event.steps
        if self._first:
            self.console.print(f"going on in epoch {event.epoch + 1} after step {event.step}", highlight=False)
        self._bar.update(
            self._task,
            total=event.epochs * event.images,
            completed=self._first,
            epoch=min(event.epoch + 1, event.epochs),
            epochs=event.epochs,
            step=event.step,
            steps=event.steps,
        )

    def _step(self, event: Stepped, started: Started) -> None:
        done = (event.epoch - 1) * started.images + event.images
        spent = time.monotonic() - self._clock
        self._bar.update(
            self._task,
            completed=done,
            epoch=event.epoch,
            step=event.step,
            loss=event.loss,
            accuracy=event.accuracy,
            speed=(done - self._first) / spent if spent > 0 else 0.0,
        )


def epoch_line(record: EpochRecord) -> str:
    """One line of text about a finished epoch."""
    text = f"epoch {record.epoch}: loss {record.train_loss:.4f}, accuracy {record.train_accuracy:.2%}"
    if record.validation_accuracy is not None:
        text += f"; held-out loss {record.validation_loss:.4f}, accuracy {record.validation_accuracy:.2%}"
        if record.robust_accuracy is not None:
            text += f"; watched: one step {record.one_step_accuracy:.2%}, PGD {record.robust_accuracy:.2%}"
        text += " (best so far)" if record.best else ""
    if record.alarms:
        text += f"; ALARM: {', '.join(record.alarms)}" + (f" (answer: {record.answer})" if record.answer else "")
    return text


def trained_line(trained: Trained) -> str:
    """One line of text about a finished training."""
    parts = [f"epoch {trained.best_epoch} of {trained.epochs} kept"]
    if trained.validation_accuracy is not None:
        parts.append(f"held-out accuracy {trained.validation_accuracy:.2%}")
    if trained.test_accuracy is not None:
        parts.append(f"test accuracy {trained.test_accuracy:.2%}")
    if trained.robust_accuracy is not None and trained.strong_accuracy is not None:
        parts.append(
            f"watched images {trained.robust_accuracy:.2%} under PGD (last epoch {trained.last_robust_accuracy:.2%}), "
            f"{trained.strong_accuracy:.2%} under a strong attack"
        )
    parts.append(f"{trained.seconds:.0f} s of training")
    parts += [f"ALARM: {alarm}" for alarm in trained.alarms]
    return f"{trained.model}: {', '.join(parts)}"
