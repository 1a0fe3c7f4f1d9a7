"""Spaces: what an attack may change. A space turns parameters theta, one row an image, into images."""

from .additive import Additive
from .affine import Affine
from .combined import Combined
from .flow import Flow
from .free import Free
from .space import Space
from .styled import Styled

__all__ = ["Additive", "Affine", "Combined", "Flow", "Free", "Space", "Styled"]
