"""`blindspots analyze slices`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ... import analysis
from ..options import Command, DataOptions, ModelOptions
from .shown import show

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Slices(Command):
    """Planes through an image, an attacked one and a random direction, and the margin on the way between them."""

    settings: analysis.Slices = field(default_factory=lambda: analysis.Slices())
    out: str = "runs/slices"
    """Folder for the page and its values."""
    seed: int = 0
    """Seed of the images and of the attack and of the directions."""
    model: ModelOptions = field(default_factory=ModelOptions)
    data: DataOptions = field(default_factory=DataOptions)

    def run(self, console: Console) -> None:
        data = self.data.load(self.seed)
        show(self.settings(self.model.load(data), data, seed=self.seed, out=self.out), console)
