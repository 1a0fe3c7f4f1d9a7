"""A network from the user's own Python file: `path/file.py:factory`. The only place where user code runs."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from ..errors import BlindspotsError, unknown
from .weights import readable

# What factories call the things we know, for each keyword of `load_model`.
SPELLINGS = {
    "classes": ("classes", "num_classes", "n_classes"),
    "channels": ("channels", "in_channels", "in_chans"),
    "size": ("size", "image_size", "img_size"),
}


def load_factory(spec: str, given: dict[str, int | None]) -> nn.Module:
    """Import the file named in `spec`, and call (or take) what is named behind the colon.

    `given` (classes, channels, size) is passed on to a factory that has a parameter of that meaning.
    Raises `BlindspotsError` when the file, the name, or the result is not what it must be, or the code fails.
    """
    if spec.endswith(".py"):
        readable(spec, "model file")
        raise BlindspotsError(f"'{spec}' names a file but no network in it: write '{spec}:NAME' (a function or class)")
    file, _, name = spec.rpartition(":")
    path = readable(file, "model file").resolve()
    with _importing_from(path.parent):
        code = _run(path, spec)
        public = [key for key, value in vars(code).items() if _makes_module(value, code) and not key.startswith("_")]
        if not hasattr(code, name):
            raise unknown(f"network in '{file}'", name, public or ["none"])
        made = getattr(code, name)
        if not isinstance(made, nn.Module):
            if not callable(made):
                raise BlindspotsError(
                    f"'{spec}' is a {type(made).__name__}: name a function, a class or a torch module"
                )
            try:
                made = made(**_accepted(made, given))
            except BlindspotsError:
                raise
            except Exception as error:
                raise BlindspotsError(f"'{spec}' failed with {type(error).__name__}: {error}") from error
    if not isinstance(made, nn.Module):
        raise BlindspotsError(f"'{spec}' returned a {type(made).__name__}: it must return a torch.nn.Module")
    return made


def _run(path: Path, spec: str) -> ModuleType:
    name = f"blindspots_user_{path.stem}"
    loader = importlib.util.spec_from_file_location(name, path)
    if loader is None or loader.loader is None:
        raise BlindspotsError(f"'{path}' cannot be imported as Python: check the file")
    code = importlib.util.module_from_spec(loader)
    sys.modules[name] = code  # dataclasses and pickle look their module up there
    try:
        loader.loader.exec_module(code)
    except Exception as error:
        raise BlindspotsError(f"'{spec}' failed on import with {type(error).__name__}: {error}") from error
    return code


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Files beside the user's file can be imported from it, as when Python runs it."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))


def _makes_module(value: Any, code: ModuleType) -> bool:
    if isinstance(value, nn.Module):
        return True
    return getattr(value, "__module__", None) == code.__name__ and (inspect.isfunction(value) or inspect.isclass(value))


def _accepted(factory: Any, given: dict[str, int | None]) -> dict[str, int]:
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # some built-in callables have no signature to read
        return {}
    keywords: dict[str, int] = {}
    for what, value in given.items():
        spelling = next((name for name in SPELLINGS[what] if name in parameters), None)
        if value is not None and spelling is not None:
            keywords[spelling] = value
    return keywords
