"""How searches for the smallest perturbation end: what they found is brought to the boundary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import torch
from .optimisers.optimiser import per_row

if TYPE_CHECKING:
    from .oracle import Oracle

# Share of a perturbation by which one stays clear of the boundary, so that the rounding of another model batch does not
# undo a success.
CLEAR = 1e-4


def polish(oracle: Oracle, rounds: int) -> None:
    """Pull every success towards its image, along the line between them, to where the margin changes its sign.

    Each round is a forward: the secant of the margin through the nearest known failure and success gives the crossing,
    and a twentieth of the bracket beyond it is tried, on the side of the success. A success stays beyond the crossing
    by `CLEAR` of its size.
    """
    record = oracle.record
    if not rounds or record.logits is None or record.clean_logits is None or not oracle.revive():
        return
    rows, goal = oracle.rows, oracle.goal
    oracle.rest(~record.success[rows])
    found = record.theta[rows]
    low, high = torch.zeros_like(record.loss[rows]), torch.ones_like(record.loss[rows])
    above = goal.margin(record.clean_logits[rows]).to(low.dtype)
    below = goal.margin(record.logits[rows]).to(low.dtype)
    for _ in range(rounds):
        share = (above / (above - below).clamp(min=1e-30)).nan_to_num(0, 0, 0).clamp(0, 1)
        beyond = (high - low) * (1 - share)
        oracle.rest(beyond < 2 * CLEAR)
        tried = torch.minimum(high - beyond + (beyond / 20).clamp(min=CLEAR), high)
        going = oracle.compact()
        if going is not None:
            if not len(going):
                return
            found, low, high, above, below, tried = (t[going] for t in (found, low, high, above, below, tried))
        image = oracle.space.zero()
        answer = oracle.query(image + per_row(tried, found) * (found - image), gradient=False)
        reached = oracle.goal.reached(answer.logits)
        margin = oracle.goal.margin(answer.logits).to(low.dtype)
        low, high = torch.where(reached, low, tried), torch.where(reached, tried, high)
        above, below = torch.where(reached, above, margin), torch.where(reached, margin, below)
