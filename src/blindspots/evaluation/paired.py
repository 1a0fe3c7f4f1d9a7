"""Two shares of the same images: their difference, how far it can be trusted, and what chance makes of equals.

The images that both got right, or both wrong, say nothing of which is better; all evidence lies in the two counts of
images on which they differ.

Sources: McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
Psychometrika 12 (1947), in its exact form; Efron, "Bootstrap methods: another look at the jackknife", Annals of
Statistics 7 (1979), the percentile interval; Holm, "A simple sequentially rejective multiple test procedure",
Scandinavian Journal of Statistics 6 (1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len

from .intervals import LEVEL, at_least, share

# Weight of the rounding of a Fourier transform: a tail within it of the level counts as reaching it.
_ROUNDING = 1e-9


def mcnemar(only_first: int, only_second: int) -> float:
    """Probability of counts at least as unequal as these, if an image on which two differ favours either alike.

    Two-sided and exact: twice the tail of Binomial(n, 1/2) with n images that differ, at most 1.

    >>> mcnemar(9, 1), mcnemar(0, 0)
    (0.021484375, 1.0)
    """
    return min(1.0, 2 * at_least(max(only_first, only_second), only_first + only_second, 0.5))


def bootstrap(only_first: int, only_second: int, of: int, level: float = LEVEL) -> tuple[float, float]:
    """The paired percentile bootstrap interval of (only_first - only_second) / of, as of infinitely many draws.

    A draw takes `of` images with replacement, each with both verdicts. An image adds 1, 0 or -1 to the difference of
    the counts, so that this has the distribution with the generating function

        (p_- / z + p_0 + p_+ z)^of,    p_+ = only_first / of,    p_- = only_second / of,

    whose probabilities one Fourier transform gives: there is nothing to draw, no seed, and no error of drawing.

    Where no two verdicts differ the interval is the point 0, see `difference` for what is still possible then.

    >>> bootstrap(0, 0, 50)
    (0.0, 0.0)
    """
    if not 0 <= only_first + only_second <= of or min(only_first, only_second) < 0:
        raise ValueError(f"counts must be whole numbers of together at most {of}, got {only_first} and {only_second}")
    size = next_fast_len(2 * of + 1, real=True)
    turn = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    same = of - only_first - only_second
    spectrum = ((only_first * turn + same + only_second * turn.conj()) / of) ** of
    # Place d of the transform is the difference d, negative ones counted from the end.
    chance = np.roll(irfft(spectrum, size), of)[: 2 * of + 1]
    tail = (1 - level) / 2 - _ROUNDING
    low = int(np.argmax(np.cumsum(chance) >= tail))
    high = int(2 * of - np.argmax(np.cumsum(chance[::-1]) >= tail))
    return (low - of) / of, (high - of) / of


def difference(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> dict[str, Any]:
    """Two verdicts (N,) on the same images, as a comparison holds them.

    Returns `first` and `second` (shares), `difference` (first less second) with `low` and `high` of `bootstrap`,
    `only_first` and `only_second` (images that are right for one alone), `differ` (their share, which no difference can
    exceed: its upper end says what is possible also where no image differs), and `p` of `mcnemar`.
    """
    of = len(first)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    low, high = bootstrap(only_first, only_second, of)
    return {
        "first": share(int(first.sum()), of),
        "second": share(int(second.sum()), of),
        "difference": (only_first - only_second) / of,
        "low": low,
        "high": high,
        "only_first": only_first,
        "only_second": only_second,
        "differ": share(only_first + only_second, of),
        "p": mcnemar(only_first, only_second),
    }


def holm(p: Sequence[float]) -> list[float]:
    """The p of each of several tests, raised such that the chance of any false alarm among all is kept.

    The k-th smallest of n is multiplied by n - k + 1, and none is below a smaller one's.

    >>> holm([0.02, 0.01, 0.5])
    [0.04, 0.03, 0.5]
    """
    raised, least = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        least = max(least, min(1.0, (len(p) - rank) * p[place]))
        raised[place] = least
    return raised
