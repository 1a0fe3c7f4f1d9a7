"""Look into a `.pt2` file before torch does, and refuse what would run as a program.

`torch.export.load` unpickles some parts of the archive without restriction, loads compiled libraries, evaluates size
expressions as Python, and resolves operator names anywhere below `torch`. A plain exported network needs none of that.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.export.pt2_archive import PT2ArchiveReader

from ..errors import BlindspotsError
from .weights import broken

OPERATORS = re.compile(
    r"torch\.ops\.(aten|prims|torchvision)\.\w+(\.\w+)?"
    r"|_operator\.(getitem|add|sub|mul|truediv|floordiv|mod|pow|neg|eq|ne|lt|le|gt|ge|and_|or_|not_)"
    r"|math\.\w+|torch\.sym_\w+|torch\._sym_sqrt"
)
# Size expressions: numbers, symbols such as s77 or 's77', properties such as positive=True, capitalised functions
# such as Max(...); no other names, strings or attributes, so nothing that Python could be made to call.
EXPRESSION = re.compile(
    r"(\s|\d+|'[a-z]{1,4}\d+'|[a-z]{1,4}\d+\b|[a-z]+=(True|False)\b|[A-Z]\w*\b|int_oo\b|oo\b|[-+*/(),<>=!&|~])*"
)


def scan(path: Path) -> None:
    """Raise `BlindspotsError` where the archive is unreadable or holds anything but tensors and plain operations."""
    try:
        archive = PT2ArchiveReader(str(path))
        names = archive.get_file_names()
        configs = [json.loads(archive.read_string(name)) for name in names if name.endswith("_config.json")]
        models = [json.loads(archive.read_string(name)) for name in names if name.startswith("models/")]
        samples = [archive.read_bytes(name) for name in names if name.startswith("data/sample_inputs/")]
    except Exception as error:  # damaged and foreign archives fail in any way
        raise broken(path, "torch.export file") from error
    if len(models) != 1:
        raise BlindspotsError(f"'{path}' holds {len(models)} networks: save exactly one with torch.export.save")
    for name in names:
        if name.startswith("data/aotinductor/") or name.endswith(".so"):
            raise _refused(path, f"compiled code ({name})")
        if re.fullmatch(r"data/(weights|constants)/.*\.pt", name):
            raise _refused(path, f"pickled tensors of an older format ({name})")
    for entry in (entry for config in configs for entry in config.get("config", {}).values()):
        if entry.get("use_pickle") or not str(entry.get("path_name")).startswith(("weight_", "tensor_")):
            raise _refused(path, f"a pickled object ({entry.get('path_name')})")
    for sample in filter(None, samples):
        try:
            torch.load(io.BytesIO(sample), weights_only=True)
        except Exception as error:  # anything unusual is refused, whatever it is
            raise _refused(path, "a pickled example input") from error
    for key, text in _strings(models[0]):
        if key == "target" and not OPERATORS.fullmatch(text):
            raise _refused(path, f"the operation '{text[:80]}'")
        if key == "expr_str" and not EXPRESSION.fullmatch(text):
            raise _refused(path, f"the size expression '{text[:80]}'")


def _refused(path: Path, found: str) -> BlindspotsError:
    return BlindspotsError(
        f"'{path}' holds {found}, which could run as a program: export the network again from plain tensors and "
        "operations, or load it as 'file.py:factory' with weights"
    )


def _strings(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inside in value.items():
            if isinstance(inside, str):
                yield key, inside
            else:
                yield from _strings(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from _strings(inside)
