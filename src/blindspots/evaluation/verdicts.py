"""What a job did to each image: its rows reduced to one verdict an image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Verdicts:
    """What one job did to each image, in the order of `Run.clean()`; every array is `(N,)`.

    A targeted job may hold several rows for an image, one per target: the image is fooled if any row is,
    its cost is the sum over the rows, and `chosen` is the row that speaks for it (the first success, or the
    smallest where the job looks for the smallest change, else the first row), from which prediction, confidence,
    margin and sizes are taken. `carried` says which successes were taken over from a smaller radius; `decided` is,
    for an ensemble, the number of the member that fooled the image, or -1.
    """

    job: dict[str, Any]
    attacked: NDArray[np.bool_]
    success: NDArray[np.bool_]
    fooled: NDArray[np.bool_]
    forwards: NDArray[np.int64]
    backwards: NDArray[np.int64]
    zero_gradients: NDArray[np.int64]
    bad_gradients: NDArray[np.int64]
    unstarted: NDArray[np.int64]
    chosen: NDArray[np.int64]
    target: NDArray[np.int64]
    prediction: NDArray[np.int64]
    confidence: NDArray[np.float32]
    margin: NDArray[np.float32]
    sizes: dict[str, NDArray[np.float64]]
    carried: NDArray[np.bool_]
    decided: NDArray[np.int64] | None = None

    @property
    def minimum(self) -> bool:
        """Does the job hold the smallest change of each image, and so a verdict at every radius up to its own?"""
        return "radii" in self.job

    @property
    def size(self) -> NDArray[np.float64]:
        """The size of each change in the norm of the job."""
        return self.sizes[self.job["norm"]]

    def within(self, radius: float, text: str) -> Verdicts:
        """What a job that holds the smallest changes says at a radius, up to its own."""
        inside = self.success & (self.size <= radius * (1 + 1e-6))
        fooled = inside | (self.fooled & ~self.success)
        job = {**self.job, "radius": radius, "radius_text": text}
        return replace(self, job=job, success=inside, fooled=fooled)


def speakers(key: NDArray[np.int64], rows: pa.Table, job: dict[str, Any]) -> NDArray[np.int64]:
    """For every distinct key of the rows, ascending: the number of the row that speaks for it, see `Verdicts`."""
    success = rows["success"].to_numpy()
    # Of failures, whose sizes say nothing, the first.
    rank = np.where(success, rows[f"size_{job['norm']}"].to_numpy(), 0) if "radii" in job else np.zeros(len(key))
    order = np.lexsort((np.arange(len(key)), rank, ~success, key))
    _, first = np.unique(key[order], return_index=True)
    return order[first]
