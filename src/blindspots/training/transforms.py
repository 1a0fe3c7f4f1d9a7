"""Augmentation by torchvision's transforms (v2), by name, each image with random draws of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import BlindspotsError, unknown
from .order import key


@dataclass(frozen=True, eq=False)
class Transforms:
    """torchvision transforms, one after the other; made by `read_transforms`."""

    chain: tuple[Any, ...]

    def __call__(self, images: Tensor, index: Tensor, *, seed: int, epoch: int) -> Tensor:
        """Change images (n, C, H, W) in [0, 1], each by a function of (seed, epoch, its number in index (n,))."""
        changed = []
        # A transform draws once for all it is given, so images go through it one by one.
        with torch.random.fork_rng(devices=[]):
            for image, number in zip(images, index.tolist(), strict=True):
                torch.manual_seed(key(seed, "transform", epoch, number))
                for transform in self.chain:
                    image = transform(image)
                changed.append(image)
        return torch.stack(changed).clamp(0, 1)


def read_transforms(text: str, shape: tuple[int, ...]) -> Transforms:
    """Transforms as written in `TrainSettings.transforms`, tried on an image of that shape (C, H, W).

    Raises:
        BlindspotsError: an unknown transform, settings that it does not take, or one that changes the shape.
    """
    from torchvision.transforms import v2

    from ..config import parse_named

    known = {name for name, kind in vars(v2).items() if isinstance(kind, type) and issubclass(kind, v2.Transform)}
    chain = []
    for piece in filter(None, (part.strip() for part in text.split("+"))):
        given = parse_named(piece, "transform", "RandomErasing:p=0.5")
        name = given.pop("name")
        if name not in known:
            raise unknown("transform of torchvision", name, known)
        try:
            chain.append(getattr(v2, name)(**given))
        except (TypeError, ValueError) as error:
            raise BlindspotsError(
                f"the transform '{piece}' cannot be made ({error}): see torchvision.transforms.v2.{name}"
            ) from error
    transforms = Transforms(tuple(chain))
    try:
        got = tuple(transforms(torch.zeros(1, *shape), torch.zeros(1), seed=0, epoch=0).shape[1:])
    except Exception as error:
        raise BlindspotsError(
            f"the transforms '{text}' fail on images of shape {shape} ({str(error).splitlines()[0]}): choose others"
        ) from error
    if got != shape:
        raise BlindspotsError(
            f"the transforms '{text}' turn images of shape {shape} into {got}: give them settings that keep the shape"
        )
    return transforms
