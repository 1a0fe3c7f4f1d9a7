"""Reading a run: the directory that `blindspots evaluate` writes, and what each job did to each image.

A run is a manifest and, for every shard of images, one table of clean predictions, one table per job, and
the images. Everything is read lazily, and images only by number, so memory does not grow with the run.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from ..errors import BlindspotsError, unknown
from .verdicts import Verdicts, speakers

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
NORMS = ("l0", "l1", "l2", "linf")
# Sizes that jobs of other norms have besides, the one that their radius holds first; see `measures` of the spaces.
BENDS = ("flow", "flow_mean", "flow_loss")
MEASURES = {
    "flow": BENDS,
    "affine": ("affine", "rotation", "shift", "zoom", *BENDS),
    "flow-linf": ("flow-linf", "ball", *BENDS),
    "style": ("style",),
}


def sizes_of(job: dict[str, Any]) -> tuple[str, ...]:
    """The names of the sizes that the tables of a job hold, each as a column `size_NAME`."""
    return (*NORMS, *MEASURES.get(job["norm"], ()))


class Run:
    """A run directory, opened for reading.

    Opening reads the manifest only; an unfinished run can be opened (`complete` is False) but its rows
    cannot be read.

    >>> run = Run("runs/r20")  # doctest: +SKIP
    >>> run.clean().num_rows, run.job_ids  # doctest: +SKIP
    (500, ['00-uniform-linf-0.1', '01-pgd-linf-0.1'])

    Raises:
        BlindspotsError: no such directory, not a run, a run of another format, or a damaged manifest.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise BlindspotsError(
                f"there is no run at '{self.path}': give the directory that `blindspots evaluate --out` wrote"
            )
        manifest = self.path / "manifest.json"
        if not manifest.is_file():
            raise BlindspotsError(
                f"'{self.path}' is not a run, for it has no manifest.json: "
                "give the directory that `blindspots evaluate --out` wrote"
            )
        self.manifest = _read_json(manifest, f"delete the directory '{self.path}'")
        if self.manifest.get("format") != FORMAT:
            raise BlindspotsError(
                f"'{manifest}' has format {self.manifest.get('format')!r}, and this version reads format {FORMAT}: "
                "read the run with the version of blindspots that wrote it"
            )
        missing = {"jobs", "shards", "class_names", "model", "data"} - self.manifest.keys()
        if missing:
            raise _damaged(manifest, f"{', '.join(sorted(missing))} is missing", f"delete the directory '{self.path}'")

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """The jobs of the manifest, in the order they were planned."""
        return list(self.manifest["jobs"])

    @property
    def job_ids(self) -> list[str]:
        return [job["id"] for job in self.jobs]

    @property
    def shard_ids(self) -> list[str]:
        return [shard["id"] for shard in self.manifest["shards"]]

    @property
    def progress(self) -> tuple[int, int]:
        """How many tables are written, of how many: one clean table and one per job for every shard."""
        tables = [self._table_path(part, shard) for part in ("clean", *self.job_ids) for shard in self.shard_ids]
        return sum(table.is_file() for table in tables), len(tables)

    @property
    def complete(self) -> bool:
        done, total = self.progress
        return done == total

    def require_complete(self) -> None:
        """Raise a BlindspotsError that says how far the run is, unless it is finished."""
        done, total = self.progress
        if done < total:
            raise BlindspotsError(
                f"the run '{self.path}' is not finished, {done} of {total} pieces are done "
                f"({len(self.shard_ids)} shards x {len(self.job_ids)} jobs and the clean pass): "
                "run the same `blindspots evaluate` command again and it goes on where it stopped"
            )

    def clean(self) -> pa.Table:
        """One row an image: index, label, prediction, confidence, correct, margin."""
        return self._clean

    @cached_property
    def _clean(self) -> pa.Table:
        self.require_complete()
        parts = []
        for shard in self.manifest["shards"]:
            table = self._read_table("clean", shard["id"])
            if table.num_rows != shard["stop"] - shard["start"]:
                raise _damaged(
                    self._table_path("clean", shard["id"]),
                    f"{table.num_rows} rows where the manifest says {shard['stop'] - shard['start']}",
                )
            parts.append(table)
        return pa.concat_tables(parts)

    def rows(self, job_id: str) -> pa.Table:
        """All rows of one job, shard after shard (one row an image, or one per image and target)."""
        self.require_complete()
        if job_id not in self.job_ids:
            raise unknown("job", job_id, self.job_ids)
        return pa.concat_tables([self._read_table(job_id, shard) for shard in self.shard_ids])

    def verdicts(self, job_id: str) -> Verdicts:
        """The rows of one job, reduced to one verdict an image."""
        rows = self.rows(job_id)
        index = self.clean()["index"].to_numpy()
        order = np.argsort(index, kind="stable")
        slot = np.searchsorted(index, rows["index"].to_numpy(), sorter=order).clip(max=len(index) - 1)
        place = order[slot]  # for every row, the position of its image in the clean table
        if not np.array_equal(index[place], rows["index"].to_numpy()) or len(np.unique(place)) != len(index):
            folder = self.path / "jobs" / job_id
            raise _damaged(folder, "its images are not those of the clean tables", f"delete '{folder}'")
        job = self.jobs[self.job_ids.index(job_id)]
        chosen = speakers(place, rows, job)

        def total(name: str) -> NDArray[np.int64]:
            return np.bincount(place, rows[name].to_numpy(), len(index)).astype(np.int64)

        def anywhere(name: str) -> NDArray[np.bool_]:
            return np.bincount(place, rows[name].to_numpy(), len(index)) > 0

        def spoken(name: str) -> NDArray[Any]:
            return np.asarray(rows[name].to_numpy()[chosen])

        return Verdicts(
            job=job,
            attacked=anywhere("attacked"),
            success=anywhere("success"),
            fooled=anywhere("fooled"),
            forwards=total("forwards"),
            backwards=total("backwards"),
            zero_gradients=total("zero_gradients"),
            bad_gradients=total("bad_gradients"),
            # Runs from before there were attacks that need a start do not tell.
            unstarted=total("unstarted") if "unstarted" in rows.column_names else np.zeros(len(index), np.int64),
            chosen=chosen,
            target=spoken("target"),
            prediction=spoken("prediction"),
            confidence=spoken("confidence"),
            margin=spoken("margin"),
            sizes={name: spoken(f"size_{name}") for name in sizes_of(job)},
            carried=spoken("carried") if "carries" in job else np.zeros(len(index), bool),
            decided=spoken("decided") if "members" in job else None,
        )

    @property
    def kept(self) -> str:
        """Which adversarial images are stored: those of "all" attacked rows, of "fooled" ones, or "none" at all."""
        return str(self.manifest.get("settings", {}).get("keep_images", "all"))

    def images(self, job_id: str, index: list[int]) -> dict[int, Tensor]:
        """The stored images `(C, H, W)` of these image numbers, from one job or from "clean".

        Only the asked images are read. Where a job holds several rows for an image, the one that speaks for it is
        given, see `Verdicts`. Images that are not stored (`kept`) are not in the answer.
        """
        return self._stored("images", job_id, index)

    def flows(self, job_id: str, index: list[int]) -> dict[int, Tensor]:
        """The flows `(2, H, W)` that bent the stored images of these numbers; empty for jobs that bend none."""
        return self._stored("flows", job_id, index)

    def _stored(self, name: str, job_id: str, index: list[int]) -> dict[int, Tensor]:
        self.require_complete()
        if job_id not in ("clean", *self.job_ids):
            raise unknown("job", job_id, ("clean", *self.job_ids))
        if self.kept == "none":
            return {}
        wanted = set(index)
        found: dict[int, Tensor] = {}
        everywhere, start = self.clean()["index"].to_pylist(), 0
        for entry in self.manifest["shards"]:
            shard, stop = entry["id"], start + entry["stop"] - entry["start"]
            here, start = everywhere[start:stop], stop
            if wanted.isdisjoint(here):
                continue
            table = self._read_table(job_id, shard)
            if job_id != "clean":
                table = table.filter(table["success" if self.kept == "fooled" else "attacked"])
            numbers = table["index"].to_numpy()
            if wanted.isdisjoint(numbers.tolist()):
                continue
            if job_id == "clean":
                chosen = np.arange(len(numbers))
            else:
                job = self.jobs[self.job_ids.index(job_id)]
                chosen = speakers(numbers, table, job)
            rows = [row for row in chosen.tolist() if int(numbers[row]) in wanted]
            found |= self._read_stored(name, job_id, shard, numbers, rows)
        return found

    def shard_rows(self, job_id: str, shard: str) -> pa.Table:
        """The rows of one job on one shard; the run may be unfinished, this piece of it not."""
        return self._read_table(job_id, shard)

    def shard_images(self, job_id: str, shard: str) -> dict[str, Tensor]:
        """What is stored of one job on one shard: `images` (A, C, H, W), their numbers `index` (A,), and `flows`."""
        file = self.path / "images" / job_id / f"{shard}.safetensors"
        try:
            return load_file(file)
        except (SafetensorError, OSError) as error:
            raise _damaged(file, str(error), f"delete '{self._table_path(job_id, shard)}'") from error

    def timings(self) -> dict[str, float]:
        """Seconds by job id, and "clean", summed over the shards; what was not timed is left out."""
        seconds: dict[str, float] = {}
        for part in ("clean", *self.job_ids):
            files = [self.path / "timing" / f"{shard}-{part}.json" for shard in self.shard_ids]
            times = [float(_read_json(file)["seconds"]) for file in files if file.is_file()]
            if times:
                seconds[part] = sum(times)
        return seconds

    def _table_path(self, part: str, shard: str) -> Path:
        return self.path / ("clean" if part == "clean" else f"jobs/{part}") / f"{shard}.parquet"

    def _read_table(self, part: str, shard: str) -> pa.Table:
        file = self._table_path(part, shard)
        try:
            return pq.ParquetFile(file).read()
        except (pa.ArrowException, OSError) as error:
            raise _damaged(file, str(error)) from error

    def _read_stored(
        self, name: str, part: str, shard: str, numbers: NDArray[np.int64], rows: list[int]
    ) -> dict[int, Tensor]:
        file, table = self.path / "images" / part / f"{shard}.safetensors", self._table_path(part, shard)
        try:
            with safe_open(file, framework="pt") as tensors:
                if tensors.get_tensor("index").tolist() != numbers.tolist():
                    raise _damaged(file, "its images are not those of its table", f"delete '{table}'")
                if name == "flows" and name not in tensors.keys():  # noqa: SIM118  the file is no dict
                    return {}
                stored = tensors.get_slice(name)
                return {int(numbers[row]): stored[row : row + 1][0] for row in rows}
        except (SafetensorError, OSError) as error:
            raise _damaged(file, str(error), f"delete '{table}'") from error


def _read_json(file: Path, remedy: str = "delete this file") -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(file, str(error), remedy) from error
    if not isinstance(value, dict):
        raise _damaged(file, "it holds no JSON object", remedy)
    return value


def _damaged(file: Path, why: str, remedy: str = "delete this file") -> BlindspotsError:
    reason = " ".join(why.split())
    return BlindspotsError(
        f"'{file}' is damaged ({reason}): {remedy} and run the same `blindspots evaluate` command again"
    )
