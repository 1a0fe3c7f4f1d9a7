"""Judging: which points reach the goal, in full precision and clear of rounding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from .calls import Calls, Live
    from .goal import Goal
    from .ledger import Ledger

# Units of rounding of the largest logit within which a margin is taken for zero.
_CLEAR = 64


class Judge:
    """Tells the ledger which points reach the goal.

    Args:
        calls: asks the model again.
        ledger: is told.
        reduced: a search in reduced precision, whose successes are confirmed in full precision.
        smallest: sizes are compared.
    """

    def __init__(self, calls: Calls, ledger: Ledger, reduced: bool, smallest: bool) -> None:
        self._calls, self._ledger, self._reduced, self._smallest = calls, ledger, reduced, smallest

    def judge(self, live: Live, theta: Tensor, loss: Tensor, logits: Tensor, active: Tensor) -> None:
        """Judge theta (R, ...) of the live rows, those that are `active`."""
        ledger, size = self._ledger, None
        success = self.reached(live.goal, logits) & active
        ledger.margin[live.rows] = live.goal.margin(logits).to(ledger.margin.dtype)
        if self._smallest:
            size = live.space.size(theta)
        if self._reduced and ledger.begun:
            success = self._confirm(live, theta, success)
        ledger.judge(live.rows, active, theta, loss, logits, success, size)

    def reached(self, goal: Goal, logits: Tensor) -> Tensor:
        """Which logits (R, K) are a success (R,), but for the precision.

        Of the smallest change, what lies on the boundary but for rounding is none: it would not be one in another model
        batch. The search goes on there.
        """
        success = goal.reached(logits)
        if self._smallest and self._ledger.begun:
            success &= goal.margin(logits) < -rounding(logits)
        return success

    def verify(self, everyone: Live, within: Tensor) -> None:
        """Re-derive every success from the kept theta by a fresh forward in full precision.

        `within` (N,) says which kept points respect box and radius; in place of one that does not, the unchanged image
        is kept. A success that does not hold is taken back. After a search in reduced precision every image is asked
        again, so that its answer is one of full precision.
        """
        record = self._ledger.record
        outside = (~within).nonzero().squeeze(1)
        if len(outside) and record.logits is not None and record.clean_logits is not None:
            record.theta[outside] = everyone.space.zero()[outside]
            record.logits[outside], record.success[outside] = record.clean_logits[outside], False
        asked = torch.ones_like(record.success) if self._reduced else record.success
        found = asked.nonzero().squeeze(1)
        if not len(found):
            return
        fresh = self._calls.exact(everyone.space.narrow(found), record.theta[found])
        record.forwards[found] += 1
        record.success[found] = everyone.goal.take(found).reached(fresh)
        if record.logits is not None:
            record.logits[found] = fresh

    def _confirm(self, live: Live, theta: Tensor, success: Tensor) -> Tensor:
        """Successes of the reduced precision that hold in full precision; each check is a forward."""
        found = success.nonzero().squeeze(1)
        if not len(found):
            return success
        fresh = self._calls.exact(live.space.narrow(found), theta[found])
        self._ledger.record.forwards[live.rows[found]] += 1
        confirmed = torch.zeros_like(success)
        confirmed[found] = live.goal.take(found).reached(fresh)
        return confirmed


def rounding(logits: Tensor) -> Tensor:
    """The margin (R,) up to which another model batch may put logits (R, K) on the other side of the boundary."""
    return _CLEAR * torch.finfo(logits.dtype).eps * logits.abs().amax(1)
