"""`blindspots analyze distributional`."""

from __future__ import annotations

from dataclasses import dataclass, field

from ... import analysis
from ..options import DataOptions, ModelOptions
from .shown import OneModel


@dataclass(frozen=True)
class Distributional(OneModel):
    """Noise whose mean and deviation at each pixel change the expected answer, verified by sampling."""

    settings: analysis.Distributional = field(default_factory=lambda: analysis.Distributional())
    out: str = "runs/distributional"
    """Folder for the page and its values."""
    seed: int = 0
    """Seed of the images and of the noise."""
    model: ModelOptions = field(default_factory=ModelOptions)
    data: DataOptions = field(default_factory=DataOptions)
