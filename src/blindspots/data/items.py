"""Torch datasets: anything with a length and items (image, label), or items that are dicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Subset, TensorDataset

from ..errors import BlindspotsError
from .photo import Mode, mode_of, pixels
from .rows import ArrayRows, Source, channels_last, names_for, whole_labels

IMAGE_KEYS = ("image", "images", "img", "pixel_values", "x")
LABEL_KEYS = ("label", "labels", "target", "fine_label", "class", "y")


@final
class ItemRows:
    """Rows of a torch Dataset; an item is asked for when its row is, and checked against its label.

    Args:
        items: has a length and integer keys.
        labels: (N,), what the items are known to be labelled.
        keys: names of image and label where items are dicts.
        size: resize and cut images that come as PIL images.
    """

    def __init__(self, items: Any, labels: Tensor, name: str, keys: tuple[str, str] | None, size: int | None) -> None:
        self._items, self._labels, self._name, self._keys, self._size = items, labels, name, keys, size
        self._mode: Mode | None = None
        image, _ = _pair(items[0], keys, name)
        if isinstance(image, Image.Image):
            self._mode = mode_of(image)
        elif size is not None:
            raise BlindspotsError(f"size applies to files and PIL images, but '{name}' gives arrays: resize them there")
        shape = self._pixels(image, 0).shape
        self._shape = (shape[0], shape[1], shape[2])

    @property
    def shape(self) -> tuple[int, int, int]:
        return self._shape

    def __len__(self) -> int:
        return len(self._labels)

    def load(self, positions: Tensor) -> Tensor:
        images = []
        for position in positions.tolist():
            image, label = _pair(self._items[position], self._keys, self._name)
            tensor = self._pixels(image, position)
            if tensor.shape != self._shape:
                raise BlindspotsError(
                    f"images of '{self._name}' differ in shape: image 0 is {self._shape} and image {position} is "
                    f"{tuple(tensor.shape)}, resize them to one"
                )
            if int(label) != int(self._labels[position]):
                raise BlindspotsError(
                    f"image {position} of '{self._name}' comes with the label {int(label)}, but its list of labels "
                    f"says {int(self._labels[position])}: make both agree"
                )
            images.append(tensor)
        if len({tensor.dtype for tensor in images}) > 1:
            raise BlindspotsError(f"'{self._name}' mixes uint8 and floating point images: give one of them")
        return torch.stack(images)

    def _pixels(self, image: Any, position: int) -> Tensor:
        if isinstance(image, Image.Image):
            return torch.from_numpy(pixels(image, f"{position} of '{self._name}'", self._mode, self._size))
        if isinstance(image, np.ndarray):
            image = torch.from_numpy(np.array(image))
            if image.ndim == 3 and channels_last(image.shape):
                image = image.permute(2, 0, 1)
        if not isinstance(image, Tensor) or image.ndim not in (2, 3):
            what = f"of shape {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
            raise BlindspotsError(
                f"image {position} of '{self._name}' is {what}: items give a tensor (C, H, W), an array (H, W, C) or "
                "a PIL image"
            )
        if image.dtype != torch.uint8 and not image.is_floating_point():
            dtype = str(image.dtype).removeprefix("torch.")
            raise BlindspotsError(
                f"images of '{self._name}' are {dtype}: pass uint8 in 0..255 or floating point in [0, 1]"
            )
        image = image.detach().cpu()
        if image.dtype != torch.uint8:
            image = image.to(torch.float32)
        tensor: Tensor = image if image.ndim == 3 else image[None]
        return tensor


def torch_dataset(items: Any, size: int | None) -> Source:
    """Open a torch Dataset; its labels come from `targets` or `labels` if it has them, else from one pass over it."""
    name = type(items).__name__
    if isinstance(items, TensorDataset) and len(items.tensors) == 2:
        rows = ArrayRows(items.tensors[0], name)
        labels = whole_labels(items.tensors[1], name, len(rows))
        return Source(name, rows, labels, names_for(labels))
    try:
        count = len(items)
    except TypeError as error:
        raise BlindspotsError(f"'{name}' has no length: give a dataset with __len__ and __getitem__") from error
    if count == 0:
        raise BlindspotsError(f"'{name}' holds no images: give data with at least one")
    keys = keys_of(items[0], name)
    known = _known_labels(items)
    if known is None:
        known = [_pair(items[position], keys, name)[1] for position in range(count)]
    labels = whole_labels(known, name, count)
    listed = getattr(items, "classes", None)
    names = tuple(map(str, listed)) if isinstance(listed, list | tuple) and listed else names_for(labels)
    return Source(name, ItemRows(items, labels, name, keys, size), labels, names)


def keys_of(item: Any, name: str) -> tuple[str, str] | None:
    """The names of image and label in a dict item; None for a pair."""
    if not isinstance(item, Mapping):
        return None
    image = next((key for key in IMAGE_KEYS if key in item), None)
    label = next((key for key in LABEL_KEYS if key in item), None)
    if image is None or label is None:
        raise BlindspotsError(
            f"items of '{name}' have the keys {', '.join(map(str, item))}: name the image one of "
            f"{', '.join(IMAGE_KEYS)} and the label one of {', '.join(LABEL_KEYS)}"
        )
    return image, label


def _pair(item: Any, keys: tuple[str, str] | None, name: str) -> tuple[Any, Any]:
    if keys is not None:
        return item[keys[0]], _label(item[keys[1]])
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise BlindspotsError(f"items of '{name}' are {type(item).__name__}: give (image, label), or a dict of both")
    return item[0], _label(item[1])


def _label(label: Any) -> Any:
    return label.item() if isinstance(label, Tensor | np.ndarray | np.generic) and label.size else label


def _known_labels(items: Any) -> Any:
    """The labels a dataset carries in one piece, through any depth of Subset; None where a pass is needed."""
    if isinstance(items, Subset):
        inner = _known_labels(items.dataset)
        return None if inner is None else [int(inner[position]) for position in items.indices]
    if getattr(items, "target_transform", None) is not None:
        return None
    for name in ("targets", "labels"):
        known = getattr(items, name, None)
        if isinstance(known, Tensor | np.ndarray | list | tuple):
            return known
    return None
