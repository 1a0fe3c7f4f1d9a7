"""NumPy archives: which two arrays are meant, mapped into memory where they are stored uncompressed."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ..errors import BlindspotsError
from .rows import ArrayRows, Source, names_for, whole_labels


def npz_file(path: Path, split: str) -> Source:
    """Open an .npz with images and labels under images/labels, x/y, arr_0/arr_1 or x_SPLIT/y_SPLIT.

    Arrays saved by `numpy.savez` are mapped (only the rows asked for are read); those of `savez_compressed` are
    read whole. Pickled objects are never loaded.
    """
    name = path.name
    if not path.exists():
        raise BlindspotsError(
            f"there is no file {path}, seen from the working directory or the data folder: check the path"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info.filename.removesuffix(".npy") for info in archive.infolist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise BlindspotsError(f"{path} is not a readable .npz: write it with numpy.savez") from error
    twice = sorted({member for member in members if members.count(member) > 1})
    if twice:
        raise BlindspotsError(f"'{name}' holds the key '{twice[0]}' twice: write the file anew")
    pairs = [("images", "labels"), ("x", "y"), (f"x_{split}", f"y_{split}"), ("arr_0", "arr_1")]
    found = [pair for pair in pairs if pair[0] in members and pair[1] in members]
    if len(found) != 1:
        wanted = ", ".join("/".join(pair) for pair in pairs)
        seen = ", ".join(members[:10]) or "nothing"
        what = "more than one pair of images and labels" if found else "no pair of images and labels"
        raise BlindspotsError(f"'{name}' holds {what}: it has {seen} and needs exactly one of {wanted}")
    rows = ArrayRows(_array(path, found[0][0]), name)
    labels = whole_labels(_array(path, found[0][1]), name, len(rows))
    return Source(name, rows, labels, names_for(labels))


def _array(path: Path, key: str) -> NDArray[Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{key}.npy")
            with archive.open(info) as member:
                shape, fortran, dtype = _header(member)
                data = member.tell()
                if info.compress_type == zipfile.ZIP_STORED and 0 not in shape and not dtype.hasobject:
                    order: Any = "F" if fortran else "C"
                    return np.memmap(path, dtype, "r", _start(path, info) + data, shape, order)
        with np.load(path, allow_pickle=False) as archive_:
            array: NDArray[Any] = archive_[key]
            return array
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise BlindspotsError(
            f"'{key}' of '{path.name}' cannot be read as a plain numeric array ({error}): write the file anew"
        ) from error


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    if npy.read_magic(member) == (1, 0):
        return npy.read_array_header_1_0(member)
    return npy.read_array_header_2_0(member)


def _start(path: Path, info: zipfile.ZipInfo) -> int:
    """Where the bytes of a stored member begin: after its local header, whose extra field has a length of its own."""
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))
    return info.header_offset + 30 + int(name) + int(extra)
