"""Images with labels, from a name, a file, a folder, a hub or memory, all behind one face: `ImageData`.

    >>> from blindspots.data import dataset
    >>> digits = dataset("digits", limit=100)
    >>> len(digits), digits.shape, digits.classes
    (100, (1, 8, 8), 10)

Importing this package does not import torch; `dataset`, `loader` and `ImageData` do, on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .augment import Augment
from .catalogue import DataInfo, list_data

if TYPE_CHECKING:
    from .epochs import loader
    from .images import ImageData
    from .sources import dataset

__all__ = ["Augment", "DataInfo", "ImageData", "dataset", "list_data", "loader"]

_HEAVY = {"ImageData": "images", "dataset": "sources", "loader": "epochs"}


def __getattr__(name: str) -> Any:
    if name not in _HEAVY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HEAVY[name]}", __name__), name)
    globals()[name] = value
    return value
