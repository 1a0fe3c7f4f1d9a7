"""The device and the global state of torch during a run: set, seeded, and put back as they were."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..errors import BlindspotsError
from .settings import TrainSettings


def find_device(name: str, processes: int = 1) -> torch.device:
    """The device of that name; "auto" is the first GPU, or the CPU where there is none. Several processes need a GPU
    each, from the first on, or a CPU."""
    if name == "auto":
        name = "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise BlindspotsError(
            f"device '{name}' cannot be used on this machine: give auto, cpu, or a GPU as in cuda:0"
        ) from error
    if processes > 1 and device.type != "cpu":
        here = torch.cuda.device_count() if device.type == "cuda" else 1
        if processes > here:
            raise BlindspotsError(
                f"{processes} processes need as many GPUs, and this machine has {here}: give at most {here} processes, "
                "or device cpu"
            )
        if device.index not in (None, 0):
            raise BlindspotsError(f"{processes} processes use the first GPUs, one each, got device '{name}': give cuda")
    return torch.device("cuda", 0) if device.type == "cuda" and device.index is None else device


def threads_of(settings: TrainSettings, device: torch.device) -> int:
    """CPU threads of this process; several processes on a CPU share its cores unless the settings say a number."""
    if settings.threads or settings.processes == 1 or device.type != "cpu":
        return settings.threads
    return max(1, (os.cpu_count() or 1) // settings.processes)


@contextmanager
def torch_state(device: torch.device, threads: int) -> Iterator[None]:
    """Let a block seed torch and set its threads; afterwards random states and threads are as before."""
    before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            if threads:
                torch.set_num_threads(threads)
            yield
        finally:
            torch.set_num_threads(before)
