"""`blindspots analyze units`."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...analysis.units import Units as Settings
from ..options import DataOptions, ModelOptions
from .shown import OneModel


@dataclass(frozen=True)
class Units(OneModel):
    """Compare the images that single units of a layer like best with those of random directions.

    blindspots analyze units --layer head.hidden --data mnist --model M: label purity and distances of the top images,
    differences by permutation, sheets of pictures.
    """

    settings: Settings
    seed: int = 0
    """Seed of units, directions, random images, ties and permutations."""
    out: str = "runs/units"
    """Folder to write page and JSON into."""
    model: ModelOptions = field(default_factory=ModelOptions)
    data: DataOptions = field(default_factory=DataOptions)
