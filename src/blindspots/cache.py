"""The folder for what can be computed again: trained demonstration models and tuned batch sizes."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory() -> Path:
    """BLINDSPOTS_CACHE, or blindspots in XDG_CACHE_HOME, or ~/.cache/blindspots."""
    given = os.environ.get("BLINDSPOTS_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "blindspots"
