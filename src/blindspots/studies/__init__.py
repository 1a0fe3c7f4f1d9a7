"""Classic papers run again: each study does the experiments and writes a page, paper and here side by side."""

from __future__ import annotations

from .named import STUDIES, reproduce

__all__ = ["STUDIES", "reproduce"]
