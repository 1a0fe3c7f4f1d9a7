"""Random numbers that are a function of whole numbers, the same on every machine and in every version.

Subsets, shuffles and augmentation take their randomness from here, so that none of them depends on the order
in which images are asked for, on the batch, or on a random stream whose algorithm a library may change.

Source: the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
2014; constants by Stafford, variant 13).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = state + _GOLDEN
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return state ^ (state >> np.uint64(31))


def draw(*parts: int | NDArray[Any]) -> NDArray[np.uint64]:
    """One 64-bit number for each element of the broadcast `parts`.

    The map is one-to-one in the last part while the others stay, so keys of distinct images never tie.

    >>> draw(0, np.arange(3)).shape
    (3,)
    """
    state = np.zeros(1, np.uint64)
    for part in parts:
        # Arrays of one element instead of scalars: NumPy warns when a scalar wraps around, and wrapping is the point.
        value = np.array([part & 0xFFFFFFFFFFFFFFFF], np.uint64) if isinstance(part, int) else part.astype(np.uint64)
        state = _mix(state ^ value)
    return state


def uniform(keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Map 64-bit keys to [0, 1) by their upper 53 bits."""
    return (keys >> np.uint64(11)).astype(np.float64) * 2.0**-53
