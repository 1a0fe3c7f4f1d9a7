"""Whole trainings of papers, by the name of their preset."""

from __future__ import annotations

from typing import Any

from ..errors import unknown
from .methods import PRESETS
from .settings import TrainSettings


def preset(name: str, **changes: Any) -> TrainSettings:
    """The settings of a paper's training: its method, optimiser, schedule and data; `changes` go over them.

    >>> preset("madry-mnist", epochs=5).learning_rate
    0.0001
    """
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return TrainSettings(**{"method": name, **PRESETS[name].training, **changes})
