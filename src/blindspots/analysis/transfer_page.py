"""The page of a transfer matrix: errors with their intervals, the same as colours, and how the images were made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..evaluation.intervals import share
from ..lazy import torch
from ..report.words import interval, number, percent
from ..studies.page import Block, Paragraph, Picture, Table, Title

if TYPE_CHECKING:
    from torch import Tensor

COUNTS = {
    "fooled": "Counted are the images that the source got right before and wrong after (rows without a source: all "
    "images); a judge's own mistakes on them count.",
    "both": "Counted are the images that source and judge got right before (rows without a source: those that the "
    "judge got right).",
    "all": "Counted are all images, also those that were read wrongly from the start.",
}
PREFIX = {
    "attack": "",
    "perturbation": "",
    "amplified": "amplified: ",
    "control": "noise of the size of: ",
    "noise": "",
}


Seen = dict[str, "list[tuple[Tensor, Tensor]]"]


def blocks(values: dict[str, Any], seen: Seen) -> list[Block]:
    """Titles, tables and the heat map; `values` are those of `Transfer`, `seen` some images, clean and changed."""
    rows, judges, of = values["rows"], values["judges"], values["of"]
    targeted = any(row["targeted"] for row in rows)
    made = [
        (
            title(row),
            _rate(row["success"], row["attacked"]) if row["variant"] == "attack" else "–",
            number(row["distortion"]),
        )
        for row in rows
    ]
    return [
        Title("Errors"),
        Paragraph(f"Rows: what the images were made for. Columns: who judges them. {COUNTS[of]}"),
        matrix("Error of the judge, with 95 % Clopper-Pearson intervals", rows, judges, "wrong", of),
        picture("transfer.png", "Error of the judge in percent", rows, judges, of),
        *([matrix("Taken for the target", rows, judges, "hits", of)] if targeted else []),
        Title("The images"),
        Table(
            "Images that fooled their source, of those that it got right; mean distortion of these",
            ("made for", "fooled the source", "distortion"),
            made,
        ),
        *_changes(seen),
    ]


def _changes(seen: Seen) -> list[Block]:
    """Images, the same changed, and the change stretched to all greys, a row for each attack."""
    from ..studies.pictures import sheet, stretched

    shown = {name: pairs for name, pairs in seen.items() if pairs}
    if not shown:
        return []
    most = max(map(len, shown.values()))
    rows = []
    for pairs in shown.values():
        row = [picture for clean, changed in pairs for picture in (clean, changed, stretched(changed - clean))]
        row += [torch.ones_like(row[0])] * (3 * (most - len(pairs)))
        rows.append(torch.stack(row))
    caption = "The first images that fooled their source: as given, changed, and the change, stretched to all greys"
    return [Picture("changes.png", sheet(rows, [*shown]), caption)]


def title(row: dict[str, Any]) -> str:
    """The name of a row, with what was done to its images."""
    return f"{PREFIX[row['variant']]}{row['name']}"


def shares(row: dict[str, Any], what: str, of: str) -> list[float | None]:
    """The entries of a row as shares; None where nothing was counted."""
    return [part / whole if whole else None for part, whole in zip(row[what][of], row["of"][of], strict=True)]


def matrix(caption: str, rows: Sequence[dict[str, Any]], judges: Sequence[str], what: str, of: str) -> Table:
    """The matrix as a table, each share with its interval."""
    if not all(whole for row in rows for whole in row["of"][of]):
        caption += " (–: no image to count, as for a source that reads none right)"
    return Table(
        caption,
        ("made for", *judges),
        [
            (title(row), *(_rate(part, whole) for part, whole in zip(row[what][of], row["of"][of], strict=True)))
            for row in rows
        ],
    )


def picture(name: str, caption: str, rows: Sequence[dict[str, Any]], judges: Sequence[str], of: str) -> Picture:
    """The matrix of errors as colours."""
    from ..studies.pictures import heat

    return Picture(name, heat([shares(row, "wrong", of) for row in rows], [*map(title, rows)], [*judges]), caption)


def _rate(count: int, of: int) -> str:
    found = share(count, of)
    return f"{percent(found['value'])} [{interval(found)}]" if of else "–"
