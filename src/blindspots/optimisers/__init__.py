"""Optimisers: how theta moves. Settings are frozen; all state is returned, one row an image."""

from .adam import Adam
from .lbfgs import LBFGS
from .momentum import Momentum
from .optimiser import Bounds, Optimiser, State
from .steepest import Steepest

__all__ = ["LBFGS", "Adam", "Bounds", "Momentum", "Optimiser", "State", "Steepest"]
