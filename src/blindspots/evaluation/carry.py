"""What a job takes over from that of the next smaller radius: rows and images of a shard, as they were written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .run import Run

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Carried:
    """The rows (R,) of a shard at a smaller radius; `images` (F, C, H, W) are those of its successes, in order.

    `images` is None where the run stores none, `flows` (F, 2, H, W) where nothing is bent.
    """

    columns: dict[str, Tensor]
    images: Tensor | None
    flows: Tensor | None

    @property
    def rows(self) -> Tensor:
        """Which rows (R,) are taken over: those that were fooled."""
        return self.columns["success"]


def carried_from(path: Path, job: str, shard: str) -> Carried:
    """Read what a job has found in a shard.

    Only files are asked, so that a run that was interrupted takes over what one that was not does.
    """
    run = Run(path)
    table = run.shard_rows(job, shard)
    columns = {name: torch.from_numpy(table[name].to_numpy().copy()) for name in table.column_names}
    if run.kept == "none":
        return Carried(columns, None, None)
    stored = columns["success" if run.kept == "fooled" else "attacked"]
    chosen = columns["success"][stored]
    tensors = run.shard_images(job, shard)
    return Carried(columns, tensors["images"][chosen], tensors["flows"][chosen] if "flows" in tensors else None)
