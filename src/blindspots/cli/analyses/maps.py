"""`blindspots analyze maps`."""

from __future__ import annotations

from dataclasses import dataclass, field

from ... import analysis
from ..options import DataOptions, ModelOptions
from .shown import OneModel


@dataclass(frozen=True)
class Maps(OneModel):
    """Activation maps (CAM, Grad-CAM) of clean and attacked images side by side, and how far attacks move them."""

    settings: analysis.Maps = field(default_factory=lambda: analysis.Maps())
    out: str = "runs/maps"
    """Folder for the page and its values."""
    seed: int = 0
    """Seed of the images and of the attacks."""
    model: ModelOptions = field(default_factory=ModelOptions)
    data: DataOptions = field(default_factory=DataOptions)
