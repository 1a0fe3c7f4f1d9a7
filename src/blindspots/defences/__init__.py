"""Defences that change every image before the model sees it; `DEFENCES` is the table of them by name."""

from ..errors import unknown
from .bit_depth import BitDepth
from .blur import GaussianBlur, MeanBlur
from .defence import Defence
from .jpeg import JPEG
from .low_pass import LowPass
from .median import MedianBlur
from .morphology import Closing, Opening

DEFENCES: dict[str, type[Defence]] = {
    defence.name: defence for defence in (MeanBlur, GaussianBlur, MedianBlur, Opening, Closing, BitDepth, JPEG, LowPass)
}


def defence_named(name: str) -> type[Defence]:
    """The defence of that name, as `blindspots list defences` shows them."""
    if name not in DEFENCES:
        raise unknown("defence", name, DEFENCES)
    return DEFENCES[name]


__all__ = [
    "DEFENCES",
    "JPEG",
    "BitDepth",
    "Closing",
    "Defence",
    "GaussianBlur",
    "LowPass",
    "MeanBlur",
    "MedianBlur",
    "Opening",
    "defence_named",
]
