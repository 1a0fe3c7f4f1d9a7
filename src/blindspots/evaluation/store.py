"""Writing a run directory: every file appears whole or not at all, and a table appears last.

The table of a shard is what says that the shard is done; its images and its time are written before it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.torch import save
from torch import Tensor

from ..files import replace_file


class Store:
    """The writer of one run directory.

    Args:
        path: the run directory, already made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def done(self, part: str, shard: str) -> bool:
        """Is the table of this part ("clean" or a job id) and shard written?"""
        return self._table(part, shard).is_file()

    def write_json(self, name: str, value: Any) -> None:
        replace_file(self.path / name, json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n")

    def write_clean(self, shard: str, columns: dict[str, Tensor], images: Tensor | None, seconds: float) -> None:
        """The predictions for one shard of clean images, and the images themselves unless None."""
        if images is not None:
            self._images("clean", shard, images, columns["index"])
        self._commit("clean", shard, columns, seconds)

    def write_job(
        self,
        job: str,
        shard: str,
        columns: dict[str, Tensor],
        images: Tensor,
        stored: Tensor,
        seconds: float,
        flows: Tensor | None = None,
    ) -> None:
        """The rows of one job on one shard, with the images (A, C, H, W) of the rows where `stored` is true, and with
        the flows (A, 2, H, W) that bent them, if any did."""
        self._images(job, shard, images, columns["index"][stored], flows)
        self._commit(job, shard, columns, seconds)

    def _images(self, part: str, shard: str, images: Tensor, index: Tensor, flows: Tensor | None = None) -> None:
        tensors = {"images": images.float().cpu().contiguous(), "index": index.cpu().contiguous()}
        if flows is not None:
            tensors["flows"] = flows.float().cpu().contiguous()
        replace_file(self.path / "images" / part / f"{shard}.safetensors", save(tensors))

    def _commit(self, part: str, shard: str, columns: dict[str, Tensor], seconds: float) -> None:
        timing = json.dumps({"seconds": round(seconds, 6)}).encode()
        replace_file(self.path / "timing" / f"{shard}-{part}.json", timing)
        table = pa.table({name: column.cpu().numpy() for name, column in columns.items()})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        replace_file(self._table(part, shard), sink.getvalue().to_pybytes())

    def _table(self, part: str, shard: str) -> Path:
        return self.path / ("clean" if part == "clean" else f"jobs/{part}") / f"{shard}.parquet"
