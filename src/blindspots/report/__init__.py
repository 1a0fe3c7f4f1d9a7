"""A finished run told to people: one HTML page, and the same in the terminal."""

from __future__ import annotations

from .page import write_report
from .terminal import print_summary

__all__ = ["print_summary", "write_report"]
