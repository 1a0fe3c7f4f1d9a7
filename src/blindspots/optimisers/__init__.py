"""Optimisers: how theta moves. Settings are frozen; all state is returned, one row an image."""

from .adam import Adam
from .momentum import Momentum
from .optimiser import Optimiser, State
from .steepest import Steepest

__all__ = ["Adam", "Momentum", "Optimiser", "State", "Steepest"]
