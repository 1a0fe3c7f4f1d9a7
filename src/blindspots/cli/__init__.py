"""The command line: one subcommand a job. Importing it does not import torch, so help is quick."""

from .main import main

__all__ = ["main"]
