"""A flow as arrows over its image: inline SVG that takes its colours from the page."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

ACROSS = 14  # arrows along the longer side at most; with more, phones show a thicket
LEAST = 5  # and at least, where arrows are long
LONGEST = 2.5  # length of the longest arrow, in cells
SHORTEST = 0.25  # an arrow below this length, in cells, is not drawn


def arrows(flow: NDArray[Any]) -> tuple[str, int]:
    """The arrows of a flow (2, H, W) in pixels as a path in an SVG of W x H units, and how much longer they are drawn.

    An arrow ends where a pixel stands and begins where its value is read, so it shows which way the picture moves. Of
    every square of pixels the longest displacement is drawn.
    """
    height, width = flow.shape[1:]
    length = np.hypot(*flow.astype(np.float64))
    longest, side = float(length.max()), max(height, width)
    cell = max(-(-side // ACROSS), min(round(longest / LONGEST), side // LEAST))
    factor = stretch(longest, LONGEST * cell)
    parts = []
    for top in range(0, height, cell):
        for left in range(0, width, cell):
            square = length[top : top + cell, left : left + cell]
            row, column = (int(place) for place in np.unravel_index(int(square.argmax()), square.shape))
            row, column = row + top, column + left
            if factor * length[row, column] >= SHORTEST * cell:
                read = factor * flow[:, row, column].astype(np.float64)
                parts.append(_arrow((column + 0.5, row + 0.5), (float(read[1]), float(read[0])), cell))
    return "".join(parts), factor


def stretch(longest: float, room: float) -> int:
    """The factor 1, 2, 5, 10, 20 ... up to 1000 that brings the longest displacement nearest to the room, not above.

    >>> stretch(0.3, 2.0), stretch(5.0, 2.0), stretch(0.0, 2.0)
    (5, 1, 1)
    """
    steps = [digit * 10**power for power in range(3) for digit in (1, 2, 5)] + [1000]
    return max(int(step) for step in steps if step == 1 or (longest > 0 and step * longest <= room))


def _arrow(head: tuple[float, float], back: tuple[float, float], cell: int) -> str:
    """A filled arrow from head + back to head, in units of pixels; its width grows with the cell."""
    long = float(np.hypot(*back))
    along, across = (back[0] / long, back[1] / long), (-back[1] / long, back[0] / long)
    tip, half, shaft = min(0.5 * long, 0.42 * cell), 0.2 * cell, 0.055 * cell
    half = min(half, 0.5 * tip)
    shaft = min(shaft, 0.45 * half)

    def at(far: float, aside: float) -> str:
        return f"{head[0] + far * along[0] + aside * across[0]:.2f} {head[1] + far * along[1] + aside * across[1]:.2f}"

    corners = [
        at(0, 0),
        at(tip, half),
        at(tip, shaft),
        at(long, shaft),
        at(long, -shaft),
        at(tip, -shaft),
        at(tip, -half),
    ]
    return f"M{'L'.join(corners)}z"
