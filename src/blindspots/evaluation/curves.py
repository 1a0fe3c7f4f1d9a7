"""Robust accuracy at every radius, from jobs that were run once for all of them.

A search for the smallest change of each image tells from where on the image is fooled, so its curve is a step function
with a step at every size that it found. In the worst case an image is fooled from the smallest radius on at which any
job has fooled it; both kinds of attack tell of images that fall, none of images that stand.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..settings import Radius
from .verdicts import Verdicts

# Steps of a curve that are kept; of more successes every n-th is.
STEPS = 400

Curve = list[tuple[float, int]]


def at_every_radius(jobs: Sequence[Verdicts]) -> list[Verdicts]:
    """The verdicts of all jobs at every radius of the run that they answer for.

    A job that was run for one radius is there as it is, one that holds the smallest changes at each radius of its norm
    up to its own, those of other jobs included.
    """
    found: list[Verdicts] = []
    for job in jobs:
        if job.minimum:
            points = _radii(jobs, job.job["norm"])
            found += [job.within(radius, text) for radius, text in points.items() if radius <= job.job["radius"]]
        else:
            found.append(job)
    return found


def smallest_curve(job: Verdicts) -> Curve:
    """The curve of a job that holds the smallest changes: how many of all images are right from each size on."""
    return _curve(np.where(job.success, job.size, np.inf), int((~job.fooled | job.success).sum()))


def worst_curve(jobs: Sequence[Verdicts]) -> Curve:
    """The curve of the worst case over all jobs of one norm."""
    falls = [np.where(job.success, job.size if job.minimum else job.job["radius"], np.inf) for job in jobs]
    right = ~jobs[0].fooled | jobs[0].success
    return _curve(np.min(falls, axis=0), int(right.sum()))


def _curve(falls: NDArray[np.float64], right: int) -> Curve:
    """(radius, images that are still right from there on), from the radius (N,) at which each image falls."""
    sizes = np.sort(falls[np.isfinite(falls)])
    last = np.append(np.flatnonzero(np.diff(sizes)), len(sizes) - 1) if len(sizes) else np.zeros(0, np.int64)
    if len(last) > STEPS:
        last = last[np.linspace(0, len(last) - 1, STEPS).round().astype(np.int64)]
    return [(0.0, right), *((float(sizes[place]), right - int(place) - 1) for place in last)]


def _radii(jobs: Sequence[Verdicts], norm: str) -> dict[float, str]:
    """All radii of a norm in the run, ascending, with the text of each."""
    points: dict[float, str] = {}
    for job in jobs:
        if job.job["norm"] == norm:
            points.setdefault(job.job["radius"], job.job["radius_text"])
            for text in job.job.get("radii", ()):
                points.setdefault(float(Radius(text)), text)
    return dict(sorted(points.items()))
