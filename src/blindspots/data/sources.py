"""`dataset`: the one door to data."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import BlindspotsError, unknown
from .catalogue import NAMES, SCHEMES
from .classmap import read_names, renumber
from .folder import image_folder
from .hub import hub_dataset
from .images import ImageData
from .items import torch_dataset
from .named import data_root, named_source
from .npz import npz_file
from .rows import ArrayRows, Source, names_for, whole_labels


def dataset(
    source: Any,
    *,
    split: str = "test",
    data_dir: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    size: int | None = None,
    labels: Mapping[str, int] | Sequence[int] | Sequence[str] | str | os.PathLike[str] | None = None,
    class_names: Sequence[str] | str | os.PathLike[str] | None = None,
    download: bool = False,
) -> ImageData:
    """Open labelled images.

    Args:
        source: a name ("digits", "mnist", "fashion-mnist", "cifar10", "cifar100"), "imagefolder:PATH",
            "PATH.npz", "hf:NAME", a pair (images, labels) of tensors or arrays, a torch Dataset, or an `ImageData`,
            which comes back as it is.
        split: "train" or "test"; other names where the source has them. Only recorded for pairs and Datasets.
        data_dir: the folder of named datasets, and of relative paths not found from the working directory;
            default: the environment variable BLINDSPOTS_DATA.
        limit: take that many images, each class with its share (see `blindspots.data.subset`); all if there are
            fewer.
        seed: which images a limit takes.
        size: resize the shorter side and cut out the centre: image files and PIL images only.
        labels: image folders only: the model's output for each class folder (see `blindspots.data.classmap`).
        class_names: a name for each class, in order, or a file of them.
        download: fetch a missing mnist, fashion-mnist, cifar10 or cifar100 through torchvision.

    Returns:
        The data; images are loaded when asked for.

    Raises:
        BlindspotsError: what is given cannot be used; one sentence says why and what to do.

    Example:
        >>> from blindspots.data import dataset
        >>> dataset("digits", split="train", limit=200, seed=1)
        ImageData('digits', split='train', count=200, shape=(1, 8, 8))
    """
    if isinstance(source, ImageData):
        if (limit, size, labels, class_names) != (None, None, None, None):
            raise BlindspotsError("limit, size, labels and class_names apply when data is opened: pass its source")
        return source
    root = data_root(data_dir)
    opened, is_folder = _open(source, split, root, size, download)
    if labels is not None:
        if not is_folder:
            raise BlindspotsError(f"labels applies to imagefolder:PATH, not to '{opened.name}': leave it out")
        opened = renumber(opened, labels)
    if class_names is not None:
        opened = replace(opened, class_names=read_names(class_names))
    return ImageData(opened, split=split, limit=limit, seed=seed)


def _open(source: Any, split: str, root: Path | None, size: int | None, download: bool) -> tuple[Source, bool]:
    if isinstance(source, os.PathLike):
        path = os.fspath(source)
        source = path if path.endswith(".npz") else f"imagefolder:{path}"
    if not isinstance(source, str):
        return _objects(source, size), False
    if source.startswith("imagefolder:"):
        return image_folder(_path(source.removeprefix("imagefolder:"), root), split, size, source), True
    if source.startswith("hf:"):
        return hub_dataset(source.removeprefix("hf:"), split, size), False
    if size is not None:
        raise BlindspotsError(
            f"size applies to imagefolder:PATH, hf:NAME and PIL images, not to '{source}': leave it out"
        )
    if source.endswith(".npz"):
        return npz_file(_path(source, root), split), False
    if source in NAMES:
        return named_source(source, split, root, download), False
    if source and _path(source, root).exists():
        raise BlindspotsError(
            f"'{source}' is a path, not a name: write imagefolder:{source} for a folder or .zip of one"
        )
    raise unknown("data", source, (*NAMES, *SCHEMES))


def _objects(source: Any, size: int | None) -> Source:
    if isinstance(source, tuple) and len(source) == 2:
        if size is not None:
            raise BlindspotsError("size applies to files and PIL images, not to a pair of arrays: resize them first")
        images, labels = source
        if not (hasattr(images, "ndim") and hasattr(images, "dtype")):
            raise BlindspotsError(
                f"images of a pair must be a tensor or an array, got {type(images).__name__}: pass (images, labels)"
            )
        rows = ArrayRows(images, "arrays")
        known = whole_labels(labels, "arrays", len(rows))
        return Source("arrays", rows, known, names_for(known))
    if hasattr(source, "__getitem__") or hasattr(source, "__iter__"):
        return torch_dataset(source, size)
    raise BlindspotsError(
        f"data must be a name, a path, a pair (images, labels) or a torch Dataset, got {type(source).__name__}"
    )


def _path(text: str, root: Path | None) -> Path:
    """The path as given, or below the data folder where it is only there."""
    path = Path(text).expanduser()
    below = root / path if root is not None else path
    return below if not path.exists() and below.exists() else path
