"""`blindspots analyze moments`."""

from __future__ import annotations

from dataclasses import dataclass, field

from ... import analysis
from ..options import DataOptions, ModelOptions
from .shown import OneModel


@dataclass(frozen=True)
class Moments(OneModel):
    """Mean and variance of the logits under Gaussian noise by formulas, beside sampling, and what the noise changes."""

    settings: analysis.Moments = field(default_factory=lambda: analysis.Moments())
    out: str = "runs/moments"
    """Folder for the page and its values."""
    seed: int = 0
    """Seed of the images and of the noise."""
    model: ModelOptions = field(default_factory=ModelOptions)
    data: DataOptions = field(default_factory=DataOptions)
