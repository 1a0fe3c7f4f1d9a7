"""Files that appear whole or not at all, and locks that keep other processes out."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import AcquireReturnProxy, FileLock, Timeout

from .errors import BlindspotsError

_PREFIX = ".tmp-"


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically: a reader, or a crash at any moment, sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{_PREFIX}{os.getpid()}-{path.name}"
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def lock(file: Path, busy: str) -> AcquireReturnProxy[FileLock]:
    """Hold this lock until the block of `with lock(...)` ends, `.lock.release()` is called, or the process dies.

    Raises:
        BlindspotsError: `busy`, at once, where another holds it.
    """
    try:
        return FileLock(file).acquire(timeout=0)
    except Timeout:
        raise BlindspotsError(busy) from None


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left half-written anywhere below the folder."""
    for leftover in folder.rglob(f"{_PREFIX}*"):
        leftover.unlink(missing_ok=True)
