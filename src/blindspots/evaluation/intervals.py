"""Shares with their 95 % interval: how far a count of n images can be trusted.

Source: Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the
binomial", Biometrika 26 (1934). Exact in the sense that the true share lies inside at least 95 % of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import betainc, betaincinv, stdtrit

LEVEL = 0.95


def clopper_pearson(count: int, of: int, level: float = LEVEL) -> tuple[float, float]:
    """The interval of a share, of which `count` of `of` were seen; `(0, 1)` where nothing was seen.

    The ends are quantiles of Beta(k, n-k+1) and Beta(k+1, n-k); at k = 0 the lower end is 0, at k = n the
    upper end is 1.

    >>> low, high = clopper_pearson(0, 10)
    >>> low, round(high, 4)
    (0.0, 0.3085)
    """
    if not 0 <= count <= of:
        raise ValueError(f"count must lie between 0 and {of}, got {count}")
    tail = (1 - level) / 2
    low = float(betaincinv(count, of - count + 1, tail)) if count > 0 else 0.0
    high = float(betaincinv(count + 1, of - count, 1 - tail)) if count < of else 1.0
    return low, high


def share(count: int, of: int) -> dict[str, Any]:
    """A share as it stands in the summary: count, of, value (None when `of` is 0), low, high."""
    low, high = clopper_pearson(count, of)
    return {"count": int(count), "of": int(of), "value": count / of if of else None, "low": low, "high": high}


def at_least(count: int, of: int, chance: float) -> float:
    """Probability of `count` or more hits in `of` throws that each hit with probability `chance`.

    >>> round(at_least(10, 10, 0.5), 6)
    0.000977
    """
    return 1.0 if count <= 0 else float(betainc(count, of - count + 1, chance))


def mean(values: Sequence[float], level: float = LEVEL) -> dict[str, Any]:
    """The mean of independent values with Student's interval: count, value, low, high; None where it has none.

    Exact for normal values, and close for a few dozen of any bounded kind.
    Source: "Student", "The probable error of a mean", Biometrika 6 (1908).

    >>> {name: round(end, 4) for name, end in mean([1.0, 2.0, 3.0]).items()}
    {'count': 3, 'value': 2.0, 'low': -0.4841, 'high': 4.4841}
    """
    count = len(values)
    middle = float(np.mean(values)) if count else None
    if middle is None or count < 2:
        return {"count": count, "value": middle, "low": None, "high": None}
    half = float(stdtrit(count - 1, (1 + level) / 2)) * float(np.std(values, ddof=1)) / count**0.5
    return {"count": count, "value": middle, "low": middle - half, "high": middle + half}
