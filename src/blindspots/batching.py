"""Fixed-shape model batches: how rows are laid out for the model.

Every call has exactly `batch` rows. A kernel may round differently for another shape, so with one shape the answer for
an image does not depend on how many images are asked about. Where few rows are left, a smaller shape serves if it has
been found to answer the same, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """How images go into the model.

    Args:
        batch: how many in one call.
        channels_last: whether their channels lie side by side in memory.
        smaller: other numbers of images in a call that are known to give the same answers, bit for bit.
    """

    batch: int
    channels_last: bool = False
    smaller: tuple[int, ...] = ()

    @property
    def shapes(self) -> tuple[int, ...]:
        """All numbers of images that a call may have, the batch first."""
        return (self.batch, *self.smaller)


@dataclass(frozen=True)
class Chunk:
    """One model call of `shape` rows: those it reads, to be filled up by `fill`, and which of its answers are new."""

    start: int
    stop: int
    fresh: int
    shape: int

    @property
    def rows(self) -> slice:
        """The rows of the population that this call reads."""
        return slice(self.start, self.stop)

    @property
    def valid(self) -> slice:
        """The part of the answer that belongs to rows no earlier call has answered."""
        return slice(self.fresh - self.start, self.stop - self.start)

    @property
    def new(self) -> slice:
        """The rows of the population that this call answers."""
        return slice(self.fresh, self.stop)


def fill(images: Tensor, batch: int) -> Tensor:
    """The images, repeated up to `batch` rows where there are fewer; the added answers are to be left out."""
    if len(images) >= batch:
        return images
    return images[torch.arange(batch, device=images.device) % len(images)]


def chunks(count: int, shapes: Sequence[int]) -> Iterator[Chunk]:
    """Cover rows 0 .. count-1 with calls of exactly `shapes[0]` rows, and of the smallest shape that does at the end.

    A short last call reaches back over rows that are already answered, which costs what padding would and copies
    nothing.

    >>> [(c.start, c.stop, c.fresh, c.shape) for c in chunks(9, (4, 2))]
    [(0, 4, 0, 4), (4, 8, 4, 4), (7, 9, 8, 2)]
    """
    for fresh in range(0, count, shapes[0]):
        stop = min(fresh + shapes[0], count)
        shape = min(shape for shape in shapes if shape >= stop - fresh)
        yield Chunk(max(0, stop - shape), stop, fresh, shape)


def padded(count: int, shapes: Sequence[int]) -> int:
    """How many rows the model is asked about where `count` are wanted.

    >>> padded(9, (4, 2))
    10
    """
    full, rest = divmod(count, shapes[0])
    return full * shapes[0] + (min(shape for shape in shapes if shape >= rest) if rest else 0)
