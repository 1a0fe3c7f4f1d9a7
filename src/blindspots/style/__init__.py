"""Arbitrary style transfer: one network that gives any image the style of any other, in one forward pass.

    done = bs.style.train(bs.style.StyleSettings(content="digits", steps=200, out="runs/style"))
    images = bs.style.StyleTransfer.load(done.model)(content, styles)

Importing this package does not import torch; names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import names

if TYPE_CHECKING:
    from .features import FeatureNetwork, feature_network
    from .objective import StyleObjective
    from .reference import gatys
    from .settings import StyleSettings
    from .training import TrainedStyle, train
    from .transfer import StyleTransfer

_HOME = {
    "FeatureNetwork": "features",
    "StyleObjective": "objective",
    "StyleSettings": "settings",
    "StyleTransfer": "transfer",
    "TrainedStyle": "training",
    "feature_network": "features",
    "gatys": "reference",
    "train": "training",
}

__all__ = [
    "FeatureNetwork",
    "StyleObjective",
    "StyleSettings",
    "StyleTransfer",
    "TrainedStyle",
    "feature_network",
    "gatys",
    "train",
]


__getattr__ = names(__name__, _HOME)
