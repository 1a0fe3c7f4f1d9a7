"""A part of the data that looks like the whole: `limit` images, stratified by class, chosen by `seed`.

Wanted at once: every class keeps its share, and a bigger limit contains the smaller. Rounding shares by largest
remainder does not nest (a class can lose an image when the limit grows: the Alabama paradox), so classes take
turns instead. The j-th image of a class with n of N images is due in the window of turns
(floor((j - 1) N / n), ceil(j N / n)], and each turn goes to the class whose window closes first.

Guarantees, for every limit L and class with n of N images:
- the class gets more than L n / N - 1 and fewer than L n / N + 1 images (exactly L n / N where that is whole);
- the images for limit L are among those for limit L + 1 with the same seed;
- the choice is a function of (labels, limit, seed) alone, not of the machine.

Source: the windows of proportionate progress (Baruah, Cohen, Plaxton and Varvel 1996), where a schedule that
meets them all is shown to exist; earliest deadline first then finds one, since each turn is one unit long.
"""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .draws import draw


def stratified(labels: NDArray[Any], limit: int, seed: int) -> NDArray[np.int64]:
    """Positions of `limit` images, ascending: each class keeps its share to within one image.

    Args:
        labels: (N,) class numbers, at least 0.
        limit: how many images; N or more gives all.
        seed: which of the images of a class, and which classes go first where turns tie.

    >>> stratified(np.array([0, 0, 0, 0, 1, 1]), 3, seed=0).size
    3
    """
    total = len(labels)
    if limit >= total:
        return np.arange(total, dtype=np.int64)
    counts = np.bincount(labels)
    quota = _turns(counts.tolist(), limit, seed)
    order = np.lexsort((draw(seed, np.arange(total)), labels))
    starts = np.cumsum(counts) - counts
    rank = np.arange(total) - np.repeat(starts, counts)
    return np.sort(order[rank < np.repeat(quota, counts)]).astype(np.int64)


def _turns(counts: list[int], limit: int, seed: int) -> NDArray[np.int64]:
    """How many images each class gets in the first `limit` turns."""
    total = sum(counts)
    ties = draw(seed, -1, np.arange(len(counts))).tolist()
    taken = [0] * len(counts)
    # (first turn in which the next image of the class may go, class); all classes with images start at turn 0.
    waiting = [(0, number) for number, count in enumerate(counts) if count]
    ready: list[tuple[int, int, int]] = []
    for turn in range(limit):
        while waiting and waiting[0][0] <= turn:
            _, number = heapq.heappop(waiting)
            due = -(-(taken[number] + 1) * total // counts[number])
            heapq.heappush(ready, (due, ties[number], number))
        _, _, number = heapq.heappop(ready)
        taken[number] += 1
        if taken[number] < counts[number]:
            heapq.heappush(waiting, (taken[number] * total // counts[number], number))
    return np.array(taken, dtype=np.int64)
