"""`blindspots list`: what there is to name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.table import Table
from tyro.conf import Positional

from .options import Command

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class List(Command):
    """List the attacks, defences, models, data or training methods that can be named."""

    what: Positional[Literal["attacks", "defences", "models", "generators", "data", "methods"]]
    """What to list."""
    markdown: bool = False
    """Print Markdown: of attacks the page of the documentation, of the others the table."""

    def run(self, console: Console) -> None:
        if self.markdown and self.what == "attacks":
            from ..attacks import ATTACKS
            from .guide import attack_page

            console.print(attack_page(ATTACKS), end="", soft_wrap=True, markup=False)
            return
        lists = {
            "attacks": _attacks,
            "defences": _defences,
            "models": _models,
            "generators": _generators,
            "data": _data,
            "methods": _methods,
        }
        rows = lists[self.what]()
        if self.markdown:
            from .guide import markdown_table

            console.print(markdown_table(rows), end="", soft_wrap=True, markup=False)
            return
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for column in rows[0]:
            table.add_column(column, no_wrap=column == rows[0][0], overflow="fold")
        for row in rows[1:]:
            table.add_row(*row)
        console.print(table)


def _attacks() -> list[tuple[str, ...]]:
    from ..attacks import ATTACKS
    from .guide import gives

    head = ("name", "knows", "norms", "gives", "what it does")
    rows = ((name, kind.knowledge, " ".join(kind.norms), gives(kind), kind.summary) for name, kind in ATTACKS.items())
    return [head, *rows]


def _defences() -> list[tuple[str, ...]]:
    from ..defences import DEFENCES

    head = ("name", "settings", "what it does")
    return [head, *((name, str(kind()).partition(":")[2], kind.summary) for name, kind in DEFENCES.items())]


def _models() -> list[tuple[str, ...]]:
    from ..models import list_models

    return [("name", "what it is", "source"), *((m.name, m.description, m.source) for m in list_models())]


def _generators() -> list[tuple[str, ...]]:
    from ..models.generators import GENERATORS

    rows = ((row.info.name, row.info.description, row.info.source) for row in GENERATORS.values())
    return [("name", "what it is", "source"), *rows]


def _data() -> list[tuple[str, ...]]:
    from ..data import list_data

    return [("name", "what it is", "needs"), *((d.name, d.description, d.needs) for d in list_data())]


def _methods() -> list[tuple[str, ...]]:
    from dataclasses import fields

    from ..training import METHODS, PRESETS

    head = ("name", "settings", "what it does")
    methods = ((name, " ".join(field.name for field in fields(kind)), kind.summary) for name, kind in METHODS.items())
    presets = ((name, f"{row.method} as in the paper", row.source) for name, row in PRESETS.items())
    return [head, *methods, *presets]
