"""What stands behind `ImageData`: `Rows` loads pixels by position, `Source` adds labels and names to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import BlindspotsError


class Rows(Protocol):
    """The images of a full split, loaded by position; an implementation keeps no loaded image."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W), the same for all images."""

    def __len__(self) -> int: ...

    def load(self, positions: Tensor) -> Tensor:
        """Images (n, C, H, W) at positions (n,), in that order: uint8 in 0..255, or floating point, range unchecked."""


@dataclass(frozen=True)
class Source:
    """A full split: rows, their labels (N,) int64, the name of every class, and remarks for `describe`."""

    name: str
    rows: Rows
    labels: Tensor
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


@final
class ArrayRows:
    """Rows of a tensor or an array held in memory or mapped from a file.

    Args:
        images: tensor (N, C, H, W) or (N, H, W); array likewise or (N, H, W, C), recognised by a last axis of
            1 or 3 where axis 1 is neither. uint8, or floating point.
        name: who is to blame in an error.
    """

    def __init__(self, images: Tensor | NDArray[Any], name: str) -> None:
        if images.ndim not in (3, 4):
            raise BlindspotsError(
                f"images of '{name}' have the shape {tuple(images.shape)}, which must be (N, C, H, W) or (N, H, W)"
            )
        if 0 in images.shape:
            raise BlindspotsError(f"'{name}' holds no images: their shape is {tuple(images.shape)}")
        floating = images.is_floating_point() if isinstance(images, Tensor) else images.dtype.kind == "f"
        if not floating and images.dtype not in (torch.uint8, np.uint8):
            dtype = str(images.dtype).removeprefix("torch.")
            raise BlindspotsError(f"images of '{name}' are {dtype}: pass uint8 in 0..255 or floating point in [0, 1]")
        self._images = images.detach() if isinstance(images, Tensor) else images
        # A tensor is channels first by convention of torch; arrays come both ways.
        self._last = isinstance(images, np.ndarray) and images.ndim == 4 and channels_last(images.shape[1:])
        self._shape = _chw(tuple(images.shape[1:]), self._last)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self._shape

    def __len__(self) -> int:
        return len(self._images)

    def load(self, positions: Tensor) -> Tensor:
        if isinstance(self._images, Tensor):
            images = self._images.index_select(0, positions.to(self._images.device)).cpu()
        else:
            picked = self._images[positions.numpy()]
            if picked.dtype != np.uint8:
                picked = picked.astype(np.float32)  # also foreign byte orders and long doubles
            images = torch.from_numpy(np.ascontiguousarray(picked))
        if self._last:
            images = images.permute(0, 3, 1, 2).contiguous()
        return images.reshape(-1, *self._shape)


def channels_last(shape: Sequence[int]) -> bool:
    """Whether an array of one image with this shape is (H, W, C) and not (C, H, W)."""
    return shape[-1] in (1, 3) and shape[0] not in (1, 3)


def _chw(shape: tuple[int, ...], last: bool) -> tuple[int, int, int]:
    if len(shape) == 2:
        return (1, shape[0], shape[1])
    return (shape[2], shape[0], shape[1]) if last else (shape[0], shape[1], shape[2])


def whole_labels(labels: Any, name: str, count: int) -> Tensor:
    """Labels as (N,) int64, or one sentence: wrong rank, wrong type, wrong number, negative."""
    if isinstance(labels, Tensor):
        tensor = labels.detach().cpu()
        whole = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
        dtype = str(tensor.dtype).removeprefix("torch.")
    else:
        array = np.asarray(labels)
        whole, dtype = array.dtype.kind in "iu", "text" if array.dtype.kind in "SUO" else str(array.dtype)
        tensor = torch.from_numpy(array.astype(np.int64)) if whole else torch.zeros(array.shape)
    if not whole and tensor.numel():
        raise BlindspotsError(f"labels of '{name}' are {dtype}: pass whole class numbers 0, 1, 2, ...")
    if tensor.ndim == 2 and tensor.shape[1] == 1:
        tensor = tensor[:, 0]
    if tensor.ndim != 1:
        raise BlindspotsError(
            f"labels of '{name}' have the shape {tuple(tensor.shape)}, which must be (N,): one class number an image"
        )
    if len(tensor) != count:
        raise BlindspotsError(f"'{name}' has {count} images but {len(tensor)} labels: pass one label an image")
    tensor = tensor.to(torch.int64)
    if count and int(tensor.min()) < 0:
        raise BlindspotsError(
            f"labels of '{name}' start at {int(tensor.min())}: class numbers start at 0, drop unlabelled images first"
        )
    return tensor


def names_for(labels: Tensor) -> tuple[str, ...]:
    """Class names where the data brings none: "0", "1", ... up to the greatest label."""
    return tuple(str(number) for number in range(int(labels.max()) + 1))
