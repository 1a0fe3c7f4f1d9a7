"""Images with labels, from a name, a file, a folder, a hub or memory, all behind one face: `ImageData`.

    >>> from blindspots.data import dataset
    >>> digits = dataset("digits", limit=100)
    >>> len(digits), digits.shape, digits.classes
    (100, (1, 8, 8), 10)

Importing this package does not import torch; `dataset`, `loader` and `ImageData` do, on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import names
from .augment import Augment
from .catalogue import DataInfo, list_data

if TYPE_CHECKING:
    from .epochs import loader
    from .images import ImageData
    from .sources import dataset

__all__ = ["Augment", "DataInfo", "ImageData", "dataset", "list_data", "loader"]

_HOME = {"ImageData": "images", "dataset": "sources", "loader": "epochs"}


__getattr__ = names(__name__, _HOME)
