"""Networks: the papers' own, and every way to load another one. Importing this does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import names
from .build import build
from .catalogue import NETWORKS, SCHEMES, ModelInfo
from .loaded import LoadedModel
from .normalise import NAMED, normalisation

if TYPE_CHECKING:
    from .load import load_model
    from .saved import save_model

__all__ = [
    "LoadedModel",
    "ModelInfo",
    "build",
    "list_models",
    "load_model",
    "normalisation",
    "normalisations",
    "save_model",
]

_HOME = {"load_model": "load", "save_model": "saved"}  # these import torch


__getattr__ = names(__name__, _HOME)


def list_models() -> tuple[ModelInfo, ...]:
    """The built-in networks, then one row for each other way to name a model.

    >>> list_models()[0].name
    'small-cnn'
    """
    return (*(network.info for network in NETWORKS.values()), *SCHEMES)


def normalisations() -> tuple[str, ...]:
    """The names that `normalisation` and the `mean` of `load_model` know."""
    return tuple(NAMED)
