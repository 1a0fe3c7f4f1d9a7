"""Which layout of model calls is the cheapest here, and which smaller calls answer the same: by measurement."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from .batching import Layout
from .errors import BlindspotsError
from .lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


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
    if other and not runs(forward, _noisy(example, other[0].batch), True):
        other = []
    shares = _shares(cost, [*usual, *other])
    best = min(shares[layout] for layout in usual)
    saving = [layout for layout in other if shares[layout] < 0.98 * best]
    if saving:
        usual, best = other, min(shares[layout] for layout in saving)
    found = next(layout for layout in usual if shares[layout] <= 1.05 * best)
    return replace(found, smaller=equal_shapes(forward, example, found))


def runs(forward: Callable[[Tensor, bool], Tensor], images: Tensor, channels_last: bool) -> bool:
    """Whether a module can take images in this memory format; one that views its activations may not."""
    try:
        _gradient(forward, images, channels_last)
    except (RuntimeError, ValueError, TypeError, AssertionError):
        return False
    return True


def equal_shapes(forward: Callable[[Tensor, bool], Tensor], example: Tensor, layout: Layout) -> tuple[int, ...]:
    """Smaller numbers of images in a call, the largest first, that give the same answers as the whole batch.

    They are compared bit for bit on images with noise, logits and gradients, from the head and from the tail of a
    batch. How a kernel rounds depends on the shape and not on the values, so what holds for these holds for all.
    """
    images = _noisy(example, layout.batch)
    try:
        whole = _answers(forward, images, layout.channels_last)
        found = []
        for shape in _smaller(layout.batch):
            ends = (slice(0, shape), slice(layout.batch - shape, layout.batch))
            parts = [(rows, _answers(forward, images[rows], layout.channels_last)) for rows in ends]
            if all(torch.equal(a, b[rows]) for rows, part in parts for a, b in zip(part, whole, strict=True)):
                found.append(shape)
    except (RuntimeError, ValueError, TypeError, AssertionError, BlindspotsError):
        return ()
    return tuple(found)


def _smaller(batch: int) -> list[int]:
    """Halves and three quarters of powers of two below the batch, the largest first."""
    powers = [2**k for k in range(batch.bit_length())]
    return sorted((shape for shape in {*powers, *(3 * power for power in powers)} if shape < batch), reverse=True)


def _answers(forward: Callable[[Tensor, bool], Tensor], images: Tensor, channels_last: bool) -> tuple[Tensor, ...]:
    """Logits without and with a gradient, and the gradient."""
    with torch.no_grad():
        alone = forward(images, channels_last)
    logits, slope = _gradient(forward, images, channels_last)
    return (alone, logits) if slope is None else (alone, logits, slope)


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
    images, clock = _noisy(example, batch), _clock(device)
    best, spent, runs = float("inf"), 0.0, 0
    while runs < 2 or (spent < 0.03 and runs < 20):
        started = clock()
        _gradient(forward, images, channels_last)
        took = clock() - started
        runs, spent = runs + 1, spent + took
        if runs > 1:
            best = min(best, took)
    return best / batch


def _noisy(example: Tensor, batch: int) -> Tensor:
    """Images (batch, C, H, W) as an attack makes them: some modules, max pooling say, take their time by the values."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(batch, *example.shape[1:], generator=generator).to(example)
    return (example + _CHANGE * (2 * noise - 1)).clamp(0, 1)


def _gradient(
    forward: Callable[[Tensor, bool], Tensor], images: Tensor, channels_last: bool
) -> tuple[Tensor, Tensor | None]:
    """Logits, and the gradient of a loss as attacks have it, since what a call costs besides the model counts too."""
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        logits = forward(leaf, channels_last)
        loss = torch.nn.functional.softplus(logits.logsumexp(1) - logits[:, 0]).sum()
        slope = torch.autograd.grad(loss, leaf, allow_unused=True)[0] if loss.requires_grad else None
    return logits.detach(), slope


def _clock(device: torch.device) -> Callable[[], float]:
    if device.type == "cuda":

        def synchronised() -> float:
            torch.cuda.synchronize(device)
            return time.perf_counter()

        return synchronised
    # On one thread the time of the thread itself is what counts: the clock on the wall also runs for other programs,
    # and more often during long calls, so that on a busy machine it would make small batches look good.
    return time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
