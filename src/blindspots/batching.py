"""Fixed-shape model batches: how rows are laid out for the model, and how many go into one call.

Every call has exactly `batch` rows. A kernel may round differently for another shape, so with one shape the answer for
an image does not depend on how many images are asked about.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
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
    measured in turns, in both memory formats, and compared within each turn, since a machine changes its speed from
    one turn to the next. The smallest batch within 5 % of the best is taken, since small batches waste less when few
    images are left, and channels last where they save more than 2 %, as they do for many convolutions; a module that
    cannot take them, since it views its activations in another way, is left alone.
    """
    last = bool(channels_last)

    def cost(layout: Layout) -> float:
        return _cost(forward, example, layout.batch, layout.channels_last, device)

    costs = _explore(lambda batch: cost(Layout(batch, last)), device)
    near = [b for b, c in costs.items() if c <= 1.3 * min(costs.values()) and c * b < 0.2]
    usual = [Layout(b, last) for b in near or [min(costs, key=costs.__getitem__)]]
    other = [Layout(layout.batch, True) for layout in usual] if channels_last is None else []
    if other and not _runs(cost, other[0]):
        other = []
    shares = _shares(cost, [*usual, *other])
    best = min(shares[layout] for layout in usual)
    saving = [layout for layout in other if shares[layout] < 0.98 * best]
    if saving:
        usual, best = other, min(shares[layout] for layout in saving)
    return next(layout for layout in usual if shares[layout] <= 1.05 * best)


_TURNS = 7
# Half the width of the noise on the images that costs are measured with, in pixel units of [0, 1].
_CHANGE = 0.1


def _explore(cost: Callable[[int], float], device: torch.device) -> dict[int, float]:
    """Seconds per image at batches that double until they bring nothing."""
    # On one thread nothing is gained by more than a cache holds, and a large batch wastes more.
    largest = 4096 if device.type == "cuda" else 128 if torch.get_num_threads() == 1 else 512
    costs: dict[int, float] = {}
    batch, misses = (1 if device.type == "cpu" else 16), 0
    while batch <= largest and misses < 3:
        try:
            took = cost(batch)
        except torch.OutOfMemoryError:
            break
        misses = misses + 1 if costs and took > 0.97 * min(costs.values()) else 0
        costs[batch] = took
        if took * batch > 0.5:
            break
        batch *= 2
    if not costs:
        raise BlindspotsError(
            "the device has too little memory for one image of this model: use a smaller batch or another device"
        )
    return costs


def _runs(cost: Callable[[Layout], float], layout: Layout) -> bool:
    try:
        cost(layout)
    except (RuntimeError, ValueError, TypeError, AssertionError):
        return False
    return True


def _shares(cost: Callable[[Layout], float], layouts: list[Layout]) -> dict[Layout, float]:
    """The cost of each layout as a multiple of the lowest of its turn: the median over the turns.

    Those that are clearly dearer leave after two turns.
    """
    if len(layouts) == 1:
        return {layouts[0]: 1.0}
    turns: list[dict[Layout, float]] = []

    def shares() -> dict[Layout, float]:
        return {layout: median(turn.get(layout, float("inf")) for turn in turns) for layout in layouts}

    going = layouts
    for number in range(_TURNS):
        turn = {layout: cost(layout) for layout in going}
        turns.append({layout: took / min(turn.values()) for layout, took in turn.items()})
        if number == 1:
            found = shares()
            going = [layout for layout in going if found[layout] <= 1.12] or going
    return shares()


def _cost(
    forward: Callable[[Tensor, bool], Tensor], example: Tensor, batch: int, channels_last: bool, device: torch.device
) -> float:
    """Seconds per image of a forward and a backward; the fastest of a few runs, the first left out."""
    # Some modules take their time by the values (max pooling does): images as an attack makes them, not the clean one.
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, *example.shape[1:], generator=generator).to(example)
    images = (example + _CHANGE * (2 * images - 1)).clamp(0, 1)
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
