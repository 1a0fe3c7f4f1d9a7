"""How minimum-norm searches end: what they found is brought to the nearest point of the boundary.

`tighten` goes along the boundary, taken for flat; `polish` goes along the line to the image; `thin` takes back one
changed value after another.
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
    theta = _successes(oracle) if rounds else None
    if theta is None:
        return

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
    found = _successes(oracle) if rounds and record.clean_logits is not None else None
    if found is None:
        return
    assert record.logits is not None
    assert record.clean_logits is not None
    rows, goal = oracle.rows, oracle.goal
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


def thin(oracle: Oracle, rounds: int) -> None:
    """Set one changed value of every success back to that of the image, and leave it so where the goal is still
    reached; in each round the smallest change that was not tried yet. A round is a forward.
    """
    found = _successes(oracle) if rounds else None
    if found is None:
        return
    change = (found - oracle.images).flatten(1).abs()
    order = torch.where(change > 0, change, float("inf")).argsort(1)[:, :rounds]
    for number in range(order.shape[1]):
        place = order[:, number : number + 1]
        oracle.rest(change.gather(1, place).squeeze(1) == 0)
        going = oracle.compact()
        if going is not None:
            if not len(going):
                return
            found, change, order, place = found[going], change[going], order[going], place[going]
        images = oracle.images.flatten(1)
        tried = found.flatten(1).scatter(1, place, images.gather(1, place)).view_as(found)
        reached = oracle.goal.reached(oracle.query(tried, gradient=False).logits)
        found = torch.where(per_row(reached, found), tried, found)


def _successes(oracle: Oracle) -> Tensor | None:
    """Brings back every image that has a success, and gives these; the others rest. None where there are none."""
    record = oracle.record
    if record.logits is None or not oracle.revive():
        return None
    found = record.theta[oracle.rows]
    oracle.rest(~record.success[oracle.rows])
    going = oracle.compact()
    if going is None:
        return found
    return found[going] if len(going) else None
