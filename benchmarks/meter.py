"""A module that times bare work in between its own calls, so that what is compared shares every busy moment.

A shared machine changes its speed within a second, and an attack takes several. Timing the attack first and the bare
loop afterwards compares two moments; here the bare work is done within the attack, a piece after every so many images,
and taken off the attack's time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from .measure import Time


@dataclass(frozen=True)
class Metered:
    """A run: its time without the bare work, and the mean time of each piece of bare work."""

    own: Time
    bare: dict[str, Time]


class Meter(nn.Module):
    """Passes images on to the module; before the first call, and after every so many images, times the next work.

    The works take turns. They may call the module itself, as they go around the meter.
    """

    def __init__(self, module: nn.Module, works: Mapping[str, Callable[[], None]], every: int) -> None:
        super().__init__()
        self.module, self._works, self._every = module, dict(works), every
        self._waiting = every
        self.eval()
        self._begin()

    def forward(self, images: Tensor) -> Tensor:
        if self._waiting >= self._every:
            self._waiting = 0
            self._measure()
        self._waiting += len(images)
        out: Tensor = self.module(images)
        return out

    def run(self, attack: Callable[[], Any]) -> Metered:
        """Time the attack, which calls this module; works that it was too short for are done once at its end."""
        self._begin()
        cpu, wall = time.process_time(), time.perf_counter()
        value = attack()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        own = Time(wall - self._wall, cpu - self._cpu, value)
        while self._turn < len(self._works):
            self._measure()
        bare = {n: Time(fmean(t.wall for t in ts), fmean(t.cpu for t in ts)) for n, ts in self._times.items()}
        return Metered(own, bare)

    def _begin(self) -> None:
        self._times: dict[str, list[Time]] = {name: [] for name in self._works}
        self._turn, self._waiting, self._wall, self._cpu = 0, self._every, 0.0, 0.0

    def _measure(self) -> None:
        name = list(self._works)[self._turn % len(self._works)]
        self._turn += 1
        cpu, wall = time.process_time(), time.perf_counter()
        with torch.enable_grad():
            self._works[name]()
        took = Time(time.perf_counter() - wall, time.process_time() - cpu)
        self._times[name].append(took)
        self._wall, self._cpu = self._wall + took.wall, self._cpu + took.cpu
