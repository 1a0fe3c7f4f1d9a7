"""How minimum-norm searches end: what they found is brought to the nearest point of the boundary.

`tighten` goes along the boundary, taken for flat; `polish` goes along the line to the image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import halfspace
from .descend import march
from .lazy import torch
from .optimisers.optimiser import per_row
from .spaces import Additive

if TYPE_CHECKING:
    from torch import Tensor

    from .oracle import Oracle
    from .record import Answer

# Share of a perturbation by which one stays clear of the boundary, so that the rounding of another model batch does not
# undo a success.
CLEAR = 1e-4


def tighten(oracle: Oracle, norm: str, rounds: int) -> None:
    """From every success to the nearest point of the boundary, which is taken for flat where it was seen last:

        x_{k+1} = x + argmin ||d||_p  subject to  f(x_k) + <grad f(x_k), x + d - x_k> = 0,  0 <= x + d <= 1,

    `CLEAR` beyond it. Searches that weigh size against success end beside that point in norms that are not smooth, and
    no line to the image leads there. On an affine network one round is exact. A round is a forward and a backward, and
    there is one forward more at the end; the objective must be the margin f.
    """
    record = oracle.record
    if not rounds or record.logits is None or not oracle.revive():
        return
    theta = record.theta[oracle.rows]
    oracle.rest(~record.success[oracle.rows])
    going = oracle.compact()
    if going is not None:
        if not len(going):
            return
        theta = theta[going]

    def move(number: int, theta: Tensor, answer: Answer, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        assert answer.gradient is not None
        space = oracle.space
        assert isinstance(space, Additive)
        slope = space.slope(answer.gradient)
        gap = answer.loss - (slope * space.change(theta)).flatten(1).sum(1)
        return space.place(halfspace.step(norm, slope, gap.clamp(min=0) * (1 + CLEAR), oracle.images)), state

    march(oracle, theta, {}, rounds, move)


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
