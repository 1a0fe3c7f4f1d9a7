"""The notebook of a study: what each cell of work found, kept so that a study goes on where it stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save

from ..errors import BlindspotsError
from ..evaluation.plan import differences
from ..files import lock, remove_leftovers, replace_file

if TYPE_CHECKING:
    from torch import Tensor

Values = dict[str, Any]
Found = tuple[Values, "dict[str, Tensor]"]


class Notebook:
    """A folder with one JSON file for each finished cell, and a safetensors file where the cell has tensors.

    Args:
        path: the folder, made if it is not there.
        settings: everything that decides what the study finds; a folder of other settings is refused.
        tell: is told in a line what is being done.

    Raises:
        BlindspotsError: the folder cannot be made, holds something else, or is in use.
    """

    def __init__(self, path: Path, settings: Values, tell: Callable[[str], None]) -> None:
        self.path, self.tell = path, tell
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BlindspotsError(
                f"the folder '{path}' cannot be made ({error.strerror}): give another --out"
            ) from error
        self._held = lock(path / ".lock", f"another process is writing '{path}': wait for it, or give another --out")
        remove_leftovers(path)
        self._claim(path / "study.json", settings)

    def close(self) -> None:
        """Let other processes write the folder."""
        self._held.lock.release()

    def cell(self, name: str, settings: Values, work: Callable[[], Found]) -> Found:
        """What this cell found: read if it was done before with these settings, worked out and kept otherwise.

        The values come with `seconds`, the time the work took.

        Raises:
            BlindspotsError: the cell was done with other settings, or its files cannot be read.
        """
        note, store = self.path / "cells" / f"{name}.json", self.path / "cells" / f"{name}.safetensors"
        settings = json.loads(json.dumps(settings))
        if note.is_file():
            return self._read(note, store, settings)
        self.tell(name)
        started = time.perf_counter()
        values, tensors = work()
        values = {**values, "seconds": time.perf_counter() - started}
        if tensors:
            replace_file(store, save({key: tensor.contiguous() for key, tensor in tensors.items()}))
        # The note comes last: where it is, all is there.
        text = json.dumps({"settings": settings, "values": values, "tensors": bool(tensors)}, indent=1)
        replace_file(note, text.encode())
        return json.loads(json.dumps(values)), tensors

    def _read(self, note: Path, store: Path, settings: Values) -> Found:
        try:
            kept = json.loads(note.read_text(encoding="utf-8"))
            values, before = kept["values"], kept["settings"]
            tensors = load_file(store) if kept["tensors"] else {}
        except (OSError, ValueError, KeyError) as error:
            raise BlindspotsError(f"'{note}' cannot be read ({error}): delete it to have it done again") from error
        found = differences(before, settings)
        if found:
            raise BlindspotsError(
                f"'{note}' was made with other settings ({'; '.join(found[:4])}): delete it, or give another --out"
            )
        return values, tensors

    def _claim(self, path: Path, settings: Values) -> None:
        settings = json.loads(json.dumps(settings))
        if path.is_file():
            found = differences(json.loads(path.read_text(encoding="utf-8")), settings)
            if found:
                raise BlindspotsError(
                    f"'{path.parent}' holds a study of other settings ({'; '.join(found[:4])}): repeat them to go on, "
                    "give another --out, or delete it"
                )
        else:
            replace_file(path, json.dumps(settings, indent=1).encode())
