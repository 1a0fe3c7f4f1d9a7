"""What is measured on: a small convolutional network trained on MNIST, and ResNet-20 for 3 x 32 x 32 images.

The first is trained once and kept in the cache of demonstration models. Where MNIST is not found, scikit-learn's digits
enlarged to 28 x 28 pixels take its place; the page says which it was. The second has random weights: time does not
depend on them. Its labels are its own predictions, so that every image is correctly classified at first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

import blindspots as bs
from blindspots.cache import cache_directory
from blindspots.data import ImageData

TRAINING_IMAGES = 20_000


@dataclass(frozen=True)
class Subject:
    """A network in eval mode with images (N, C, H, W) that it classifies as `labels`."""

    name: str
    module: nn.Module
    images: Tensor
    labels: Tensor

    def head(self, count: int) -> Subject:
        return Subject(self.name, self.module, self.images[:count], self.labels[:count])


def digit_data(split: str, limit: int | None = None) -> ImageData:
    """MNIST, or digits of the same shape."""
    try:
        return bs.dataset("mnist", split=split, limit=limit)
    except bs.BlindspotsError:
        images, labels = _enlarged(split)
        if limit is None:
            return bs.dataset((images, labels))
        repeats = -(-limit // len(labels))
        return bs.dataset((images.repeat(repeats, 1, 1, 1)[:limit], labels.repeat(repeats)[:limit]))


@cache
def conv_file() -> Path:
    """The model file of the trained small network."""
    data = digit_data("train", TRAINING_IMAGES)
    place = cache_directory() / "benchmarks" / f"{Path(data.name).name}-{TRAINING_IMAGES}"
    settings = bs.TrainSettings(
        epochs=3, batch=64, schedule="onecycle", learning_rate=3e-3, validation=0.0, threads=1, out=str(place)
    )
    return Path(bs.fit(settings, data=data).model)


@cache
def conv_net(count: int = 256) -> Subject:
    """The trained small network with test images that it gets right."""
    data = digit_data("test")
    model = bs.classifier(str(conv_file()), device="cpu")
    images, labels, _ = data.batch(0, min(len(data), 2 * count))
    right = (model.logits(images).argmax(1) == labels).nonzero().squeeze(1)[:count]
    name = "small-cnn, 1x28x28" if data.name == "mnist" else "small-cnn, 1x28x28 (enlarged digits)"
    return Subject(name, model.module.eval(), images[right], labels[right])


@cache
def small_digits(count: int = 256) -> Subject:
    """A small network for scikit-learn's digits of 8 x 8 pixels, with test images that it gets right."""
    place = cache_directory() / "benchmarks" / "digits"
    settings = bs.TrainSettings(
        epochs=20, batch=64, schedule="onecycle", learning_rate=3e-3, validation=0.0, threads=1, out=str(place)
    )
    model = bs.classifier(str(bs.fit(settings, data=bs.dataset("digits", split="train")).model), device="cpu")
    data = bs.dataset("digits", split="test")
    images, labels, _ = data.batch(0, len(data))
    right = (model.logits(images).argmax(1) == labels).nonzero().squeeze(1)[:count]
    return Subject("digits, 1x8x8", model.module.eval(), images[right], labels[right])


@cache
def resnet20(count: int = 256) -> Subject:
    """ResNet-20 with random weights and random images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = bs.build("resnet20", channels=3, size=32).eval()
        images = torch.rand(count, 3, 32, 32)
    with torch.no_grad():
        labels = torch.cat([module(part).argmax(1) for part in images.split(64)])
    return Subject("ResNet-20, 3x32x32", module, images, labels)


def _enlarged(split: str) -> tuple[Tensor, Tensor]:
    data = bs.dataset("digits", split=split)
    images, labels, _ = data.batch(0, len(data))
    return torch.nn.functional.interpolate(images, size=28, mode="bilinear"), labels
