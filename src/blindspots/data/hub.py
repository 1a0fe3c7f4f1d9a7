"""Datasets of the Hugging Face hub, by name, or from a local directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import BlindspotsError
from ..lazy import require
from .items import ItemRows, keys_of
from .rows import Source, names_for, whole_labels


def hub_dataset(name: str, split: str, size: int | None) -> Source:
    """Open `hf:NAME`: a name on the hub, a directory written by `save_to_disk`, or a directory the package reads.

    The label column is read whole, an image when its row is asked for.
    """
    title = f"hf:{name}"
    datasets = require("datasets", "hub", f"data '{title}'")
    try:
        table = _load(datasets, name, split)
    # The package raises its own, the hub's, the network's and the file system's errors, and old names of each.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise BlindspotsError(
            f"data '{title}' with the split '{split}' cannot be loaded ({reason}): check the name, the split and the "
            "network, or pass hf:DIRECTORY of a local copy"
        ) from error
    if not len(table):
        raise BlindspotsError(f"'{title}' holds no images: give data with at least one")
    keys = keys_of(table[0], title)
    if keys is None:
        raise BlindspotsError(f"'{title}' has no columns: give a dataset with an image and a label column")
    labels = whole_labels(list(table[keys[1]]), title, len(table))
    listed = getattr(table.features[keys[1]], "names", None)
    names = tuple(listed) if listed else names_for(labels)
    return Source(title, ItemRows(table, labels, title, keys, size), labels, names)


def _load(datasets: Any, name: str, split: str) -> Any:
    folder = Path(name)
    if (folder / "state.json").is_file():
        return datasets.load_from_disk(name)
    if (folder / "dataset_dict.json").is_file():
        return datasets.load_from_disk(name)[split]
    return datasets.load_dataset(name, split=split)
