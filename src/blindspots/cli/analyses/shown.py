"""An analysis on the terminal: its tables, and where its page is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..options import Command

if TYPE_CHECKING:
    from rich.console import Console

    from ...analysis import Analysed
    from ..options import DataOptions, ModelOptions


class OneModel(Command):
    """The command of an analysis of one model: the settings, called with model, images, seed and folder."""

    if TYPE_CHECKING:
        settings: Any
        out: str
        seed: int
        model: ModelOptions
        data: DataOptions

    def run(self, console: Console) -> None:
        data = self.data.load(self.seed)
        show(self.settings(self.model.load(data), data, seed=self.seed, out=self.out), console)


def show(done: Analysed, console: Console) -> None:
    """Print the tables and the paths."""
    from ...studies.page import print_page

    print_page(done.blocks, console)
    for word, path in (("page", done.page), ("text", done.text), ("values", done.json)):
        if path is not None:
            console.print(f"{word:<7} {path}", soft_wrap=True)
