"""The datasets known by name: digits, mnist, fashion-mnist, cifar10, cifar100."""

from __future__ import annotations

import importlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import BlindspotsError, unknown
from .folder import FolderRows, image_folder
from .idx import find_idx, read_idx
from .rows import ArrayRows, Source, whole_labels
from .subset import stratified

_DIGITS_TEST = 500
_IDX = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
_CIFAR = {"cifar10": ("CIFAR10", "cifar-10-batches-py"), "cifar100": ("CIFAR100", "cifar-100-python")}
_TEN = tuple(str(digit) for digit in range(10))
_FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_JPEG = (
    "images are JPEG files, not the original pixels: models trained on the original CIFAR-10 lose about 10 points of "
    "accuracy on them"
)


def data_root(data_dir: str | os.PathLike[str] | None) -> Path | None:
    """The data folder: `data_dir`, else the environment variable BLINDSPOTS_DATA, else None."""
    given = data_dir if data_dir is not None else os.environ.get("BLINDSPOTS_DATA")
    return Path(given).expanduser() if given else None


def named_source(name: str, split: str, root: Path | None, download: bool) -> Source:
    """Open a dataset of the table `list_data` by its name."""
    if split not in ("train", "test"):
        raise unknown(f"split of '{name}'", split, ("train", "test"))
    if name == "digits":
        return _digits(split)
    if root is None:
        raise BlindspotsError(
            f"data '{name}' has no folder to be looked for in: set BLINDSPOTS_DATA or pass --data-dir with the folder "
            f"that holds {_layout(name)}"
        )
    source = _stored(name, split, root)
    if source is None and download:
        _download(name, split, root)
        source = _stored(name, split, root)
    if source is None:
        raise BlindspotsError(
            f"data '{name}' is not in {root}: it needs {_layout(name)} there, so put it there, set BLINDSPOTS_DATA or "
            "--data-dir to the folder that has it, or pass download=True where there is a network"
        )
    return source


def _layout(name: str) -> str:
    if name in _IDX:
        return f"{_IDX[name]}/raw/*-ubyte (or *-ubyte.gz)"
    if name == "cifar10":
        return "cifar-10-batches-py/, cifar10/train|test/CLASS/* or cifar10-jpeg.zip"
    return f"{_CIFAR[name][1]}/"


def _stored(name: str, split: str, root: Path) -> Source | None:
    if name in _IDX:
        return _idx(name, split, root / _IDX[name] / "raw")
    source = _cifar(name, split, root)
    if source is None and name == "cifar10":
        for place in (root / "cifar10", root / "cifar10-jpeg.zip"):
            if place.exists():
                return _cifar_folder(place, split)
    return source


def _digits(split: str) -> Source:
    """1797 digits of 8x8 pixels with 17 grey levels; the test split is `stratified(labels, 500, seed=0)`."""
    bunch: Any = importlib.import_module("sklearn.datasets").load_digits()
    labels = bunch.target.astype(np.int64)
    test = np.zeros(len(labels), bool)
    test[stratified(labels, _DIGITS_TEST, seed=0)] = True
    mine = test if split == "test" else ~test
    images = torch.from_numpy((bunch.images[mine] / 16).astype(np.float32))
    return Source("digits", ArrayRows(images, "digits"), torch.from_numpy(labels[mine]), _TEN)


def _idx(name: str, split: str, folder: Path) -> Source | None:
    stem = "train" if split == "train" else "t10k"
    files = [find_idx(folder, f"{stem}-{part}-ubyte") for part in ("images-idx3", "labels-idx1")]
    if files[0] is None or files[1] is None:
        return None
    rows = ArrayRows(read_idx(files[0]), name)
    labels = whole_labels(read_idx(files[1]), name, len(rows))
    return Source(name, rows, labels, _TEN if name == "mnist" else _FASHION)


def _cifar(name: str, split: str, root: Path) -> Source | None:
    title, folder = _CIFAR[name]
    if not (root / folder).is_dir():
        return None
    # torchvision's reader, because the files are pickles and it opens them only after checking their known hashes.
    cifar: Any = getattr(importlib.import_module("torchvision.datasets"), title)
    try:
        data = cifar(root, train=split == "train", download=False)
    except RuntimeError as error:
        raise BlindspotsError(f"data '{name}' in {root / folder} is incomplete or damaged: fetch it again") from error
    images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
    return Source(name, ArrayRows(images, name), whole_labels(data.targets, name, len(images)), tuple(data.classes))


def _cifar_folder(place: Path, split: str) -> Source:
    source = image_folder(place, split, None, "cifar10")
    assert isinstance(source.rows, FolderRows)
    if source.class_names != _CIFAR10:
        raise BlindspotsError(
            f"data 'cifar10' in {place} has the class folders {', '.join(source.class_names)}: they must be "
            f"{', '.join(_CIFAR10)}"
        )
    if source.rows.shape != (3, 32, 32):
        raise BlindspotsError(f"data 'cifar10' in {place} has images {source.rows.shape}: they must be (3, 32, 32)")
    return replace(source, notes=(*source.notes, _JPEG)) if source.rows.has((".jpg", ".jpeg")) else source


def _download(name: str, split: str, root: Path) -> None:
    title = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}[name]
    reader: Any = getattr(importlib.import_module("torchvision.datasets"), title)
    try:
        reader(root, train=split == "train", download=True)
    except (OSError, RuntimeError) as error:
        raise BlindspotsError(
            f"data '{name}' could not be downloaded to {root} ({error}): put {_layout(name)} there by hand"
        ) from error
