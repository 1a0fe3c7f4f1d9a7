"""`blindspots analyze maps`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ... import analysis
from ..options import Command, DataOptions, ModelOptions
from .shown import show

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Maps(Command):
    """Activation maps (CAM, Grad-CAM) of clean and attacked images side by side, and how far attacks move them."""

    settings: analysis.Maps = field(default_factory=lambda: analysis.Maps())
    out: str = "runs/maps"
    """Folder for the page and its values."""
    seed: int = 0
    """Seed of the images and of the attacks."""
    model: ModelOptions = field(default_factory=ModelOptions)
    data: DataOptions = field(default_factory=DataOptions)

    def run(self, console: Console) -> None:
        data = self.data.load(self.seed)
        show(self.settings(self.model.load(data), data, seed=self.seed, out=self.out), console)
