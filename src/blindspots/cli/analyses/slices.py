"""`blindspots analyze slices`."""

from __future__ import annotations

from dataclasses import dataclass, field

from ... import analysis
from ..options import DataOptions, ModelOptions
from .shown import OneModel


@dataclass(frozen=True)
class Slices(OneModel):
    """Planes through an image, an attacked one and a random direction, and the margin on the way between them."""

    settings: analysis.Slices = field(default_factory=lambda: analysis.Slices())
    out: str = "runs/slices"
    """Folder for the page and its values."""
    seed: int = 0
    """Seed of the images, of the attack and of the directions."""
    model: ModelOptions = field(default_factory=ModelOptions)
    data: DataOptions = field(default_factory=DataOptions)
