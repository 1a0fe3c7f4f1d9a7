"""The ledger: what an oracle knows of every image of a population, what that has cost, and which go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import torch
from .record import Budget, Record, Rule

if TYPE_CHECKING:
    from torch import Tensor


class Ledger:
    """The record of N images, kept by a rule and within budgets; `rows` (R,) are the images that a call is about.

    Args:
        theta: the point (N, ...) of the unchanged images.
        dtype: of losses and sizes.
        rule: see `Oracle`.
        budget: model calls per image.
        limits: forwards and backwards (N, 2) of each image, where they differ; beside the budget.
        price: forwards that a query may cost: two where its success is checked by another.
        spent: forwards per image that were made before.
    """

    def __init__(
        self,
        theta: Tensor,
        dtype: torch.dtype,
        rule: Rule,
        budget: Budget,
        limits: Tensor | None,
        price: int,
        spent: int,
    ) -> None:
        count, device = len(theta), theta.device
        self._rule, self._budget, self._limits, self._price = rule, budget, limits, price
        self.settled = torch.zeros(count, dtype=torch.bool, device=device)
        self.resting, self.ended = torch.zeros_like(self.settled), torch.zeros_like(self.settled)
        self.margin = torch.zeros(count, dtype=dtype, device=device)
        # Does an image that reaches the goal rest until the next run?
        self.rest = False

        def zeros() -> Tensor:
            return torch.zeros(count, dtype=torch.int64, device=device)

        worst = torch.full((count,), float("inf"), dtype=dtype, device=device)
        self.record = Record(
            theta, worst, worst.clone(), torch.zeros_like(self.settled), None, None,
            zeros() + spent, zeros(), zeros(), zeros(), zeros(), torch.zeros_like(self.settled),
        )  # fmt: skip

    @property
    def begun(self) -> bool:
        """Are the unchanged images judged?"""
        return self.record.logits is not None

    @property
    def ends_at_goal(self) -> bool:
        """Does an image that reaches the goal leave, for good or for this run?"""
        return self._rule == "first" or self.rest or not self.begun

    @property
    def limited(self) -> bool:
        """May an image leave because its budget is spent?"""
        return self._limits is not None or self._budget != Budget()

    def active(self, rows: Tensor) -> Tensor:
        """Which of the rows (R,) are neither settled nor resting until the next run."""
        return ~(self.settled | self.resting | self.ended)[rows]

    def wake(self, rest: bool) -> None:
        """Begin another run with every image that is not settled."""
        self.resting.zero_()
        self.ended.zero_()
        self.rest = rest

    def judge(
        self,
        rows: Tensor,
        active: Tensor,
        theta: Tensor,
        loss: Tensor,
        logits: Tensor,
        success: Tensor,
        size: Tensor | None,
    ) -> None:
        """Keep what is better by the rule, and settle or rest the rows that reached the goal."""
        record, clean = self.record, not self.begun
        if record.logits is None:
            # The first query is about every image as it is.
            record.logits, record.clean_logits = logits.clone(), logits.clone()
        before, lowest = record.success[rows], record.loss[rows]
        lower = loss < lowest
        if self._rule == "final":
            better = lower
        elif self._rule == "lowest":
            better = (success & ~before) | ((success == before) & lower)
        elif size is not None:
            # Of sizes that differ by rounding alone, as on the sphere of the radius, the first is kept.
            smaller = size < record.size[rows] * (1 - 1e-6)
            better = (success & (~before | smaller)) | (~success & ~before & lower)
            record.size[rows] = torch.where(better & success, size, record.size[rows])
        else:
            better = success | (~before & lower)
        kept = (better & active).nonzero().squeeze(1)
        at = rows[kept]
        record.theta[at], record.loss[at], record.logits[at] = theta[kept], loss[kept], logits[kept]
        record.success[at] = success[kept] if self._rule == "final" else success[kept] | before[kept]
        if self._rule == "first" or clean:
            self.settled[rows] |= success
        elif self.rest:
            self.resting[rows] |= success

    def last(self, rows: Tensor, asked: Tensor, backwards: int) -> Tensor:
        """Which rows (R,) can afford no query after one forward more where `asked`; one is kept for the verification.

        A row without backwards left is judged once more, where its last step has taken it, and settled then.
        """
        record, limit = self.record, self._budget
        last = torch.zeros_like(asked)
        if not self.limited:
            return last
        forwards, back = record.forwards[rows] + asked + self._price + 1, record.backwards[rows] + backwards
        if limit.forwards is not None:
            last |= forwards > limit.forwards
        if backwards and limit.backwards is not None:
            last |= back > limit.backwards
        if self._limits is not None:
            own = self._limits[rows]
            last |= forwards > own[:, 0]
            if backwards:
                last |= back > own[:, 1]
        return last

    def left(self, rows: Tensor) -> Tensor | None:
        """How many points (R,) of each row can still be asked and one verified; None for any number."""
        left: Tensor | None = None
        if self._budget.forwards is not None:
            left = torch.full_like(rows, self._budget.forwards)
        if self._limits is not None:
            own = self._limits[rows, 0]
            left = own if left is None else torch.minimum(left, own)
        return None if left is None else (left - 1 - self.record.forwards[rows]) // self._price

    def close(self, rows: Tensor, backwards: int) -> None:
        """Settle the rows that can afford no query more."""
        if self.limited:
            self.settled[rows] |= self.last(rows, torch.zeros_like(rows, dtype=torch.bool), backwards)

    def inspect(self, rows: Tensor, slope: Tensor, needed: Tensor, finite: Tensor) -> None:
        """Count zero and non-finite gradients where the loss is finite, and replace what is not finite by zero."""
        size = torch.linalg.vector_norm(slope.flatten(1), dim=1)
        if bool(((size > 0) & torch.isfinite(size)).all()):
            return
        # Squares of tiny or huge values vanish or overflow where the values do not.
        peak = slope.flatten(1).abs().amax(1)
        bad = ~torch.isfinite(peak)
        self.record.bad_gradients[rows] += bad & needed & finite
        self.record.zero_gradients[rows] += (peak == 0) & needed & finite
        torch.nan_to_num(slope, nan=0.0, posinf=0.0, neginf=0.0, out=slope)

    def trace(
        self, rows: Tensor, loss: Tensor, size: Tensor, slope: Tensor | None, active: Tensor, needed: Tensor
    ) -> None:
        """Write a query down."""

        def spread(values: Tensor, asked: Tensor) -> Tensor:
            row = torch.full((len(self.settled),), float("nan"), dtype=values.dtype, device=values.device)
            row[rows] = torch.where(asked, values, float("nan"))
            return row

        entry = {"loss": spread(loss, active), "size": spread(size, active)}
        if slope is not None:
            entry["gradient"] = spread(torch.linalg.vector_norm(slope.flatten(1), dim=1), needed)
        self.record.trace.append(entry)
