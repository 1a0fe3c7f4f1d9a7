"""Networks: the papers' own, and every way to load another one. Importing this does not import torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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

_LATER = {"load_model": "load", "save_model": "saved"}  # these import torch


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)


def list_models() -> tuple[ModelInfo, ...]:
    """The built-in networks, then one row for each other way to name a model.

    >>> list_models()[0].name
    'small-cnn'
    """
    return (*(network.info for network in NETWORKS.values()), *SCHEMES)


def normalisations() -> tuple[str, ...]:
    """The names that `normalisation` and the `mean` of `load_model` know."""
    return tuple(NAMED)
