"""The tuned layout of model calls, remembered on this machine.

Another layout may round differently, so a run records its own; remembering it lets two runs of one command use the same
one, whatever the clock said the second time.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch

from ..batching import Layout
from ..cache import cache_directory
from ..files import replace_file

if TYPE_CHECKING:
    from torch import Tensor

    from ..classifiers import Classifier


def model_layout(model: Classifier, images: Tensor) -> Layout:
    """The layout for images of this shape: as given, as remembered, or measured now and remembered."""
    if model.batch is not None:
        return model.layout(images)
    device = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else model.device.type
    facts = [
        model.hash, list(images.shape[1:]), device, torch.get_num_threads(), torch.__version__, str(model.amp),
        model.channels_last,
    ]  # fmt: skip
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
    file = cache_directory() / "layout" / f"{key}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        stored = json.loads(file.read_text(encoding="utf-8"))
        return Layout(**stored | {"smaller": tuple(stored["smaller"])})
    layout = model.layout(model.accept(images))
    # A cache that cannot be written costs a measurement next time, nothing else.
    with suppress(OSError):
        replace_file(file, json.dumps(asdict(layout)).encode())
    return layout
