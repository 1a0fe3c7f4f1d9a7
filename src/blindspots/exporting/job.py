"""One job: round its images, ask the model again, repair, ask once more, and describe every image in a row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray

from ..classifiers import Classifier
from ..geometry import NORM_NAMES
from ..goal import Goal
from .lattice import ball, pixels
from .repair import repair
from .source import Piece

COLUMNS = (
    "index",
    "label",
    "target",
    "prediction",
    "fooled_before",
    "fooled_rounded",
    "fooled",
    *(f"size_{name}" for name in NORM_NAMES),
    "inside",
    "file",
)


@dataclass(frozen=True)
class Rounded:
    """8-bit images (B, C, H, W) uint8, and a row of `COLUMNS` for each; `file` is the name's stem."""

    images: NDArray[Any]
    rows: list[dict[str, Any]]


def round_piece(model: Classifier, piece: Piece, norm: str, radius: float, gradients: int) -> Rounded:
    """The images of a piece as 8-bit images that are judged anew; `gradients` = 0 leaves out the repair.

    `model` must be inside a `session`.
    """
    shape = tuple(piece.images.shape[1:])
    clean, images = piece.clean.to(model.device), piece.images.to(model.device)
    labels, targets = piece.goal.labels, piece.goal.targets
    goal = Goal(labels.to(model.device), None if targets is None else targets.to(model.device))
    claimed = piece.fooled.to(model.device)
    around = ball(clean, norm, radius)
    levels = around.nearest(images)
    logits = model.logits(pixels(levels, shape))
    rounded = goal.reached(logits)
    lost = (claimed & ~rounded).nonzero().squeeze(1)
    if gradients and len(lost):
        better, found = repair(model, goal.take(lost), around.take(lost), images[lost], gradients)
        kept = lost[found]
        levels[kept] = better[found]
        if len(kept):
            # Only a fresh forward counts: the search has seen the same image with gradients on.
            logits = model.logits(pixels(levels, shape))
    fooled = goal.reached(logits)
    columns: dict[str, list[Any]] = {
        "index": piece.index.tolist(),
        "label": labels.tolist(),
        "target": [""] * len(levels) if targets is None else targets.tolist(),
        "prediction": logits.argmax(1).tolist(),
        "fooled_before": claimed.tolist(),
        "fooled_rounded": rounded.tolist(),
        "fooled": fooled.tolist(),
        **{f"size_{name}": size.tolist() for name, size in around.sizes(levels).items()},
        "inside": around.inside(levels).tolist(),
    }
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    for row in rows:
        row["file"] = file_stem(row)
    return Rounded(levels.to(torch.uint8).view(-1, *shape).cpu().numpy(), rows)


def file_stem(row: dict[str, Any]) -> str:
    """INDEX-LABEL-to-PREDICTION, and where it does not fool the model: -lost, or -failed where it never did.

    >>> file_stem({"index": 7, "label": 1, "target": "", "prediction": 1, "fooled_before": True, "fooled": False})
    '7-1-to-1-lost'
    """
    stem = f"{row['index']}-{row['label']}-to-{row['prediction']}"
    if row["fooled"]:
        return stem
    # Several failures for one image differ in their target alone.
    aim = "" if row["target"] == "" else f"-target-{row['target']}"
    return f"{stem}-{'lost' if row['fooled_before'] else 'failed'}{aim}"


def tally(rows: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> dict[str, Any]:
    """The counts of a job, as `JobExport` names them."""
    listed = list(rows)
    claimed = [row for row in listed if row["fooled_before"]]
    lost = [row for row in claimed if not row["fooled_rounded"]]
    return {
        "exported": len(listed),
        "fooled": len(claimed),
        "lost": len(lost),
        "repaired": sum(row["fooled"] for row in lost),
        "outside": sum(not row["inside"] for row in listed),
        "still_lost": tuple(row["file"] for row in lost if not row["fooled"]),
    }
