"""Commands on a finished run: `show`, `report` and `export`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from .options import Command, ModelOptions

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Show(Command):
    """Print the summary of a finished run."""

    path: Positional[str]
    """Run directory."""

    def run(self, console: Console) -> None:
        from ..evaluation.run import Run
        from ..evaluation.summary import summarise
        from ..report import print_summary

        run = Run(self.path)
        print_summary(run, summarise(run), console)


@dataclass(frozen=True)
class Report(Command):
    """Write the HTML report of a finished run again."""

    path: Positional[str]
    """Run directory."""

    def run(self, console: Console) -> None:
        from ..evaluation.driver import finish
        from ..evaluation.run import Run

        run = Run(self.path)
        finish(run)
        console.print(f"report  {run.path / 'report.html'}", soft_wrap=True)


@dataclass(frozen=True)
class Export(Command):
    """Write the adversarial images of a run as 8-bit files, and say how many still fool the model.

    Rounding to 256 levels undoes some of them; a search on the lattice of 8-bit images repairs most.
    """

    path: Positional[str]
    """Run directory."""
    out: str | None = None
    """Folder to write into. Default: RUN/export."""
    format: Literal["png", "npz"] = "png"
    """One PNG an image, or one npz a job."""
    jobs: tuple[str, ...] = ()
    """Jobs of the run to export. Default: all."""
    only: Literal["fooled", "attacked"] = "fooled"
    """Images that fooled the model, or all that were attacked."""
    repair: bool = True
    """Search for another 8-bit image where rounding lost the success."""
    gradients: int = 20
    """Gradients that the search may take for a lost image."""
    model: ModelOptions = field(default_factory=ModelOptions)

    def run(self, console: Console) -> None:
        from ..evaluation.run import Run
        from ..exporting import export

        run, options = Run(self.path), self.model
        model = None if options.model is None else options.wrap(options.model)
        report = export(
            run,
            self.out or run.path / "export",
            model=model,
            format=self.format,
            jobs=self.jobs or None,
            only=self.only,
            repair=self.repair,
            gradients=self.gradients,
        )
        for line in report.lines:
            console.print(line, soft_wrap=True)
        console.print(f"files   {report.out}", soft_wrap=True)
