"""Optimisers: how theta moves. Settings are frozen; all state is returned, one row an image."""

from .adam import Adam
from .apgd import AdaptiveSteps
from .apgd_l1 import SparseSteps
from .lbfgs import LBFGS
from .metric import Metric, Smoothing
from .momentum import Momentum
from .optimiser import Bounds, Optimiser, State
from .steepest import Steepest

__all__ = [
    "LBFGS",
    "Adam",
    "AdaptiveSteps",
    "Bounds",
    "Metric",
    "Momentum",
    "Optimiser",
    "Smoothing",
    "SparseSteps",
    "State",
    "Steepest",
]
