"""Several points of each image in one query: which of them are asked, and which one stands for the image.

Tables are (R, n): one row a live image, one column a point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from .calls import Calls, Live
    from .objectives import Objective
    from .record import Rule


@dataclass(frozen=True)
class Asked:
    """Answers to the points of a table, and of each row the point that is to be judged.

    `asked`, `loss` and `reached` are (R, n); `theta` (R, ...), `best_loss` (R,) and `best_logits` (R, K) are those of
    the points to be judged, of the rows `judged` (R,): those with a point in the set.
    """

    asked: Tensor
    loss: Tensor
    reached: Tensor
    theta: Tensor
    best_loss: Tensor
    best_logits: Tensor
    judged: Tensor


def ask_points(
    calls: Calls, live: Live, objective: Objective, keep: Rule, theta: Tensor, asked: Tensor, below: Tensor | None
) -> Asked | None:
    """Ask at those points theta (R, n, ...) that are `asked`, (R, n) bool; None where that is none.

    With `below` (R,) each row is asked in turn, up to a loss below it or a success; what lies behind counts as not
    asked.
    """
    shape = theta.shape[:2]
    place = asked.flatten().nonzero().squeeze(1)
    if not len(place):
        return None
    row, points = place // shape[1], theta.flatten(0, 1)[place]
    loss, logits, inside = calls.points(live, objective, row, points)
    reached = _table(live.goal.take(row).reached(logits), place, shape, False)
    candidate = _table(inside, place, shape, False)
    loss = _table(loss, place, shape, float("inf"))
    if below is not None:
        end = reached | (asked & (loss < below.unsqueeze(1)))
        asked = asked & (end.cumsum(1) - end.long() == 0)
        reached, candidate = reached & asked, candidate & asked
        loss = torch.where(asked, loss, float("inf"))
    finite = loss.nan_to_num(nan=float("inf"))
    size = None
    if keep == "smallest":
        size = _table(live.space.narrow(row).size(points), place, shape, float("inf"))
    column = _best(keep, reached & candidate, torch.where(candidate, finite, float("inf")), size).unsqueeze(1)
    at = _table(torch.arange(len(place), device=place.device), place, shape, 0).gather(1, column).squeeze(1)
    judged = candidate.gather(1, column).squeeze(1)
    return Asked(asked, loss, reached, points[at], loss.gather(1, column).squeeze(1), logits[at], judged)


def affordable(asked: Tensor, left: Tensor) -> Tensor:
    """The first of the points asked, (R, n) bool, as many in each row as it has queries left, (R,)."""
    return asked & (asked.cumsum(1) <= left.unsqueeze(1))


def _table(values: Tensor, place: Tensor, shape: tuple[int, ...], empty: float | bool) -> Tensor:
    """Values (A,) of the points at these places of the flattened table; the rest is `empty`."""
    full = torch.full(shape, empty, dtype=values.dtype, device=values.device)
    full.view(-1)[place] = values
    return full


def _best(keep: Rule, success: Tensor, loss: Tensor, size: Tensor | None) -> Tensor:
    """The column (R,) of the point to be judged: the best success by the rule, or else the lowest loss.

    `loss` is infinite where a point is no candidate. Of equals the first is taken.
    """
    if size is not None:
        value = size
    elif keep == "lowest":
        value = loss
    else:
        value = torch.arange(loss.shape[1], dtype=loss.dtype, device=loss.device).expand_as(loss)
    among = torch.where(success, value, float("inf")).argmin(1)
    return torch.where(success.any(1), among, loss.argmin(1))
