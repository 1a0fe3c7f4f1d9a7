"""`blindspots train`: plain training of a network worth attacking."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..training import TrainSettings
from .options import Command

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Train(Command):
    """Train a built-in network: progress bar, checkpoint, best epoch kept, one model file.

    Killed at any moment, the same command goes on where it was. The model file holds all that is needed to load it:
    blindspots evaluate --model OUT/model.safetensors.
    """

    settings: TrainSettings = field(default_factory=TrainSettings)

    def run(self, console: Console) -> None:
        from ..training import fit
        from ..training.progress import TrainingBar

        with TrainingBar() as bar:
            trained = fit(self.settings, progress=bar)
        console.print(f"model   {trained.model}", soft_wrap=True)
