"""Batches for training: a function of (seed, epoch), every image once, no Python for each image."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from blindspots.data import Augment, dataset, loader
from blindspots.errors import BlindspotsError

COUNT = 50
IMAGES = torch.rand(COUNT, 3, 6, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(COUNT) % 7
DATA = dataset((IMAGES, LABELS))


def order(**settings: Any) -> list[int]:
    return torch.cat([index for _, _, index in loader(DATA, 8, **settings)]).tolist()


def test_every_image_once_with_its_label_in_a_new_order_each_epoch() -> None:
    epochs = [order(seed=1, epoch=epoch) for epoch in range(3)]
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert order(seed=1, epoch=1) == epochs[1]
    assert order(seed=2, epoch=1) != epochs[1]
    assert order(shuffle=False) == list(range(COUNT))
    for images, labels, index in loader(DATA, 8, seed=1):
        assert torch.equal(images, IMAGES[index])
        assert torch.equal(labels, LABELS[index])


def test_a_subset_is_shuffled_with_its_own_numbers() -> None:
    part = dataset((IMAGES, LABELS), limit=20, seed=3)
    index = torch.cat([index for _, _, index in loader(part, 8)])
    assert sorted(index.tolist()) == part.index.tolist()


def test_last_batch() -> None:
    assert [len(labels) for _, labels, _ in loader(DATA, 16)] == [16, 16, 16, 2]
    assert [len(labels) for _, labels, _ in loader(DATA, 16, drop_last=True)] == [16, 16, 16]
    assert len(loader(DATA, 25, drop_last=True)) == 2


def test_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    list(loader(DATA, 8, augment=Augment(flip=True, shift=2)))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert before[2] == np.random.get_state()[1].tolist()  # type: ignore[index]


def test_workers_give_the_same_batches() -> None:
    alone, helped = (list(loader(DATA, 16, epoch=2, augment=Augment(True, 1), workers=workers)) for workers in (0, 2))
    for one, other in zip(alone, helped, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def changed(batch: int, epoch: int = 0, seed: int = 0) -> torch.Tensor:
    result = torch.empty_like(IMAGES)
    for images, _, index in loader(DATA, batch, epoch=epoch, seed=seed, augment=Augment(flip=True, shift=2)):
        result[index] = images
    return result


def test_augmentation_does_not_depend_on_the_batch_but_on_the_epoch() -> None:
    assert torch.equal(changed(8), changed(50))
    assert not torch.equal(changed(8), changed(8, epoch=1))
    assert not torch.equal(changed(8), changed(8, seed=1))


def test_flip_mirrors_about_half() -> None:
    images = torch.arange(1000 * 2.0).reshape(1000, 1, 1, 2)
    out = Augment(flip=True)(images, torch.arange(1000), seed=0, epoch=0)
    mirrored = (out != images).flatten(1).all(1)
    assert torch.equal(out[mirrored], images[mirrored].flip(3))
    assert 420 < mirrored.sum() < 580  # a standard deviation is 16


def test_shift_moves_and_fills_with_black() -> None:
    images = torch.zeros(2000, 1, 5, 7)
    images[:, :, 2, 3] = 1
    out = Augment(shift=1)(images, torch.arange(2000), seed=0, epoch=0)
    assert (out.flatten(1).sum(1) == 1).all()
    spots, counts = out.nonzero()[:, 2:].unique(dim=0, return_counts=True)
    assert spots.tolist() == [[row, column] for row in (1, 2, 3) for column in (2, 3, 4)]
    assert (counts - 2000 / 9).abs().max() < 80  # a standard deviation is 14
    ones = Augment(shift=2)(torch.ones(50, 3, 6, 6), torch.arange(50), seed=0, epoch=0)
    assert ones.min() == 0
    assert Augment()(images, torch.arange(2000), seed=0, epoch=0) is images


def test_one_load_for_a_batch() -> None:
    from blindspots.data.images import ImageData
    from blindspots.data.rows import ArrayRows, Source

    class Watched:
        shape = (3, 6, 5)
        calls = 0
        inner = ArrayRows(IMAGES, "x")

        def __len__(self) -> int:
            return COUNT

        def load(self, positions: torch.Tensor) -> torch.Tensor:
            Watched.calls += 1
            return self.inner.load(positions)

    data = ImageData(Source("x", Watched(), LABELS, tuple("0123456")))
    list(loader(data, 10))
    assert Watched.calls == 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"epoch": -1}, "epoch must be at least 0, got -1"),
        ({"workers": -1}, "workers must be at least 0, got -1"),
        ({"batch": 51, "drop_last": True}, "50 images make no batch of 51: lower batch or keep the last one"),
    ],
)
def test_settings_that_are_wrong(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BlindspotsError) as error:
        loader(DATA, **settings)
    assert str(error.value) == message


def test_shift_below_zero() -> None:
    with pytest.raises(BlindspotsError, match=r"Augment.shift must be at least 0 pixels, got -1"):
        Augment(shift=-1)
