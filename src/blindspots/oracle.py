"""The oracle: the only road from an attack to the model.

It evaluates a query theta for the live rows (images) of a population in full, fixed-shape model batches and judges
every queried point; its ledger keeps the best one per image by a rule, counts model calls and holds budgets.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from . import noise
from .batching import chunks, padded
from .calls import Ask, Calls, Change, Live
from .candidates import affordable, ask_points
from .errors import BlindspotsError
from .geometry import NORMS
from .judging import Judge
from .lazy import torch
from .ledger import Ledger
from .objectives import Point
from .optimisers.optimiser import per_row
from .population import Population
from .record import KNOWLEDGE, Answer, Budget, Knowledge, Record, Rule

if TYPE_CHECKING:
    from torch import Tensor

    from .classifiers import Classifier
    from .geometry import Norm
    from .goal import Goal
    from .objectives import Objective
    from .spaces import Space


class Oracle(Population):
    """Answers an attack's queries for a population of images.

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
        limits: forwards and backwards (N, 2) allowed for each image, where they differ; beside the budget.
        spent: forwards per image that were made before the search.
        traced: record loss, size and gradient size of every query.
        knowledge: what may be asked: `gradients`, `scores` (losses and logits) or `decisions` (is the goal reached?).
        starts: a point (N, C, H, W) for each image, where an attack that needs one may begin.
        known: logits (N, K) of the unchanged images in full precision, where they are known already.
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
        limits: Tensor | None = None,
        spent: int = 0,
        traced: bool = False,
        knowledge: Knowledge = "gradients",
        starts: Tensor | None = None,
        known: Tensor | None = None,
    ) -> None:
        self._classifier, self._keep, self._traced = classifier, keep, traced
        self._knowledge, self._starts, self._known = knowledge, starts, known
        self.objective = objective
        self._calls = Calls(classifier, images)
        reduced = classifier.amp is not None
        # A success in reduced precision is checked by a second forward.
        price = 2 if reduced else 1
        ledger = Ledger(space.zero(), images.dtype, keep, budget or Budget(), limits, price, spent)
        self._judge = Judge(self._calls, ledger, reduced, keep == "smallest")
        everyone = Live(images, goal, space, keys, torch.arange(len(images), device=images.device))
        super().__init__(everyone, ledger, self._calls.shapes)

    @property
    def starts(self) -> Tensor | None:
        """The points (R, C, H, W) given to begin from, of the live rows."""
        return None if self._starts is None else self._starts[self.rows]

    @property
    def record(self) -> Record:
        """The best points so far, with their losses and logits: closed to a search that may know decisions alone."""
        self._allow("scores")
        return self._ledger.record

    @property
    def success(self) -> Tensor:
        """Which images (N,) have reached the goal so far."""
        return self._ledger.record.success

    def keys(self, restart: int = 0, draw: int = 0) -> Tensor:
        """Noise keys (R,) of the live rows for one restart and one draw."""
        return noise.key(restart, self._live.keys, draw)

    def rivals(self) -> Tensor:
        """The other classes (N, K - 1) of each image, the likeliest without attack first; (N, 1), the target, if there
        is one. To be asked for once the unchanged images are judged.
        """
        goal, clean = self._all.goal, self.record.clean_logits
        if goal.targets is not None:
            return goal.targets.unsqueeze(1)
        assert clean is not None
        return goal.rivals(clean, clean.shape[1] - 1)

    def judge_clean(self) -> None:
        """Judge the unchanged images: those that reach the goal as they are need no attack.

        Where their logits are known this costs nothing.
        """
        if self._known is None:
            self._query(self.space.zero(), Ask(backwards=0), True)
            return
        theta, live = self.space.zero(), self._live
        images = self.space.apply(theta, slice(None))
        loss = self.objective(Point(self._known, live.goal, images, live.images, theta, live.rows))
        self._judge.judge(live, theta, loss.to(live.images.dtype), self._known, self.active)
        self._ledger.close(self.rows, 0)

    def query(self, theta: Tensor, gradient: bool = True, judged: bool = True, through: Change | None = None) -> Answer:
        """Evaluate theta (R, ...) of the live rows, judge it, and answer with loss, gradient and logits.

        Rows that are settled, or whose budget is spent, are charged and judged no more. A gradient is zero where it was
        not finite, where there is none, and may be where the row was settled by this very query.

        Args:
            theta: where to ask.
            gradient: is the gradient asked for?
            judged: false for points that only guide the search: they are charged, and never kept.
            through: a differentiable change of the images before the model sees them, for points that are not judged.
        """
        self._allow("gradients" if gradient else "scores")
        return self._query(theta, Ask(int(gradient), through=through), judged)

    def nearest(self, theta: Tensor, norm: Norm, rivals: int | Tensor) -> Answer:
        """Evaluate and judge like `query`; gap and gradient are those of the nearest boundary to a rival class.

        Of the `rivals` likeliest classes j other than the label, that of least |gap_j| / ||grad gap_j|| in the dual
        norm, with gap_j = z_y - z_j; one forward and a backward for each. Towards a target only the likeliest other
        class bars the way: gap = max_{j != t} z_j - z_t, and one backward. Classes (R, k) may be given instead.
        """
        self._allow("gradients")
        dual = NORMS[norm.dual]
        if not isinstance(rivals, int):
            return self._query(theta, Ask(rivals.shape[1], dual, rivals), True)
        others = self._classifier.count(self.images) - 1
        return self._query(theta, Ask(1 if self.goal.targeted else min(rivals, others), dual), True)

    def scores(self, theta: Tensor, wanted: Tensor | None = None) -> Tensor:
        """The objective (R, n) at n points of each live row, theta (R, n, ...); infinite where it was not asked.

        The points may lie outside the set: those cost and are answered, but are neither kept nor a success. `wanted`
        (R, n) bool says which to ask; of these, the first that the row's budget pays for are asked. Every point
        is counted. What waits for the device here is the number of points asked, which need no padding then.
        """
        self._allow("scores")
        return self._several(theta, wanted)[0]

    @property
    def room(self) -> int:
        """How many points of each live row the model batches hold that one point of each would take anyway.

        It is 1 while queries are traced, which are to be told apart.
        """
        count = max(1, len(self.rows))
        return 1 if self._traced else padded(count, self._calls.shapes) // count

    def turns(self, theta: Tensor, below: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """The objective (R, n) as if each point of theta (R, n, ...) were a step, asked after the one before.

        A row is asked up to its first point that is below `below` (R,) or reaches the goal. What lies behind it only
        fills the room of a model batch, so n may be no more than `room`: it is not answered, counted or judged.
        `wanted` is as in `scores`. The second answer (R, n) says which points were asked.
        """
        self._allow("scores")
        assert theta.shape[1] <= self.room
        loss, _, asked = self._several(theta, wanted, below)
        self._ledger.record.steps[self.rows] += asked.sum(1)
        return loss, asked

    def decisions(self, theta: Tensor, wanted: Tensor | None = None) -> Tensor:
        """Is the goal reached, (R, n) bool, at n points of each live row? False where not asked; else as `scores`."""
        return self._several(theta, wanted)[1]

    def unstarted(self, rows: Tensor) -> None:
        """Give up on live rows, (R,) bool, for which no point to begin from was found."""
        self._ledger.record.unstarted[self.rows] |= rows
        self._ledger.settled[self.rows] |= rows

    def pursue(self, objective: Objective) -> None:
        """Go on towards another objective, without a model call.

        What was kept so far is valued by it anew; for an image that has not reached the goal, the unchanged image takes
        its place where that is better.
        """
        self.objective = objective
        record, everyone, zero = self._ledger.record, self._all, self._all.space.zero()
        if record.logits is None or record.clean_logits is None:
            return

        def value(theta: Tensor, logits: Tensor) -> Tensor:
            images = everyone.space.apply(theta, slice(None))
            loss = objective(Point(logits, everyone.goal, images, everyone.images, theta, everyone.rows))
            return loss.to(everyone.images.dtype)

        record.loss, unchanged = value(record.theta, record.logits), value(zero, record.clean_logits)
        better = ~record.success & (unchanged < record.loss)
        record.loss = torch.where(better, unchanged, record.loss)
        record.theta = torch.where(per_row(better, zero), zero, record.theta)
        record.logits = torch.where(better.unsqueeze(1), record.clean_logits, record.logits)

    def close(self) -> Record:
        """End the search: the record is open to the report."""
        self._knowledge = "gradients"
        return self._ledger.record

    def verify(self, within: Tensor) -> None:
        """Re-derive every success from the kept theta, of which `within` (N,) respect box and radius; see `Judge`."""
        self._judge.verify(self._all, within)

    def _allow(self, asked: Knowledge) -> None:
        if KNOWLEDGE.index(asked) < KNOWLEDGE.index(self._knowledge):
            raise BlindspotsError(
                f"an attack that declares knowledge = '{self._knowledge}' asked for {asked}: let it ask for no more "
                "than it declares"
            )

    def _query(self, theta: Tensor, ask: Ask, judged: bool) -> Answer:
        ledger, live, rows = self._ledger, self._live, self.rows
        record, active = ledger.record, self.active
        # The unchanged images are judged in full precision: a clean mistake must not be one of bfloat16.
        ask = ask if ledger.begun else replace(ask, exact=True)
        going = active & ~ledger.last(rows, active, ask.backwards)
        leaves = judged and self._classifier.amp is None and ledger.ends_at_goal

        def wanted(logits: Tensor, goal: Goal, part: slice) -> bool:
            """Does any row of the batch go on after this query?"""
            if leaves:
                return bool((going[part] & ~self._judge.reached(goal, logits)).any())
            return (judged and not ledger.limited) or bool(going[part].any())

        parts: list[tuple[Tensor, ...]] = []
        for chunk in chunks(len(rows), self._calls.shapes):
            if judged or record.logits is None or bool(active[chunk.rows].any()):
                values = self._calls.ask(live, self.objective, theta, chunk, ask, wanted)
            else:
                # Several queries may follow one another without a `compact` that drops the rows settled by the first.
                at = rows[chunk.rows]
                values = (record.loss[at], record.logits[at], torch.zeros_like(theta[chunk.rows]), record.loss[at])
            parts.append(tuple(value[chunk.valid] for value in values[: 4 if ask.backwards else 2]))
        loss, logits, *found = (torch.cat(pieces) for pieces in zip(*parts, strict=True))
        loss = loss.to(self.images.dtype)
        slope, gap = found if found else (None, loss)
        record.forwards[rows] += active
        finite = torch.isfinite(loss)
        record.bad_gradients[rows] += active & ~finite
        if judged:
            self._judge.judge(live, theta, loss, logits, active)
        ledger.close(rows, ask.backwards)
        if slope is None and not self._traced:
            return Answer(loss, slope, logits, gap)
        needed = active & self.active
        if slope is not None:
            record.backwards[rows] += needed * ask.backwards
            ledger.inspect(rows, slope, needed, finite)
        if self._traced:
            ledger.trace(rows, loss, self.space.size(theta), slope, active, needed)
        return Answer(loss, slope, logits, gap)

    def _several(
        self, theta: Tensor, wanted: Tensor | None, below: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Objective, decision and what was asked (R, n) at n points of each live row; its best point is judged."""
        ledger, rows = self._ledger, self.rows
        asked = self.active.unsqueeze(1).expand(theta.shape[:2])
        if wanted is not None:
            asked = asked & wanted
        left = ledger.left(rows)
        if left is not None:
            asked = affordable(asked, left)
        found = ask_points(self._calls, self._live, self.objective, self._keep, theta, asked, below)
        if found is None:
            nothing = torch.full(asked.shape, float("inf"), dtype=self.images.dtype, device=theta.device)
            return nothing, torch.zeros_like(asked), asked
        ledger.record.forwards[rows] += found.asked.sum(1)
        self._judge.judge(self._live, found.theta, found.best_loss, found.best_logits, found.judged)
        ledger.close(rows, 0)
        if self._traced:
            size = self.space.size(found.theta)
            ledger.trace(rows, found.best_loss, size, None, found.judged, found.judged)
        return found.loss, found.reached, found.asked
