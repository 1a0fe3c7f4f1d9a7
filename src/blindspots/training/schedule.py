"""Learning rate as a function of the step: no state, so a resumed run needs none.

Step 0 is the first; `total` is the number of steps of the whole run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

# One-cycle policy (Smith and Topin 2018, arXiv 1708.07120) with the constants of torch.optim.lr_scheduler.OneCycleLR:
RISE = 0.3  # share of the steps in which the rate rises
START = 25.0  # the first rate is the highest over this
END = 1e4  # the last rate is the first over this


def rate_at(
    schedule: str,
    step: int,
    total: int,
    peak: float,
    *,
    warmup: int = 0,
    milestones: Sequence[float] = (),
    decay: float = 1.0,
) -> float:
    """Learning rate of one step.

    constant: `peak`. cosine: `peak (1 + cos(pi step / total)) / 2`, from `peak` towards 0 (Loshchilov and Hutter 2017,
    arXiv 1608.03983, one period, no restart). onecycle: along half cosines from `peak / 25` up to `peak` and down to
    `peak / 250000`; reached exactly at the last step. cyclic: a triangle, from 0 in a straight line to `peak` in the
    middle and back to 0 (Smith 2017, arXiv 1506.01186, one cycle, as Wong et al. 2020, arXiv 2001.03994, use it), with
    both zeros just outside the run. steps: `peak`, times `decay` at each of the milestones, shares of the run.

    In the first `warmup` steps this is multiplied by (step + 1) / warmup.

    >>> rate_at("cosine", 50, 100, 0.2)
    0.1
    """
    rate = _rate(schedule, step, total, peak, milestones, decay)
    return rate * (step + 1) / warmup if step < warmup else rate


def _rate(schedule: str, step: int, total: int, peak: float, milestones: Sequence[float], decay: float) -> float:
    if schedule == "constant":
        return peak
    if schedule == "cosine":
        return _between(peak, 0.0, step / total)
    if schedule == "cyclic":
        return peak * (1 - abs(2 * (step + 1) / (total + 1) - 1))
    if schedule == "steps":
        return peak * math.prod(decay for share in milestones if step >= share * total)
    top = max(RISE * total - 1, 0.0)
    if step <= top:
        return _between(peak / START, peak, step / top if top > 0 else 1.0)
    return _between(peak, peak / START / END, (step - top) / max(total - 1 - top, 1.0))


def _between(first: float, last: float, share: float) -> float:
    """Half a cosine from `first` (share 0) to `last` (share 1)."""
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
