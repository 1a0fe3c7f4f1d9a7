"""The page of a study: titles, paragraphs, tables and pictures, written as Markdown, as one HTML file, and printed."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from ..files import replace_file
from ..report.templating import environment, style

if TYPE_CHECKING:
    from rich.console import Console

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Title:
    """The heading of a section."""

    text: str
    kind: str = "title"


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of plain text."""

    text: str
    kind: str = "paragraph"


@dataclass(frozen=True)
class Table:
    """A table with a caption; every cell is plain text."""

    caption: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    kind: str = "table"


@dataclass(frozen=True)
class Picture:
    """A PNG, by the name of its file beside the page."""

    name: str
    content: bytes
    caption: str
    kind: str = "picture"

    @property
    def data(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.content).decode()


@dataclass(frozen=True)
class Drawing:
    """An `<svg>` of `report.figures.drawing`, in the colours of the page; in Markdown its caption stands for it."""

    svg: str
    caption: str
    kind: str = "drawing"

    @property
    def markup(self) -> Markup:
        return Markup(self.svg)


Block = Title | Paragraph | Table | Picture | Drawing


def write_page(folder: Path, name: str, title: str, blocks: list[Block]) -> tuple[Path, Path]:
    """Write NAME.md with its pictures in a folder NAME, and NAME.html with everything inside; return both paths."""
    for block in blocks:
        if isinstance(block, Picture):
            replace_file(folder / name / block.name, block.content)
    text, page = folder / f"{name}.md", folder / f"{name}.html"
    replace_file(text, markdown(title, blocks, name).encode())
    replace_file(page, html(title, blocks).encode())
    return text, page


def markdown(title: str, blocks: list[Block], pictures: str) -> str:
    """The page in Markdown; `pictures` is the folder of the pictures, seen from the page."""
    parts = [f"# {title}"]
    for block in blocks:
        match block:
            case Title():
                parts.append(f"## {block.text}")
            case Paragraph():
                parts.append(block.text)
            case Table():
                lines = [_row(block.columns), _row(("---",) * len(block.columns)), *map(_row, block.rows)]
                parts.append("\n".join(lines) + f"\n\n*{block.caption}*")
            case Picture():
                parts.append(f"![{block.caption}]({pictures}/{block.name})")
            case Drawing():
                parts.append(f"*{block.caption}*")
    return "\n\n".join(parts) + "\n"


def html(title: str, blocks: list[Block]) -> str:
    """The page as one HTML file that opens offline."""
    sections: list[tuple[str, list[Block]]] = []
    for block in blocks:
        if isinstance(block, Title) or not sections:
            sections.append((block.text if isinstance(block, Title) else "", []))
        if not isinstance(block, Title):
            sections[-1][1].append(block)
    return environment(TEMPLATES).get_template("study.html").render(style=style(), title=title, sections=sections)


def print_page(blocks: list[Block], console: Console) -> None:
    """Print titles and tables; paragraphs and pictures are for the page.

    A table with more columns than the console has room for is printed row by row.
    """
    from rich.table import Table as Printed

    for block in blocks:
        if not isinstance(block, Table):
            continue
        if console.width >= _LEAST * len(block.columns):
            shown = Printed(*block.columns, title=block.caption, title_justify="left", title_style="bold")
            for row in block.rows:
                shown.add_row(*row)
            console.print(shown)
            continue
        console.print(block.caption, style="bold")
        for row in block.rows:
            listed = Printed(box=None, show_header=False, title=row[0], title_justify="left", padding=(0, 2))
            for column, cell in zip(block.columns[1:], row[1:], strict=True):
                listed.add_row(column, cell)
            console.print(listed)


# Letters of a column that can be read.
_LEAST = 11


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
