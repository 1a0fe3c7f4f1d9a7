"""Generative methods: networks that are fitted to make changed images, one pass for each; `GENERATIVE` by name.

Of their own package because what they return depends on the image, which is not universal; the fits share one loop.
"""

from .direct import Direct
from .discriminated import Discriminated
from .fixed_noise import FixedNoise
from .method import Generator, Method
from .thresholded import Thresholded

GENERATIVE: dict[str, type[Generator]] = {
    method.name: method for method in (Direct, Thresholded, FixedNoise, Discriminated)
}

__all__ = ["GENERATIVE", "Direct", "Discriminated", "FixedNoise", "Generator", "Method", "Thresholded"]
