"""Trainings of papers by name: the method with its settings, and what else of the training the paper fixes.

`TrainSettings(method="madry-mnist")` takes the method and its settings; `preset("madry-mnist")` the whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A row of the table: a method, its settings, further fields of `TrainSettings`, and whose they are."""

    method: str
    method_settings: dict[str, Any]
    training: dict[str, Any] = field(default_factory=dict)
    source: str = ""


PRESETS: dict[str, Preset] = {
    "madry-mnist": Preset(
        "pgd",
        {"radius": "0.3", "steps": 40, "step_size": 0.01},
        {"data": "mnist", "optimiser": "adam", "learning_rate": 1e-4, "schedule": "constant", "batch": 50},
        "Madry et al. 2018, arXiv:1706.06083, and its code: 100 000 steps, 84 epochs of the 60 000 images",
    ),
}
