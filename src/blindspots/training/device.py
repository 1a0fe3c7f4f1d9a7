"""The device and the global state of torch during a run: set, seeded, and put back as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..errors import BlindspotsError


def find_device(name: str) -> torch.device:
    """The device of that name; "auto" is the first GPU, or the CPU where there is none."""
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise BlindspotsError(
            f"device '{name}' cannot be used on this machine: give auto, cpu, or a GPU as in cuda:0"
        ) from error
    return device


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
