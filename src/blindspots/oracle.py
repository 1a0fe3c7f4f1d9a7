"""The oracle: the only road from an attack to the model.

It evaluates a query theta for the live rows (images) of a population in full, fixed-shape model batches, judges every
queried point, keeps the best one per image by a rule, counts forwards and backwards per image and holds budgets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import noise
from .batching import chunks, fill
from .lazy import torch
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
        count, device = len(images), images.device
        self._classifier, self._keep, self._traced = classifier, keep, traced
        self._batch = classifier.size(images)
        self._budget = budget or Budget()
        self._all = (images, goal, space, keys)
        self.images, self.goal, self.space, self._keys = self._all
        self.objective = objective
        self.rows = torch.arange(count, device=device)
        self._settled = torch.zeros(count, dtype=torch.bool, device=device)
        self._resting, self._rest = torch.zeros_like(self._settled), False
        self._ended = torch.zeros_like(self._settled)
        self._margin = torch.zeros(count, dtype=images.dtype, device=device)
        # A success in reduced precision is checked by a second forward.
        self._price = 1 if classifier.amp is None else 2
        self._pace = 1 if device.type == "cpu" else 4
        self._queries = 0

        def zeros() -> Tensor:
            return torch.zeros(count, dtype=torch.int64, device=device)

        worst = torch.full((count,), float("inf"), dtype=images.dtype, device=device)
        self.record = Record(
            space.zero(), worst, worst.clone(), torch.zeros_like(self._settled), None, None,
            zeros() + spent, zeros(), zeros(), zeros(), zeros(),
        )  # fmt: skip

    @property
    def active(self) -> Tensor:
        """Which live rows (R,) are neither settled nor resting until the next `revive`."""
        return ~(self._settled | self._resting | self._ended)[self.rows]

    @property
    def resting(self) -> Tensor:
        """Which images (N,) reached the goal since a `revive` that let them rest."""
        return self._resting

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
        record, rows = self.record, self.rows
        active = self.active
        going = active & ~self._last(active, gradient)
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
        self._settled[rows] |= self._last(torch.zeros_like(active), gradient)
        if slope is not None:
            needed = active & self.active
            record.backwards[rows] += needed
            self._inspect(slope, needed, finite)
        if self._traced:
            self._trace(theta, loss, slope, active, active & self.active)
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
        live = live[self._margin[self.rows[live]].argsort(stable=True)]
        self._narrow(live)
        return live

    def revive(self, rest: bool = False) -> bool:
        """Make every row that is not settled live again, for the next run of the search; False when there is none.

        With `rest`, an image that reaches the goal rests until the next `revive`: for runs of which each needs one
        success.
        """
        self._resting.zero_()
        self._ended.zero_()
        self._rest = rest
        live = (~self._settled).nonzero().squeeze(1)
        self.images, self.goal, self.space, self._keys = self._all
        self.rows = torch.arange(len(self._settled), device=live.device)
        self._narrow(live)
        return len(live) > 0

    def settle(self, images: Tensor) -> None:
        """Give up on some of the images, (N,) bool: they are charged and judged no more."""
        self._settled |= images

    def rest(self, rows: Tensor) -> None:
        """Let live rows, (R,) bool, rest until the next `revive`: their search has ended, they cost no more."""
        self._ended[self.rows] |= rows

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
            exact = self.record.logits is None
            logits = self._classifier.forward(fill(images, self._batch), exact)[: len(clean)]
            loss = self.objective(Point(logits, goal, images, clean, leaf, self.rows[rows]))
            slope = None
            if gradient and loss.requires_grad and self._wanted(logits, goal, going):
                slope = torch.autograd.grad(loss, leaf, torch.ones_like(loss), allow_unused=True)[0]
        return loss.detach(), logits.detach(), slope

    def _wanted(self, logits: Tensor, goal: Goal, going: Tensor) -> bool:
        """Does any row of the batch go on after this query?"""
        clean = self.record.logits is None
        if self._classifier.amp is None and (self._keep == "first" or self._rest or clean):
            going = going & ~goal.reached(logits.detach())
        elif self._budget == Budget():
            return True
        return bool(going.any())

    def _judge(self, theta: Tensor, loss: Tensor, logits: Tensor, active: Tensor) -> None:
        """Keep what is better by the rule, and settle or rest the rows that reached the goal with this query."""
        record, rows = self.record, self.rows
        clean = record.logits is None
        if record.logits is None:
            record.logits, record.clean_logits = torch.full_like(logits, float("nan")), logits.clone()
            record.logits[:] = logits
        success = self.goal.reached(logits) & active
        self._margin[rows] = self.goal.margin(logits).to(self._margin.dtype)
        if self._classifier.amp is not None and not clean:
            success = self._confirm(theta, success)
        before, lowest = record.success[rows], record.loss[rows]
        lower = loss < lowest
        if self._keep == "final":
            better = lower
        elif self._keep == "lowest":
            better = (success & ~before) | ((success == before) & lower)
        elif self._keep == "smallest":
            size = self.space.size(theta)
            # Of sizes that differ by rounding alone, as on the sphere of the radius, the first is kept.
            smaller = size < record.size[rows] * (1 - 1e-6)
            better = (success & (~before | smaller)) | (~success & ~before & lower)
            record.size[rows] = torch.where(better & success, size, record.size[rows])
        else:
            better = success | (~before & lower)
        kept = (better & active).nonzero().squeeze(1)
        at = rows[kept]
        record.theta[at], record.loss[at], record.logits[at] = theta[kept], loss[kept], logits[kept]
        record.success[at] = success[kept] if self._keep == "final" else success[kept] | before[kept]
        if self._keep == "first" or clean:
            self._settled[rows] |= success
        elif self._rest:
            self._resting[rows] |= success

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

    def _inspect(self, slope: Tensor, needed: Tensor, finite: Tensor) -> None:
        """Count zero and non-finite gradients where the loss is finite, and replace what is not finite by zero."""
        size = torch.linalg.vector_norm(slope.flatten(1), dim=1)
        if bool(((size > 0) & torch.isfinite(size)).all()):
            return
        # Squares of tiny or huge values vanish or overflow where the values do not.
        peak = slope.flatten(1).abs().amax(1)
        bad = ~torch.isfinite(peak)
        self.record.bad_gradients[self.rows] += bad & needed & finite
        self.record.zero_gradients[self.rows] += (peak == 0) & needed & finite
        torch.nan_to_num(slope, nan=0.0, posinf=0.0, neginf=0.0, out=slope)

    def _last(self, asked: Tensor, gradient: bool) -> Tensor:
        """Which live rows (R,) can afford no query after one forward more where `asked`; one is kept for the
        verification.

        A row without backwards left is judged once more, where its last step has taken it, and settled then.
        """
        record, rows, limit = self.record, self.rows, self._budget
        last = torch.zeros_like(asked)
        if limit.forwards is not None:
            last |= record.forwards[rows] + asked + self._price + 1 > limit.forwards
        if gradient and limit.backwards is not None:
            last |= record.backwards[rows] + 1 > limit.backwards
        return last

    def _trace(self, theta: Tensor, loss: Tensor, slope: Tensor | None, active: Tensor, needed: Tensor) -> None:
        def spread(values: Tensor, asked: Tensor) -> Tensor:
            row = torch.full((len(self._settled),), float("nan"), dtype=values.dtype, device=values.device)
            row[self.rows] = torch.where(asked, values, float("nan"))
            return row

        entry = {"loss": spread(loss, active), "size": spread(self.space.size(theta), active)}
        if slope is not None:
            entry["gradient"] = spread(torch.linalg.vector_norm(slope.flatten(1), dim=1), needed)
        self.record.trace.append(entry)

    def _narrow(self, live: Tensor) -> None:
        self.rows, self.images, self.goal = self.rows[live], self.images[live], self.goal.take(live)
        self.space, self._keys = self.space.narrow(live), self._keys[live]
