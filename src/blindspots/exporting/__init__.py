"""Adversarial images as 8-bit files, verified and repaired."""

from .driver import export
from .report import ExportProgress, ExportReport, JobExport

__all__ = ["ExportProgress", "ExportReport", "JobExport", "export"]
