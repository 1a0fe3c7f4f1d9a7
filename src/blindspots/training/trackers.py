"""TensorBoard and MLflow, told of every event of a run beside the caller; both write into the training directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..lazy import require
from .events import EpochRecord, Event, Progress, Started, Stepped
from .settings import TrainSettings

Write = Callable[[str, float, int], None]


@contextmanager
def trackers(settings: TrainSettings, folder: Path, tell: Progress) -> Iterator[Progress]:
    """What is to be told of events: the caller, and the trackers that the settings name.

    Raises:
        BlindspotsError: the package of a tracker is not installed.
    """
    names = [name for name in settings.loggers.split("+") if name]
    with ExitStack() as stack:
        writers = [stack.enter_context(_TRACKERS[name](settings, folder)) for name in names]
        yield _told(writers, tell) if writers else tell


def _told(writers: list[Write], tell: Progress) -> Progress:
    steps = 0

    def hear(event: Event) -> None:
        nonlocal steps
        if isinstance(event, Started):
            steps = event.steps
        if isinstance(event, Stepped):
            place = (event.epoch - 1) * steps + event.step
            _write(writers, "step", {k: v for k, v in asdict(event).items() if isinstance(v, float)}, place)
        if isinstance(event, EpochRecord):
            numbers = {k: v for k, v in asdict(event).items() if isinstance(v, float)}
            _write(writers, "epoch", {**numbers, "alarms": float(len(event.alarms))}, event.epoch)
        tell(event)

    return hear


def _write(writers: list[Write], group: str, numbers: dict[str, float], place: int) -> None:
    for name, value in numbers.items():
        for write in writers:
            write(f"{group}/{name}", value, place)


@contextmanager
def _tensorboard(settings: TrainSettings, folder: Path) -> Iterator[Write]:
    require("tensorboard", "track", "the logger tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(folder / "tensorboard"))
    try:
        yield writer.add_scalar
    finally:
        writer.close()


@contextmanager
def _mlflow(settings: TrainSettings, folder: Path) -> Iterator[Write]:
    mlflow = require("mlflow", "track", "the logger mlflow")
    # Files as a store are no longer taken by MLflow; a data base in the directory needs no server.
    mlflow.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.db').resolve()}")
    mlflow.set_experiment("blindspots")
    with mlflow.start_run(run_name=folder.name):
        mlflow.log_params({name: value for name, value in settings.plain().items() if name != "out"})
        yield lambda name, value, place: mlflow.log_metric(name, value, step=place)


_TRACKERS = {"tensorboard": _tensorboard, "mlflow": _mlflow}
