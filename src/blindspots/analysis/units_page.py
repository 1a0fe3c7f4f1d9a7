"""The page of units and directions: what was measured, and sheets of their top images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..lazy import torch
from ..report.words import number, percent
from ..studies.page import Block, Paragraph, Picture, Table, Title

if TYPE_CHECKING:
    from ..data import ImageData
    from .units import Units

NAMES = {"units": "single units", "directions": "random directions", "random": "random images"}
_SHARES = ("purity", "agreement")


def blocks(settings: Units, values: dict[str, Any], data: ImageData) -> list[Block]:
    """Titles, tables and sheets; `values` are those of `Units`."""
    top, constant = settings.top, values["constant"]
    means = [
        (NAMES[kind], str(len(values[kind])), *(_told(name, line[name]) for name in line))
        for kind, line in values["means"].items()
    ]
    differences = [
        (
            f"{NAMES[one]} less {NAMES[other]}: {name}",
            _told(name, found["difference"]),
            _between(name, found["low"], found["high"]),
            _between(name, found["null_low"], found["null_high"]),
            f"{found['p']:.2g}",
        )
        for pair, measures in values["comparisons"].items()
        for one, other in [pair.split("-")]
        for name, found in measures.items()
    ]
    left_out = f" {constant} units answer all images alike and are left out." if constant else ""
    return [
        Title("Top images"),
        Paragraph(
            f"Layer '{settings.layer}' has {values['width']} units (pool {settings.pool}). For each unit, each random "
            f"direction ({settings.draw}) and each set of random images, the {top} highest of {len(data)} images are "
            "taken. Purity is the share of their commonest label, agreement the share of pairs with the same label, "
            f"distance the mean l2 distance of two of them.{left_out}"
        ),
        Table("Means", ("kind", "how many", "purity", "agreement", "distance"), means),
        Table(
            f"Differences, by {settings.permutations} permutations; the last interval is where the difference would "
            "lie if there were none",
            ("difference", "value", "95 % interval", "if none", "p"),
            differences,
        ),
        *(_sheet(settings, values, data, kind) for kind in NAMES if settings.shown),
    ]


def _sheet(settings: Units, values: dict[str, Any], data: ImageData, kind: str) -> Block:
    from ..studies.pictures import sheet

    lines = values[kind][: settings.shown]
    words = {"units": "unit", "directions": "direction", "random": "set"}
    return Picture(
        f"{kind}.png",
        sheet(
            [data.take(torch.tensor(line["rows"]))[0] for line in lines],
            [f"{words[kind]} {line['number']}, {percent(line['purity'])}" for line in lines],
        ),
        f"Top images of {NAMES[kind]}, best first, with purity: the first of those measured, not chosen",
    )


def _told(name: str, value: float) -> str:
    if name not in _SHARES:
        return number(value)
    return percent(value) if value >= 0 else "-" + percent(-value)


def _between(name: str, low: float, high: float) -> str:
    return f"{_told(name, low)} to {_told(name, high)}"
