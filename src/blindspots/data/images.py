"""`ImageData`: labelled images in [0, 1] with a stable number each, loaded a batch at a time."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ..errors import BlindspotsError
from .rows import Source
from .subset import stratified

FUZZ = 1e-6  # rounding of a resize or a float conversion, not a mistake of the user: clamped, not refused
_CHUNK = 2**22  # pixels (16 MiB) hashed at a time


@final
class ImageData:
    """Labelled images of one split, or a stratified part of it; made by `dataset`.

    Pixels are loaded when a batch is asked for and not kept, so memory does not grow with the number of images
    (in-memory sources excepted, which stay as they came).

    Attributes:
        name: what was opened, e.g. "mnist".
        split: e.g. "test".
        classes: number of classes, at least the greatest label + 1.
        class_names: one name for each class.
        shape: (C, H, W) of every image.
        labels: (N,) int64.
        index: (N,) int64, ascending: the number of each image in the full split, whatever the subset.

    Raises:
        BlindspotsError: no images; a label that is no class; limit below 1; and from `batch`: a pixel that is NaN
            or outside [0, 1] by more than 1e-6.

    Example:
        >>> from blindspots.data import dataset
        >>> images, labels, index = dataset("digits", limit=10).batch(0, 4)
        >>> images.shape, images.dtype
        (torch.Size([4, 1, 8, 8]), torch.float32)
    """

    def __init__(self, source: Source, *, split: str = "test", limit: int | None = None, seed: int = 0) -> None:
        self.name = source.name
        self.split = split
        self.class_names = source.class_names
        self.classes = len(source.class_names)
        self.shape = source.rows.shape
        _check(source, limit, seed)
        total = len(source.rows)
        chosen = total if limit is None else limit
        self.index = torch.from_numpy(stratified(source.labels.numpy(), chosen, seed))
        self.labels = source.labels[self.index]
        self._rows = source.rows
        self._total = total
        self._limit = limit
        self._seed = seed
        self._notes = source.notes
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        return f"ImageData({self.name!r}, split={self.split!r}, count={len(self)}, shape={self.shape})"

    def batch(self, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        """Rows start..stop (stop excluded, cut at the end): images (n, C, H, W) float32, labels (n,), index (n,)."""
        if not 0 <= start <= stop:
            raise BlindspotsError(f"batch needs 0 <= start <= stop, got start {start} and stop {stop}")
        return self.take(torch.arange(min(start, len(self)), min(stop, len(self))))

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same for any rows (n,) int64 of this data, in the order given."""
        index = self.index[rows]
        if not len(index):
            return torch.empty(0, *self.shape), self.labels[rows], index
        return self._unit(self._rows.load(index), index), self.labels[rows], index

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """All rows in order, `size` at a time; the last batch may be smaller."""
        if size < 1:
            raise BlindspotsError(f"the batch size must be at least 1, got {size}")
        for start in range(0, len(self), size):
            yield self.batch(start, start + size)

    def part(self, rows: Tensor) -> ImageData:
        """These rows (n,) of the data alone, as data of its own; every image keeps its number.

        Raises:
            BlindspotsError: no rows, or rows out of range.
        """
        rows = rows.sort().values
        if not len(rows) or int(rows[0]) < 0 or int(rows[-1]) >= len(self):
            raise BlindspotsError(
                f"a part of '{self.name}' needs rows from 0 to {len(self) - 1}, got {rows.tolist()[:3]}"
            )
        taken = copy.copy(self)
        taken.index, taken.labels, taken._fingerprint = self.index[rows], self.labels[rows], None
        taken._notes = (*self._notes, f"{len(rows)} of {len(self)} images, chosen by row")
        return taken

    def fingerprint(self) -> str:
        """Sha256 over shape, labels, index and the float32 pixels a classifier gets, as hexadecimal digits.

        Two sources with the same pixels have the same fingerprint, whatever they are stored in. Computed once, a
        few images at a time: every image is loaded and checked here.
        """
        if self._fingerprint is None:
            digest = hashlib.sha256(f"blindspots images 1 {len(self)} {self.shape}".encode())
            for numbers in (self.labels, self.index):
                digest.update(numbers.numpy().astype("<i8").tobytes())
            for images, _, _ in self.batches(max(1, _CHUNK // int(np.prod(self.shape)))):
                digest.update(images.contiguous().numpy().astype("<f4", copy=False).data)
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def describe(self) -> dict[str, Any]:
        """What a run records about its data, JSON values only.

        Keys: name, split, total (images of the full split), limit, seed, count, shape, classes, per_class (list of
        counts in the order of the classes), notes (list of sentences), fingerprint.
        """
        notes = list(self._notes)
        if self._limit is not None and self._limit > self._total:
            notes.append(f"limit {self._limit} is more than the {self._total} images of the split: all are used")
        return {
            "name": self.name,
            "split": self.split,
            "total": self._total,
            "limit": self._limit,
            "seed": self._seed,
            "count": len(self),
            "shape": list(self.shape),
            "classes": self.classes,
            "per_class": torch.bincount(self.labels, minlength=self.classes).tolist(),
            "notes": notes,
            "fingerprint": self.fingerprint(),
        }

    def _unit(self, images: Tensor, index: Tensor) -> Tensor:
        if images.dtype == torch.uint8:
            return images.to(torch.float32).div_(255)
        images = images.to(torch.float32)
        low, high = (float(value) for value in torch.aminmax(images))
        if low != low:
            first = int(index[images.flatten(1).isnan().any(1)][0])
            raise BlindspotsError(f"image {first} of '{self.name}' has NaN pixels: repair or remove it")
        if low < -FUZZ or high > 1 + FUZZ:
            raise BlindspotsError(
                f"images of '{self.name}' range from {low:.7g} to {high:.7g} and must lie in [0, 1]: {_cure(low, high)}"
            )
        return images.clamp(0, 1) if low < 0 or high > 1 else images


def _cure(low: float, high: float) -> str:
    if low < -FUZZ:
        return "undo the normalisation and give mean and std to the classifier instead"
    if high <= 2:
        return "clip what goes beyond"
    return "divide by 255" if high <= 255 else "divide by their greatest possible value"


def _check(source: Source, limit: int | None, seed: int) -> None:
    if not len(source.rows):
        raise BlindspotsError(f"'{source.name}' holds no images: give data with at least one")
    greatest, classes = int(source.labels.max()), len(source.class_names)
    if greatest >= classes:
        raise BlindspotsError(
            f"'{source.name}' has the label {greatest} but only {classes} classes: labels go from 0 to {classes - 1}"
        )
    for name, value, least in (("limit", limit, 1), ("seed", seed, 0)):
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise BlindspotsError(f"{name} must be a whole number of at least {least}, got {value}")
