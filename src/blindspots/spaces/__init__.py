"""Spaces: what an attack may change. A space turns parameters theta, one row an image, into images."""

from .additive import Additive
from .space import Space

__all__ = ["Additive", "Space"]
