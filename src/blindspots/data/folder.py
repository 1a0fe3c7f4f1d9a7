"""Image folders: a subfolder for each class, in a directory or, read in place, in a .zip."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ..errors import BlindspotsError
from .photo import BROKEN, Mode, mode_of, opened, pixels
from .rows import Source

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
_SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation"})


@final
class FolderRows:
    """Rows of image files; decodes them when asked, keeps only their names.

    All images become "L" if the first image of every class is without colour, else "RGB".

    Args:
        root: a directory or a .zip file.
        names: the files, as paths below the root with "/" between the parts.
        firsts: the positions of the first image of each class, which decide the colour mode.
        size: resize the shorter side to it and cut out the centre; None asks for images of one size.
    """

    def __init__(self, root: Path, names: list[str], firsts: list[int], size: int | None) -> None:
        self._root, self._names, self._size = root, names, size
        self._archive: tuple[int, zipfile.ZipFile] | None = None
        modes = {mode_of(opened(self._bytes(first), self._where(first))) for first in firsts}
        self._mode: Mode = "L" if modes == {"L"} else "RGB"
        shape = self._decode(0).shape
        self._shape = (shape[0], shape[1], shape[2])

    @property
    def shape(self) -> tuple[int, int, int]:
        return self._shape

    def __len__(self) -> int:
        return len(self._names)

    def load(self, positions: Tensor) -> Tensor:
        images = np.empty((len(positions), *self._shape), np.uint8)
        for row, position in enumerate(positions.tolist()):
            image = self._decode(position)
            if image.shape != self._shape:
                raise BlindspotsError(
                    f"images differ in size: {self._where(0)} is {_size(self._shape)} and {self._where(position)} is "
                    f"{_size(image.shape)}, pass --size to resize and crop all to one"
                )
            images[row] = image
        return torch.from_numpy(images)

    def has(self, suffixes: tuple[str, ...]) -> bool:
        """Whether any file has one of the (lower case) suffixes."""
        return any(name.lower().endswith(suffixes) for name in self._names)

    def _decode(self, position: int) -> Any:
        where = self._where(position)
        return pixels(opened(self._bytes(position), where), where, self._mode, self._size)

    def _where(self, position: int) -> str:
        return f"{self._root}/{self._names[position]}"

    def _bytes(self, position: int) -> bytes:
        try:
            if self._root.is_dir():
                return (self._root / self._names[position]).read_bytes()
            return self._zip().read(self._names[position])
        except BROKEN as error:
            raise BlindspotsError(
                f"image {self._where(position)} cannot be read ({error}): replace or remove it"
            ) from error

    def _zip(self) -> zipfile.ZipFile:
        # One handle for each process: forked loader workers would otherwise share one file position.
        if self._archive is None or self._archive[0] != os.getpid():
            self._archive = (os.getpid(), zipfile.ZipFile(self._root))
        return self._archive[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_archive": None}


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[2]}x{shape[1]}"


def image_folder(root: Path, split: str, size: int | None, name: str) -> Source:
    """Open a folder or .zip: ROOT/SPLIT/CLASS/*, or ROOT/CLASS/* where there are no splits.

    Classes are the subfolders in sorted order (one without images keeps its number); the index of an image is its
    place in the listing sorted by class, then by path. Hidden files, and files that are no images by their suffix,
    do not count.
    """
    if size is not None and size < 1:
        raise BlindspotsError(f"size must be at least 1 pixel, got {size}")
    if not root.exists():
        raise BlindspotsError(
            f"'{name}' is not there: no folder or .zip at {root}, seen from the working directory or the data folder, "
            "check the path"
        )
    folders, files = _listing(root, split)
    if not files and folders and set(folders) <= _SPLITS:
        raise BlindspotsError(f"'{name}' has no split '{split}': pass one of {', '.join(sorted(folders))}")
    if not files:
        raise BlindspotsError(
            f"'{name}' holds no images: {root} needs a subfolder for each class, with image files "
            f"({', '.join(suffix[1:] for suffix in SUFFIXES)}) in it"
        )
    number = {folder: place for place, folder in enumerate(folders)}
    files.sort(key=lambda file: (number[file[0]], file[1]))
    labels = np.array([number[folder] for folder, _ in files], np.int64)
    present, firsts = np.unique(labels, return_index=True)
    empty = [folders[place] for place in sorted(set(range(len(folders))) - set(present.tolist()))]
    notes = [f"classes without images: {', '.join(empty)}"] if empty else []
    if size is not None:
        notes.append(f"each image resized to {size} pixels on its shorter side and cut to its centre")
    rows = FolderRows(root, [path for _, path in files], firsts.tolist(), size)
    return Source(name, rows, torch.from_numpy(labels), tuple(folders), tuple(notes))


def _listing(root: Path, split: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Sorted class folders, and (class, path below the root) of every image; no files where only splits are found."""
    paths = _paths(root)
    folders = {path.split("/")[0] for path in paths if "/" in path}
    depth = 0
    if split in folders:
        paths, depth = [path for path in paths if path.startswith(f"{split}/")], 1
    elif folders and folders <= _SPLITS:
        return sorted(folders), []
    parts = [(path, path.split("/")) for path in paths]
    classes = {part[depth] for _, part in parts if len(part) > depth + 1}
    files = [(part[depth], path) for path, part in parts if len(part) > depth + 1 and path.lower().endswith(SUFFIXES)]
    return sorted(classes), files


def _paths(root: Path) -> list[str]:
    """Files below the root, and folders with a closing "/", hidden ones left out."""
    if root.is_dir():
        found = []
        for folder, folders, files in os.walk(root, followlinks=True):
            folders[:] = [name for name in folders if not name.startswith(".")]
            below = Path(folder).relative_to(root).as_posix()
            prefix = "" if below == "." else f"{below}/"
            found += [f"{prefix}{name}/" for name in folders] + [f"{prefix}{name}" for name in files]
    else:
        try:
            with zipfile.ZipFile(root) as archive:
                found = archive.namelist()
        except BROKEN as error:
            raise BlindspotsError(f"{root} is neither a folder nor a readable .zip: check the file") from error
    return [path for path in found if not any(part.startswith((".", "__MACOSX")) for part in path.split("/") if part)]
