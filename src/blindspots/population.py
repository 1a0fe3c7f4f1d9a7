"""The images of a search: which of them it goes on with, and which have been settled or rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .batching import padded

if TYPE_CHECKING:
    from torch import Tensor

    from .calls import Live
    from .goal import Goal
    from .ledger import Ledger
    from .spaces import Space


class Population:
    """N images, of which R rows are live.

    An attack works on the live rows: `rows` (R,) numbers them within the population, and every tensor it holds has R
    rows. After each query it calls `compact`, which drops rows that are settled as soon as that spares the model rows.

    Args:
        everyone: all images.
        ledger: what is known of them.
        shapes: how many rows a model call may have, the usual number first.
    """

    def __init__(self, everyone: Live, ledger: Ledger, shapes: Sequence[int]) -> None:
        self._all, self._live, self._ledger, self._shapes = everyone, everyone, ledger, shapes
        self._pace = 1 if everyone.images.device.type == "cpu" else 4
        self._queries = 0

    @property
    def images(self) -> Tensor:
        """The unchanged images (R, C, H, W) of the live rows."""
        return self._live.images

    @property
    def goal(self) -> Goal:
        """What counts as success, for the live rows."""
        return self._live.goal

    @property
    def space(self) -> Space:
        """What may change, for the live rows."""
        return self._live.space

    @property
    def rows(self) -> Tensor:
        """The numbers (R,) of the live rows within the population."""
        return self._live.rows

    @property
    def active(self) -> Tensor:
        """Which live rows (R,) are neither settled nor resting until the next `revive`."""
        return self._ledger.active(self.rows)

    @property
    def resting(self) -> Tensor:
        """Which images (N,) reached the goal since a `revive` that let them rest."""
        return self._ledger.resting

    def compact(self) -> Tensor | None:
        """Drop settled rows where that spares the model a sixteenth of its rows, or where they are half of them, which
        leaves room for copies in its batches: those that go on (R',), or None.

        The positions are empty when every row is settled. On an accelerator the count is read every few queries only,
        since reading it waits for the device; rows that settled meanwhile are judged no more and change nothing.
        """
        self._queries += 1
        if self._queries % self._pace:
            return None
        live = self.active.nonzero().squeeze(1)
        before = padded(len(self.rows), self._shapes)
        spared = before - padded(len(live), self._shapes)
        if spared < max(1, before / 16) and 2 * len(live) > len(self.rows):
            return None
        # Rows that are nearest to the goal share model batches: one whose rows all reach it needs no backward.
        live = live[self._ledger.margin[self.rows[live]].argsort(stable=True)]
        self._live = self._live.take(live)
        return live

    def revive(self, rest: bool = False, among: Tensor | None = None) -> bool:
        """Make every row that is not settled live again, for the next run of the search; False when there is none.

        With `rest`, an image that reaches the goal rests until the next `revive`: for runs of which each needs one
        success. With `among`, (N,) bool, the other images rest from the beginning.
        """
        self._ledger.wake(rest)
        if among is not None:
            self._ledger.ended |= ~among
        live = self._ledger.active(self._all.rows).nonzero().squeeze(1)
        self._live = self._all.take(live)
        return len(live) > 0

    def settle(self, images: Tensor) -> None:
        """Give up on some of the images, (N,) bool: they are charged and judged no more."""
        self._ledger.settled |= images

    def rest(self, rows: Tensor) -> None:
        """Let live rows, (R,) bool, rest until the next `revive`: their search has ended, they cost no more."""
        self._ledger.ended[self.rows] |= rows

    def enter(self, space: Space) -> None:
        """Go on in another space of the same theta; it has one row for each live row."""
        self._live = replace(self._live, space=space)

    def step(self) -> None:
        """Count one step of the search for every live row that is not settled."""
        self._ledger.record.steps[self.rows] += self.active
