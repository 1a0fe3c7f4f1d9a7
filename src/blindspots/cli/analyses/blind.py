"""`blindspots analyze blind`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import tyro

from ... import analysis
from ...errors import BlindspotsError
from ..options import Command, DataOptions, ModelOptions
from .shown import show

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Blind(Command):
    """One HTML page that asks a person, pair by pair, whether the original or the attacked image looks more real."""

    settings: analysis.Blind = field(default_factory=lambda: analysis.Blind())
    run_path: Annotated[str | None, tyro.conf.arg(name="run")] = None
    """Finished run whose images are shown, in place of attacking a model now."""
    job: str | None = None
    """Job of that run. Default: the last one that is no noise."""
    out: str = "runs/blind"
    """Folder for the page."""
    seed: int = 0
    """Seed of the attack and of the choice of pairs."""
    model: ModelOptions = field(default_factory=ModelOptions)
    data: DataOptions = field(default_factory=DataOptions)

    def run(self, console: Console) -> None:
        if self.run_path is not None:
            if self.model.model is not None:
                raise BlindspotsError("--run has its own model: leave --model out, or leave --run out")
            done = self.settings.of_run(self.run_path, self.job, seed=self.seed, out=self.out)
        elif self.job is not None:
            raise BlindspotsError("--job names a job of a run: give --run too")
        else:
            data = self.data.load(self.seed)
            done = self.settings(self.model.load(data), data, seed=self.seed, out=self.out)
        show(done, console)
