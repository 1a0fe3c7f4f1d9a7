"""Several processes for one run, and 16-bit precision: Lightning Fabric, set up so that a function call can use it.

The process that called `fit` is number 0: it tells, writes and stops as one process alone does. The others are spawned
beside it, do the same steps on their part of each batch, and end with it.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from ..errors import BlindspotsError
from .settings import TrainSettings
from .team import Team

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess
    from multiprocessing.synchronize import Event

    from lightning_fabric import Fabric

PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
PATIENCE = 10.0  # seconds that the others are given to end by themselves


@contextmanager
def team_of(
    settings: TrainSettings, device: torch.device, help_out: Callable[..., None], *given: Any
) -> Iterator[Team]:
    """The processes of a run, from number 0; `help_out(team, *given)` is what the others do, by spawned processes.

    Raises:
        BlindspotsError: another process ended before its time.
    """
    count = settings.processes
    if count == 1:
        yield Team(device, None if settings.precision == "32" else _fabric(settings, device))
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    begun = [context.Event() for _ in range(1, count)]
    others = [
        context.Process(target=_help, args=(settings, device.type, rank, port, event, help_out, given), daemon=True)
        for rank, event in enumerate(begun, 1)
    ]
    before = {name: os.environ.get(name) for name in ("MASTER_ADDR", "MASTER_PORT")}
    try:
        for process in others:
            process.start()
        _wait(others, begun)
        yield Team(device, _fabric(settings, device, 0, port), 0, count)
        for process in others:
            process.join(PATIENCE)
    except RuntimeError as error:
        for process in others:
            process.join(1.0)
        ended = [number for number, process in enumerate(others, 1) if process.exitcode]
        if not ended:
            raise
        raise BlindspotsError(
            f"process {ended[0]} of {count} ended before its time, and the training with it: the same command goes on "
            "from the last checkpoint"
        ) from error
    finally:
        for process in others:
            if process.is_alive():
                process.kill()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _wait(others: Sequence[SpawnProcess], begun: Sequence[Event]) -> None:
    """Wait until all processes run; they may fail before they can say so, and to join them would then last forever."""
    for number, (process, event) in enumerate(zip(others, begun, strict=True), 1):
        while not event.wait(0.1):
            if process.exitcode is not None:
                raise BlindspotsError(
                    f"process {number} could not be started: a script that trains in several processes has to call fit "
                    'below `if __name__ == "__main__":`, since each of them reads it'
                )


def _help(
    settings: TrainSettings,
    kind: str,
    rank: int,
    port: int,
    begun: Event,
    help_out: Callable[..., None],
    given: tuple[Any, ...],
) -> None:
    """What a spawned process does from its start to its end; errors are told by process 0, which sees it end."""
    begun.set()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    device = torch.device("cuda", rank) if kind == "cuda" else torch.device(kind)
    try:
        help_out(Team(device, _fabric(settings, device, rank, port), rank, settings.processes), *given)
        torch.distributed.destroy_process_group()
    except Exception:
        os._exit(1)


def _fabric(settings: TrainSettings, device: torch.device, rank: int = 0, port: int = 0) -> Fabric:
    """A launched Fabric for this process."""
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    # Fabric tells of every process that joins, and has set this level when it was imported.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    precision: Any = PRECISIONS[settings.precision]
    index = 0 if device.index is None else device.index
    if settings.processes == 1:
        return Fabric(accelerator=device.type, devices=1 if device.type == "cpu" else [index], precision=precision)
    strategy = DDPStrategy(
        cluster_environment=_environment(rank, settings.processes, port),
        process_group_backend="gloo" if device.type == "cpu" else "nccl",
    )
    fabric = Fabric(accelerator=device.type, devices=settings.processes, strategy=strategy, precision=precision)
    fabric.launch()
    return fabric


def _environment(rank: int, count: int, port: int) -> Any:
    """The place of this process among the others, as Fabric asks for it."""
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    class Here(LightningEnvironment):
        creates_processes_externally = True
        main_address = "127.0.0.1"
        main_port = port

        def local_rank(self) -> int:
            return rank

    return Here()
