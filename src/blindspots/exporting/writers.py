"""Writing 8-bit images: one PNG each, or all of a job in one .npz; and the table that lists them."""

from __future__ import annotations

import csv
import io
import os
import zipfile
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image

from ..errors import BlindspotsError
from ..files import replace_file
from .job import COLUMNS, Rounded

Format = Literal["png", "npz"]
FORMATS: tuple[str, ...] = ("png", "npz")
INDEX = "index.csv"
ARCHIVE = "images.npz"
_NUMBERS = ("index", "label", "prediction")
_TRUTHS = ("fooled_before", "fooled_rounded", "fooled", "inside")
_GRAY_OR_RGB = (1, 3)


def check_format(kind: str, channels: int) -> None:
    """Refuse an unknown format, and PNG for channels that it does not hold."""
    if kind not in FORMATS:
        raise BlindspotsError(f"format must be one of {', '.join(FORMATS)}, got '{kind}'")
    if kind == "png" and channels not in _GRAY_OR_RGB:
        raise BlindspotsError(f"PNG holds gray or RGB images, and those of this run have {channels} channels: use npz")


class Writer(ABC):
    """Takes the images of one job, piece after piece; a file appears whole or not at all."""

    @abstractmethod
    def write(self, rounded: Rounded) -> list[dict[str, Any]]:
        """Write the images and answer with their rows, `file` being the name of the file."""

    def __enter__(self) -> Writer:
        return self

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class PngWriter(Writer):
    """One PNG an image, 8 bits a channel, without loss."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: set[str] = set()

    def write(self, rounded: Rounded) -> list[dict[str, Any]]:
        rows = []
        for image, row in zip(rounded.images, rounded.rows, strict=True):
            name = f"{row['file']}.png"
            pixels = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
            sink = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(pixels)).save(sink, "png")
            replace_file(self._folder / name, sink.getvalue())
            self._written.add(name)
            rows.append({**row, "file": name})
        return rows

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._folder.is_dir():
            # An interrupted start under another verdict leaves an image under another name.
            for stale in set(self._folder.glob("*-to-*.png")) - {self._folder / name for name in self._written}:
                stale.unlink()


class NpzWriter(Writer):
    """One archive: images (N, C, H, W) uint8, labels, targets and verdicts (N,), appended as they come.

    The archive is not compressed, so that readers can map it into memory.
    """

    def __init__(self, folder: Path, count: int, shape: tuple[int, ...]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / ARCHIVE
        self._temporary = folder / f".tmp-{os.getpid()}-{ARCHIVE}"
        self._rows: list[dict[str, Any]] = []
        self._file = self._temporary.open("wb")
        self._archive = zipfile.ZipFile(self._file, "w")
        self._images: IO[bytes] = self._archive.open(_member("images"), "w", force_zip64=True)
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
        npy.write_array_header_1_0(self._images, header)

    def write(self, rounded: Rounded) -> list[dict[str, Any]]:
        self._images.write(rounded.images.tobytes())
        rows = [{**row, "file": ARCHIVE} for row in rounded.rows]
        self._rows += rows
        return rows

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._images.close()
        if kind is None:
            targets = [-1 if row["target"] == "" else row["target"] for row in self._rows]
            self._add("labels", np.array([row["label"] for row in self._rows], dtype=np.int64))
            self._add("target", np.array(targets, dtype=np.int64))
            for name in _NUMBERS:
                if name != "label":
                    self._add(name, np.array([row[name] for row in self._rows], dtype=np.int64))
            for name in _TRUTHS:
                self._add(name, np.array([row[name] for row in self._rows], dtype=bool))
        self._archive.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if kind is None:
            os.replace(self._temporary, self._path)
        else:
            self._temporary.unlink(missing_ok=True)

    def _add(self, name: str, array: NDArray[Any]) -> None:
        with self._archive.open(_member(name), "w") as member:
            npy.write_array(member, array, allow_pickle=False)


def _member(name: str) -> zipfile.ZipInfo:
    # With the time of writing left out, equal exports are equal files.
    return zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))


def write_index(folder: Path, rows: list[dict[str, Any]]) -> None:
    """List the images of a job, a line each, in index.csv; it is written last and says that the job is done."""
    sink = io.StringIO()
    table = csv.DictWriter(sink, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows({name: _text(value) for name, value in row.items()} for row in rows)
    replace_file(folder / INDEX, sink.getvalue().encode())


def read_index(folder: Path) -> list[dict[str, Any]] | None:
    """The rows of a job that is done, as far as counts need them; None where it is not, or where files are missing."""
    try:
        with (folder / INDEX).open(newline="", encoding="utf-8") as file:
            rows: list[dict[str, Any]] = list(csv.DictReader(file))
    except FileNotFoundError:
        return None
    present = {entry.name for entry in folder.iterdir()}
    if any(row["file"] not in present for row in rows):
        return None
    return [{**row, **{name: row[name] == "true" for name in _TRUTHS}} for row in rows]


def _text(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value
