"""The tuned model batch, remembered on this machine.

Another model batch may round differently, so a run records its own; remembering it lets two runs of one command use the
same one, whatever the clock said the second time.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import TYPE_CHECKING

import torch

from ..cache import cache_directory
from ..files import replace_file

if TYPE_CHECKING:
    from torch import Tensor

    from ..classifiers import Classifier


def model_batch(model: Classifier, images: Tensor) -> int:
    """The model batch for images of this shape: as given, as remembered, or measured now and remembered."""
    if model.batch is not None:
        return model.batch
    device = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else model.device.type
    facts = [model.hash, list(images.shape[1:]), device, torch.get_num_threads(), torch.__version__, str(model.amp)]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
    file = cache_directory() / "batch" / f"{key}.json"
    try:
        return int(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        pass
    batch = model.size(model.accept(images))
    # A cache that cannot be written costs a measurement next time, nothing else.
    with suppress(OSError):
        replace_file(file, str(batch).encode())
    return batch
