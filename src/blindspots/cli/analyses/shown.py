"""An analysis on the terminal: its tables, and where its page is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from ...analysis import Analysed


def show(done: Analysed, console: Console) -> None:
    """Print the tables and the paths."""
    from ...studies.page import print_page

    print_page(done.blocks, console)
    for word, path in (("page", done.page), ("text", done.text), ("values", done.json)):
        if path is not None:
            console.print(f"{word:<7} {path}", soft_wrap=True)
