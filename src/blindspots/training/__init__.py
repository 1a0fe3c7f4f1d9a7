"""Training networks: settings, the fit loop, and small victims kept in a cache.

The settings load without torch; `fit` and `cached_victim` bring it on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import names
from .events import EpochRecord, Event, Progress, Started, Stepped, Trained
from .methods import METHODS, PRESETS
from .recipes import preset
from .settings import TrainSettings

if TYPE_CHECKING:
    from .page import write_learning_page as write_learning_page
    from .train import fit as fit
    from .victim import cached_victim as cached_victim

__all__ = [
    "METHODS",
    "PRESETS",
    "EpochRecord",
    "Event",
    "Progress",
    "Started",
    "Stepped",
    "TrainSettings",
    "Trained",
    "cached_victim",
    "fit",
    "preset",
    "write_learning_page",
]

_HOME = {"cached_victim": "victim", "fit": "train", "write_learning_page": "page"}


__getattr__ = names(__name__, _HOME)
