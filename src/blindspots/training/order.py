"""Which images are held out, in which order the others come, and where every random draw starts.

Nothing is drawn from a stream: every draw is a function of the seed and of the place in the run (epoch, step). A
resumed run therefore draws what the uninterrupted one would have drawn, and a checkpoint stores no random state.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from ..data.draws import draw


def key(seed: int, *place: str | int) -> int:
    """A seed of 63 bits from the run's seed and a place in the run, such as ("step", epoch, step)."""
    text = ":".join(str(part) for part in (seed, *place))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def hold_out(labels: Tensor, index: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split images into training and validation images, class by class.

    Args:
        labels: classes (N,) int64.
        index: stable numbers (N,) int64, from which the choice is drawn.
        share: wanted share of the validation images, in [0, 1).
        seed: chooses which images are held out.

    Returns:
        Positions of the training images and of the validation images, both ascending and without an image in common.
        Of each class with n images `round(share n)` are held out, at least one and at most n - 1; a class with a
        single image stays in training. A share of 0 holds out nothing.
    """
    held = torch.zeros(len(labels), dtype=torch.bool)
    keys = torch.from_numpy(draw(key(seed, "validation"), index.numpy()).argsort(kind="stable"))
    for label in sorted(set(labels.tolist())) if share > 0 else ():
        members = keys[labels[keys] == label]
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        held[members[:count]] = True
    return (~held).nonzero().flatten(), held.nonzero().flatten()


def epoch_batches(count: int, batch: int, seed: int, epoch: int) -> tuple[Tensor, ...]:
    """Positions 0 .. count-1 in the random order of an epoch, cut into the fewest batches of at most `batch`.

    Sizes differ by one at most: no image is dropped, and no tiny last batch disturbs batch normalisation.
    """
    order = torch.from_numpy(draw(key(seed, "order"), epoch, np.arange(count)).argsort(kind="stable"))
    return order.tensor_split(-(-count // batch))
