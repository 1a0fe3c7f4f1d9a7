"""An evaluation on the terminal: a bar over its pieces, then the summary and where everything is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from ..attack import Attack
    from ..classifiers import Classifier
    from ..data import ImageData
    from ..several import Several
    from .options import RunOptions


def run_evaluation(
    console: Console, model: Classifier, data: ImageData, attacks: Sequence[Attack | Several], options: RunOptions
) -> None:
    """Evaluate with a progress bar, print the summary and the paths of report and run."""
    from ..evaluation.driver import evaluate
    from ..evaluation.summary import summarise
    from ..report import print_summary

    messages = Console(stderr=True, highlight=False, soft_wrap=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=messages,
        transient=True,
        disable=not messages.is_terminal,
    )
    with bar:
        task = bar.add_task("planning", total=None)

        def show(event: Any) -> None:
            bar.update(task, completed=event.done, total=event.total, description=f"{event.part}")

        run = evaluate(model, data, attacks, progress=show, **options.keywords())
    if not run.complete:
        done, total = run.progress
        console.print(f"{done} of {total} pieces of {run.path} are done; the other parts write the rest")
        return
    print_summary(run, summarise(run), console)
    console.print(f"\nreport  {run.path / 'report.html'}", soft_wrap=True)
    console.print(f"run     {run.path}", soft_wrap=True)
