"""What an analysis found: values, and a page of titles, paragraphs, tables and pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BlindspotsError
from ..files import replace_file
from ..hardware import hardware, made_with, versions
from ..studies.page import Block, Paragraph, write_page

if TYPE_CHECKING:
    from ..classifiers import Classifier
    from ..data import ImageData


@dataclass(frozen=True)
class Analysed:
    """A finished analysis.

    Attributes:
        name, title: of the analysis.
        blocks: what stands on its page.
        values: what was found, and with what, as JSON values.
        text, page, json: NAME.md, NAME.html and NAME.json, where they were written.
    """

    name: str
    title: str
    blocks: list[Block]
    values: dict[str, Any]
    text: Path | None = None
    page: Path | None = None
    json: Path | None = None


def analysed(
    name: str,
    title: str,
    blocks: list[Block],
    values: dict[str, Any],
    *,
    models: tuple[Classifier, ...],
    data: ImageData | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
) -> Analysed:
    """The end of every analysis: notes with what it was made, and writes page and JSON where `out` is given.

    Raises:
        BlindspotsError: a folder that cannot be written.
    """
    device = models[0].device
    told = [f"model{'s' if models[1:] else ''}: {', '.join(model.name for model in models)}"]
    known: dict[str, Any] = {"models": [{"name": model.name, "hash": model.hash} for model in models]}
    if data is not None:
        told.append(f"data: {data.name}, {data.split}, {len(data)} images")
        known["data"] = {"name": data.name, "split": data.split, "count": len(data), "shape": list(data.shape)}
    if seed is not None:
        told.append(f"seed {seed}")
        known["seed"] = seed
    note = Paragraph(f"Made with {'; '.join(told)}; {made_with(device)}.")
    blocks = [*blocks, note]
    values = {**values, "made_with": {**known, "versions": versions(), "hardware": hardware(device)}}
    if out is None:
        return Analysed(name, title, blocks, values)
    try:
        text, page = write_page(Path(out), name, title, blocks)
        record = Path(out) / f"{name}.json"
        replace_file(record, (json.dumps(values, indent=1) + "\n").encode())
    except OSError as error:
        raise BlindspotsError(f"'{out}' cannot be written ({error.strerror}): give another --out") from error
    return Analysed(name, title, blocks, values, text, page, record)
