"""Batches for training: a torch `DataLoader` over an `ImageData`, shuffled as a function of (seed, epoch)."""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import BlindspotsError
from .augment import Augment
from .draws import draw
from .images import ImageData

Batch = tuple[Tensor, Tensor, Tensor]


@final
class _Batches(Dataset[Batch]):
    """Item k is the k-th batch of the epoch: one vectorised load, no Python for each image."""

    def __init__(
        self, images: ImageData, batches: tuple[Tensor, ...], augment: Augment | None, seed: int, epoch: int
    ) -> None:
        self._images, self._batches, self._augment = images, batches, augment
        self._seed, self._epoch = seed, epoch

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> Batch:
        images, labels, index = self._images.take(self._batches[number])
        if self._augment is not None:
            images = self._augment(images, index, seed=self._seed, epoch=self._epoch)
        return images, labels, index


def loader(
    images: ImageData,
    batch: int = 128,
    *,
    shuffle: bool = True,
    seed: int = 0,
    epoch: int = 0,
    augment: Augment | None = None,
    drop_last: bool = False,
    workers: int = 0,
) -> DataLoader[Batch]:
    """One epoch of batches for training; make a new one for each epoch.

    Order and augmentation depend on (seed, epoch) and the images alone, so training that stops after an epoch goes
    on exactly as it would have. Global random state is not touched.

    Args:
        images: the data.
        batch: images in a batch; the last may be smaller.
        shuffle: a new order each epoch, instead of the order of the index.
        seed, epoch: at least 0; what order and augmentation are drawn from.
        augment: mirrors and shifts, see `Augment`.
        drop_last: leave a smaller last batch out (batch normalisation cannot train on a single image).
        workers: processes that load ahead; worth it for image folders, a cost for data in memory.

    Returns:
        A DataLoader of (images (B, C, H, W) float32 in [0, 1], labels (B,) int64, index (B,) int64).

    Raises:
        BlindspotsError: batch below 1, seed, epoch or workers below 0, or no batch left.

    Example:
        >>> from blindspots.data import dataset, loader
        >>> digits = dataset("digits", split="train")
        >>> [len(labels) for _, labels, _ in loader(digits, 512, epoch=3)]
        [512, 512, 273]
    """
    for name, value, least in (("batch", batch, 1), ("seed", seed, 0), ("epoch", epoch, 0), ("workers", workers, 0)):
        if value < least:
            raise BlindspotsError(f"{name} must be at least {least}, got {value}")
    if drop_last and len(images) < batch:
        raise BlindspotsError(f"{len(images)} images make no batch of {batch}: lower batch or keep the last one")
    count = len(images)
    keys = draw(seed, epoch, np.arange(count))
    order = torch.from_numpy(np.argsort(keys, kind="stable")) if shuffle else torch.arange(count)
    batches = torch.split(order, batch)
    if drop_last and len(batches[-1]) < batch:
        batches = batches[:-1]
    return DataLoader(
        _Batches(images, batches, augment, seed, epoch),
        batch_size=None,
        num_workers=workers,
        generator=torch.Generator(),  # without one, every epoch would advance the global generator
    )
