"""Fixed-shape model batches: how rows are laid out for the model, and how many go into one call.

Every call has exactly `batch` rows. A kernel may round differently for another shape, so with one shape the answer for
an image does not depend on how many images are asked about.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import BlindspotsError
from .lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """How images go into the model: how many in one call, and whether their channels lie side by side in memory."""

    batch: int
    channels_last: bool = False


@dataclass(frozen=True)
class Chunk:
    """One model call: the rows it reads, and which of its answers are new."""

    start: int
    stop: int
    fresh: int

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


def chunks(count: int, batch: int) -> Iterator[Chunk]:
    """Cover rows 0 .. count-1 with calls of exactly `batch` rows.

    A short last call reaches back over rows that are already answered, which costs what padding would and copies
    nothing.

    >>> [(c.start, c.stop, c.fresh) for c in chunks(5, 2)]
    [(0, 2, 0), (2, 4, 2), (3, 5, 4)]
    """
    for fresh in range(0, count, batch):
        stop = min(fresh + batch, count)
        yield Chunk(max(0, stop - batch), stop, fresh)


def tune(
    forward: Callable[[Tensor, bool], Tensor],
    example: Tensor,
    device: torch.device,
    channels_last: bool | None = None,
) -> Layout:
    """The layout with the lowest cost of a gradient per image, by measurement.

    Args:
        forward: images in a layout, and whether channels come last, to logits.
        example: one image (1, C, H, W).
        device: where it runs.
        channels_last: the memory format, if it is given; measured otherwise.

    Batches double until three in a row bring nothing or one call takes half a second. Those near the best are then
    measured again in turns, and the smallest within 2 % of the best is taken, since small batches waste less when few
    images are left. Channels last are taken where they save more than 5 % of it, as they do for many convolutions; a
    module that cannot take them, since it views its activations in another way, is left alone.
    """
    last = bool(channels_last)
    largest = 4096 if device.type == "cuda" else 512
    costs: dict[int, float] = {}
    batch, misses = (1 if device.type == "cpu" else 16), 0
    while batch <= largest and misses < 3:
        try:
            cost = _cost(forward, example, batch, last, device)
        except torch.OutOfMemoryError:
            break
        misses = misses + 1 if costs and cost > 0.97 * min(costs.values()) else 0
        costs[batch] = cost
        if cost * batch > 0.5:
            break
        batch *= 2
    if not costs:
        raise BlindspotsError(
            "the device has too little memory for one image of this model: use a smaller batch or another device"
        )
    near = [b for b, cost in costs.items() if cost <= 1.2 * min(costs.values()) and cost * b < 0.2]
    found = {(b, last): costs[b] for b in near or [min(costs, key=costs.__getitem__)]}
    if channels_last is None:
        # What another format saves depends on the batch: the two are chosen together.
        found |= {(b, True): float("inf") for b, _ in list(found)}
    for _ in range(_TURNS if len(found) > 1 else 0):
        for b, other in list(found):
            try:
                cost = _cost(forward, example, b, other, device)
            except (RuntimeError, ValueError, TypeError, AssertionError):
                if other == last:
                    raise
                del found[b, other]
                continue
            found[b, other] = min(found[b, other], cost)
    usual = min(cost for (_, other), cost in found.items() if other == last)
    if min(found.values()) < 0.95 * usual:
        last = True
    best = min(cost for (_, other), cost in found.items() if other == last)
    return Layout(next(b for (b, other), cost in found.items() if other == last and cost <= 1.02 * best), last)


_TURNS = 4


def _cost(
    forward: Callable[[Tensor, bool], Tensor], example: Tensor, batch: int, channels_last: bool, device: torch.device
) -> float:
    """Seconds per image of a forward and a backward; the fastest of a few runs, the first left out."""
    images = example.expand(batch, *example.shape[1:]).clone()
    clock = _clock(device)
    best, spent, runs = float("inf"), 0.0, 0
    while runs < 2 or (spent < 0.03 and runs < 20):
        started = clock()
        with torch.enable_grad():
            images.requires_grad_()
            logits = forward(images, channels_last)
            # A loss as attacks have it: what a call costs besides the model makes the smallest batches dearer.
            loss = torch.nn.functional.softplus(logits.logsumexp(1) - logits[:, 0]).sum()
            if loss.requires_grad:
                torch.autograd.grad(loss, images, allow_unused=True)
        took = clock() - started
        images = images.detach()
        runs, spent = runs + 1, spent + took
        if runs > 1:
            best = min(best, took)
    return best / batch


def _clock(device: torch.device) -> Callable[[], float]:
    if device.type == "cuda":

        def synchronised() -> float:
            torch.cuda.synchronize(device)
            return time.perf_counter()

        return synchronised
    # On one thread the time of the thread itself is what counts: the clock on the wall also runs for other programs,
    # and more often during long calls, so that on a busy machine it would make small batches look good.
    return time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
