"""The rows of one job on one shard: one an image, or one an image and target, attacked, taken over or left alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from .carry import Carried

if TYPE_CHECKING:
    from torch import Tensor

    from ..result import Result

# What a row costs, and what its search met on the way: nothing where it was taken over.
_SPENT = ("forwards", "backwards", "steps", "zero_gradients", "bad_gradients")


@dataclass(frozen=True)
class Layout:
    """Which rows there are: `image` (R,) is the place of each one's image in the shard, `attacked` (R,) bool; of these
    `asked` are attacked now, the others were fooled within a smaller radius."""

    image: Tensor
    attacked: Tensor
    asked: Tensor


def lay_out(tried: Tensor, per_image: int, carried: Carried | None) -> Layout:
    """The rows of a shard.

    Args:
        tried: which images are attacked (B,), bool.
        per_image: rows of an attacked image (the K - 1 targets of `all`, else 1); any other image has one row.
        carried: what is taken over, if anything.
    """
    image = torch.arange(len(tried)).repeat_interleave(torch.where(tried, per_image, 1))
    attacked = tried[image]
    return Layout(image, attacked, attacked if carried is None else attacked & ~carried.rows)


def job_columns(
    layout: Layout,
    labels: Tensor,
    index: Tensor,
    clean: dict[str, Tensor],
    result: Result | None,
    carried: Carried | None,
    sizes: tuple[str, ...],
    members: bool = False,
) -> dict[str, Tensor]:
    """The columns of one job on one shard, each (R,).

    Args:
        layout: its rows.
        labels, index: of the shard's images (B,).
        clean: its clean columns.
        result: what the attack did to the rows that were asked; None where there were none.
        carried: what is taken over, if anything; then a column `carried` says of which rows.
        sizes: the names of the sizes to store.
        members: is it an ensemble, so that it is told which of its attacks decided?
    """
    rows, count = layout.image, len(layout.image)

    def spread(values: Tensor | None, missing: Tensor | float) -> Tensor:
        kind = values.dtype if values is not None else torch.float64
        column = missing[rows].clone() if isinstance(missing, torch.Tensor) else torch.full((count,), missing).to(kind)
        if values is not None:
            column[layout.asked] = values.cpu().to(column.dtype)
        return column

    nothing = torch.zeros(len(labels), dtype=torch.int64)
    success = spread(None if result is None else result.success, nothing.bool())
    columns = {
        "index": index[rows],
        "label": labels[rows],
        "target": spread(None if result is None else result.targets, nothing - 1),
        "attacked": layout.attacked,
        "success": success,
        "fooled": success | ~clean["correct"][rows],
        "prediction": spread(None if result is None else result.prediction, clean["prediction"]),
        "confidence": spread(None if result is None else result.confidence, clean["confidence"]),
        "margin": spread(None if result is None else result.margin, clean["margin"]),
    }
    for name in sizes:
        columns[f"size_{name}"] = spread(None if result is None else result.size[name], float("nan"))
    for name in _SPENT:
        columns[name] = spread(None if result is None else getattr(result, name), nothing)
    columns["unstarted"] = spread(None if result is None else result.unstarted, nothing.bool())
    if members:
        columns["decided"] = spread(None if result is None else result.decided, nothing - 1)
    if carried is not None:
        for name in columns.keys() - {*_SPENT, "unstarted"}:
            columns[name][carried.rows] = carried.columns[name][carried.rows].to(columns[name].dtype)
        columns["carried"] = carried.rows
    return columns


def stored_pixels(
    layout: Layout, keep: Tensor, found: Tensor | None, carried: Tensor | None, shape: tuple[int, ...]
) -> Tensor:
    """The images or flows of the rows to keep, in order.

    Args:
        layout: the rows.
        keep: which of them (R,) are stored.
        found: (A, ...) of the rows asked; None where there were none.
        carried: (F, ...) of the rows taken over, if any.
        shape: that of one.
    """
    every = torch.zeros(len(keep), dtype=torch.int64)
    every[layout.asked] = torch.arange(int(layout.asked.sum()))
    over = layout.attacked & ~layout.asked
    every[over] = torch.arange(int(over.sum()))
    stored = torch.zeros((int(keep.sum()), *shape))
    for values, mine in ((found, layout.asked), (carried, over)):
        if values is not None:
            stored[mine[keep]] = values[every[keep & mine]].float()
    return stored
