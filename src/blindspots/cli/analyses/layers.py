"""`blindspots analyze layers`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..options import Command, DataOptions, ModelOptions
from .shown import show

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Layers(Command):
    """List the layers of the model by name, with the shape of what each answers."""

    out: str | None = None
    """Folder to write page and JSON into. Default: the terminal only."""
    model: ModelOptions = field(default_factory=ModelOptions)
    data: DataOptions = field(default_factory=DataOptions)

    def run(self, console: Console) -> None:
        from ... import analysis

        data = self.data.load(0)
        show(analysis.Layers()(self.model.load(data), data, out=self.out), console)
