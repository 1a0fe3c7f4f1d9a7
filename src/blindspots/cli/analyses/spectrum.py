"""`blindspots analyze spectrum`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ... import analysis
from ..options import Command, DataOptions, ModelOptions
from .shown import show

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Spectrum(Command):
    """Operator norms of all layers, their product, and the radius that it certifies for each image."""

    settings: analysis.Spectrum = field(default_factory=lambda: analysis.Spectrum())
    out: str = "runs/spectrum"
    """Folder for the page and its values."""
    model: ModelOptions = field(default_factory=ModelOptions)
    data: DataOptions = field(default_factory=DataOptions)

    def run(self, console: Console) -> None:
        data = self.data.load(0)
        show(self.settings(self.model.load(data), data, out=self.out), console)
