"""Imports that wait: `torch` and the names of packages on first use, optional packages with the extra that brings them.

Settings (attacks, spaces, objectives, optimisers) are read by the command line to print its help, which
must not pay the seconds that importing torch takes. Their modules take `torch` from here.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .errors import BlindspotsError

if TYPE_CHECKING:
    import torch as torch
else:

    class _Lazy(ModuleType):
        def __getattr__(self, name: str) -> Any:
            value = getattr(importlib.import_module(self.__name__), name)
            setattr(self, name, value)
            return value

    torch = _Lazy("torch")


def require(module: str, extra: str, purpose: str) -> Any:
    """Import an optional package, or say which extra of blindspots brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise BlindspotsError(
            f"{purpose} needs the package '{package}', which is not installed: pip install 'blindspots[{extra}]'"
        ) from error


def names(package: str, home: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package whose names live in modules below it, each imported when a name of it is used."""

    def find(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{home[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return find
