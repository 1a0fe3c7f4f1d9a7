"""Moments of piecewise-linear networks under Gaussian noise, by formulas; names load on first use, and torch with them.

`affine_relu_affine` is exact; `two_stage` cuts any network at a ReLU-like layer, `matched` goes through a chain layer
by layer; `sample` asks the network itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy import names

if TYPE_CHECKING:
    from .matching import matched
    from .noise import Noise
    from .rectified import LogitMoments, affine_relu_affine
    from .sampling import Sampled, sample
    from .split import rectifiers
    from .two_stage import two_stage

_HOME = {
    "LogitMoments": "rectified",
    "Noise": "noise",
    "Sampled": "sampling",
    "affine_relu_affine": "rectified",
    "matched": "matching",
    "rectifiers": "split",
    "sample": "sampling",
    "two_stage": "two_stage",
}

__all__ = ["LogitMoments", "Noise", "Sampled", "affine_relu_affine", "matched", "rectifiers", "sample", "two_stage"]


__getattr__ = names(__name__, _HOME)
