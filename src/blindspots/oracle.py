"""The oracle: the only road from an attack to the model.

It evaluates a query theta for the live rows (images) of a population in full, fixed-shape model batches and judges
every queried point; its ledger keeps the best one per image by a rule, counts model calls and holds budgets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import noise
from .batching import chunks, fill
from .lazy import torch
from .ledger import Ledger
from .objectives import Point
from .record import Answer, Budget, Record, Rule

if TYPE_CHECKING:
    from torch import Tensor

    from .classifiers import Classifier
    from .goal import Goal
    from .objectives import Objective
    from .spaces import Space


class Oracle:
    """Answers an attack's queries for a population of images.

    An attack works on the live rows: `rows` (R,) numbers them within the population, and every tensor it holds has R
    rows. After each query it calls `compact`, which drops rows that are settled as soon as that saves a model call.

    Args:
        classifier: the model, already inside a `session`.
        images: clean images (N, C, H, W), accepted by the classifier.
        goal: what counts as success, N rows.
        space: what may change, N rows.
        objective: what is minimised.
        keys: noise keys (N,) of (seed, image index, attack).
        keep: `first` settles an image at its first success; `smallest` keeps the success of smallest size; `lowest`
            keeps the lowest objective. These two prefer any success to none. `final` keeps the lowest objective,
            success or not: what a solver returns. Only `first` settles images later than by the first query, which
            settles those that reach the goal unchanged: there is nothing to attack.
        budget: model calls per image.
        spent: forwards per image that were made before the search.
        traced: record loss, size and gradient size of every query.
    """

    def __init__(
        self,
        classifier: Classifier,
        images: Tensor,
        goal: Goal,
        space: Space,
        objective: Objective,
        keys: Tensor,
        *,
        keep: Rule = "first",
        budget: Budget | None = None,
        spent: int = 0,
        traced: bool = False,
    ) -> None:
        self._classifier, self._keep, self._traced = classifier, keep, traced
        self._batch = classifier.size(images)
        self._all = (images, goal, space, keys)
        self.images, self.goal, self.space, self._keys = self._all
        self.objective = objective
        self.rows = torch.arange(len(images), device=images.device)
        # A success in reduced precision is checked by a second forward.
        price = 1 if classifier.amp is None else 2
        self._ledger = Ledger(space.zero(), images.dtype, keep, budget or Budget(), price, spent)
        self._pace = 1 if images.device.type == "cpu" else 4
        self._queries = 0

    @property
    def record(self) -> Record:
        """The best point of every image so far, and what was spent on it."""
        return self._ledger.record

    @property
    def active(self) -> Tensor:
        """Which live rows (R,) are neither settled nor resting until the next `revive`."""
        return self._ledger.active(self.rows)

    @property
    def resting(self) -> Tensor:
        """Which images (N,) reached the goal since a `revive` that let them rest."""
        return self._ledger.resting

    def keys(self, restart: int = 0, draw: int = 0) -> Tensor:
        """Noise keys (R,) of the live rows for one restart and one draw."""
        return noise.key(restart, self._keys, draw)

    def judge_clean(self) -> None:
        """Judge the unchanged images: those that reach the goal as they are need no attack."""
        self.query(self.space.zero(), gradient=False)

    def query(self, theta: Tensor, gradient: bool = True) -> Answer:
        """Evaluate theta (R, ...) of the live rows, judge it, and answer with loss, gradient and logits.

        Rows that are settled, or whose budget is spent, are charged and judged no more. A gradient is zero where it was
        not finite, where there is none, and may be where the row was settled by this very query.
        """
        ledger, rows = self._ledger, self.rows
        record, active = ledger.record, self.active
        going = active & ~ledger.last(rows, active, gradient)
        losses: list[Tensor] = []
        answers: list[Tensor] = []
        slopes: list[Tensor] = []
        for chunk in chunks(len(rows), self._batch):
            part = theta[chunk.rows]
            values, logits, gradients = self._evaluate(part, chunk.rows, going[chunk.rows], gradient)
            losses.append(values[chunk.valid])
            answers.append(logits[chunk.valid])
            if gradient:
                slopes.append((torch.zeros_like(part) if gradients is None else gradients)[chunk.valid])
        loss, logits = torch.cat(losses).to(self.images.dtype), torch.cat(answers)
        slope = torch.cat(slopes) if gradient else None
        record.forwards[rows] += active
        finite = torch.isfinite(loss)
        record.bad_gradients[rows] += active & ~finite
        self._judge(theta, loss, logits, active)
        ledger.close(rows, gradient)
        if slope is None and not self._traced:
            return Answer(loss, slope, logits)
        needed = active & self.active
        if slope is not None:
            record.backwards[rows] += needed
            ledger.inspect(rows, slope, needed, finite)
        if self._traced:
            ledger.trace(rows, loss, self.space.size(theta), slope, active, needed)
        return Answer(loss, slope, logits)

    def compact(self) -> Tensor | None:
        """Drop settled rows where that saves a model call: the positions (R',) that go on, or None to go on as it is.

        The positions are empty when every row is settled. On an accelerator the count is read every few queries only,
        since reading it waits for the device; rows that settled meanwhile are judged no more and change nothing.
        """
        self._queries += 1
        if self._queries % self._pace:
            return None
        live = self.active.nonzero().squeeze(1)
        if len(live) and -(-len(live) // self._batch) == -(-len(self.rows) // self._batch):
            return None
        # Rows that are nearest to the goal share model batches: one whose rows all reach it needs no backward.
        live = live[self._ledger.margin[self.rows[live]].argsort(stable=True)]
        self._narrow(live)
        return live

    def revive(self, rest: bool = False, among: Tensor | None = None) -> bool:
        """Make every row that is not settled live again, for the next run of the search; False when there is none.

        With `rest`, an image that reaches the goal rests until the next `revive`: for runs of which each needs one
        success. With `among`, (N,) bool, the other images rest from the beginning.
        """
        self._ledger.wake(rest)
        if among is not None:
            self._ledger.ended |= ~among
        self.images, self.goal, self.space, self._keys = self._all
        self.rows = torch.arange(len(self.images), device=self.images.device)
        live = self.active.nonzero().squeeze(1)
        self._narrow(live)
        return len(live) > 0

    def settle(self, images: Tensor) -> None:
        """Give up on some of the images, (N,) bool: they are charged and judged no more."""
        self._ledger.settled |= images

    def rest(self, rows: Tensor) -> None:
        """Let live rows, (R,) bool, rest until the next `revive`: their search has ended, they cost no more."""
        self._ledger.ended[self.rows] |= rows

    def enter(self, space: Space) -> None:
        """Go on in another space of the same theta; it has one row for each live row."""
        self.space = space

    def pursue(self, objective: Objective) -> None:
        """Go on towards another objective; what was kept so far is valued by it anew, without a model call."""
        self.objective = objective
        logits, theta = self.record.logits, self.record.theta
        if logits is not None:
            images, goal, space, _ = self._all
            bent = space.apply(theta, slice(None))
            everyone = torch.arange(len(images), device=images.device)
            self.record.loss = objective(Point(logits, goal, bent, images, theta, everyone))

    def step(self) -> None:
        """Count one step of the search for every live row that is not settled."""
        self.record.steps[self.rows] += self.active

    def verify(self, within: Tensor) -> None:
        """Re-derive every success from the kept theta by a fresh forward in full precision.

        `within` (N,) says which kept points respect box and radius. A success that does not hold is taken back. After a
        search in reduced precision every image is asked again, so that its answer is one of full precision.
        """
        record = self.record
        asked = record.success if self._classifier.amp is None else torch.ones_like(record.success)
        found = asked.nonzero().squeeze(1)
        if not len(found):
            return
        _, goal, space, _ = self._all
        fresh = self._exact(space.narrow(found), record.theta[found])
        record.forwards[found] += 1
        record.success[found] = goal.take(found).reached(fresh) & within[found]
        if record.logits is not None:
            record.logits[found] = fresh

    def _evaluate(
        self, theta: Tensor, rows: slice, going: Tensor, gradient: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Objective, logits and gradient of at most one model batch."""
        goal, clean = self.goal.take(rows), self.images[rows]
        with torch.set_grad_enabled(gradient):
            leaf = theta.detach().requires_grad_(gradient)
            images = self.space.apply(leaf, rows)
            # The unchanged images are judged in full precision: a clean mistake must not be one of bfloat16.
            exact = not self._ledger.begun
            logits = self._classifier.forward(fill(images, self._batch), exact)[: len(clean)]
            loss = self.objective(Point(logits, goal, images, clean, leaf, self.rows[rows]))
            slope = None
            if gradient and loss.requires_grad and self._wanted(logits, goal, going):
                slope = torch.autograd.grad(loss, leaf, torch.ones_like(loss), allow_unused=True)[0]
        return loss.detach(), logits.detach(), slope

    def _wanted(self, logits: Tensor, goal: Goal, going: Tensor) -> bool:
        """Does any row of the batch go on after this query?"""
        if self._classifier.amp is None and self._ledger.ends_at_goal:
            going = going & ~goal.reached(logits.detach())
        elif not self._ledger.limited:
            return True
        return bool(going.any())

    def _judge(self, theta: Tensor, loss: Tensor, logits: Tensor, active: Tensor) -> None:
        ledger = self._ledger
        success = self.goal.reached(logits) & active
        ledger.margin[self.rows] = self.goal.margin(logits).to(ledger.margin.dtype)
        if self._classifier.amp is not None and ledger.begun:
            success = self._confirm(theta, success)
        size = self.space.size(theta) if self._keep == "smallest" else None
        ledger.judge(self.rows, active, theta, loss, logits, success, size)

    def _confirm(self, theta: Tensor, success: Tensor) -> Tensor:
        """Successes of the reduced precision that hold in full precision; each check is a forward."""
        found = success.nonzero().squeeze(1)
        if not len(found):
            return success
        fresh = self._exact(self.space.narrow(found), theta[found])
        self.record.forwards[self.rows[found]] += 1
        confirmed = torch.zeros_like(success)
        confirmed[found] = self.goal.take(found).reached(fresh)
        return confirmed

    def _exact(self, space: Space, theta: Tensor) -> Tensor:
        """Logits of theta in full precision."""
        parts = []
        with torch.no_grad():
            for chunk in chunks(len(theta), self._batch):
                images = space.apply(theta[chunk.rows], chunk.rows)
                parts.append(self._classifier.forward(fill(images, self._batch), exact=True)[chunk.valid])
        return torch.cat(parts)

    def _narrow(self, live: Tensor) -> None:
        self.rows, self.images, self.goal = self.rows[live], self.images[live], self.goal.take(live)
        self.space, self._keys = self.space.narrow(live), self._keys[live]
