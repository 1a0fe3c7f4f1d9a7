"""Writes a run directory by hand, file by file as a real run does, so that its statistics can be computed on paper."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file
from torch import Tensor

CLEAN = {"index": "int64", "label": "int64", "prediction": "int64", "confidence": "float32", "correct": "bool"}
ROWS = {
    "index": "int64",
    "label": "int64",
    "target": "int64",
    "attacked": "bool",
    "success": "bool",
    "fooled": "bool",
    "prediction": "int64",
    "confidence": "float32",
    "size_l0": "float64",
    "size_l1": "float64",
    "size_l2": "float64",
    "size_linf": "float64",
    "forwards": "int64",
    "backwards": "int64",
    "steps": "int64",
    "zero_gradients": "int64",
    "bad_gradients": "int64",
    "unstarted": "int64",
    "margin": "float32",
}
INTEGERS = ("forwards", "backwards", "steps", "zero_gradients", "bad_gradients", "unstarted")


def job(identity: str, attack: str, radius: float, *, norm: str = "linf", **changes: Any) -> dict[str, Any]:
    """One job of the manifest."""
    entry = {
        "id": identity,
        "attack": attack,
        "norm": norm,
        "radius": radius,
        "radius_text": f"{radius:g}",
        "settings": {"radius": f"{radius:g}"},
        "targets": None,
        "control": False,
        "steps": 10,
    }
    return {**entry, **changes}


def write_run(
    path: Path,
    labels: list[int],
    predictions: list[int],
    jobs: list[tuple[dict[str, Any], dict[str, Any]]],
    *,
    images: Tensor | None = None,
    adversarial: dict[str, Tensor] | None = None,
    confidence: Any = None,
    margin: Any = None,
    shard: int = 4,
    **manifest: Any,
) -> Path:
    """Write a run of `len(labels)` images; image k has the number 10 + k.

    `jobs` pairs a manifest entry with columns over all images: `success` is needed, the others have defaults
    (`prediction`: the next class where successful; sizes: the radius in all norms). A column `place` makes
    several rows for an image. `images` `(N, C, H, W)` and `adversarial` (per job, rows as in the columns)
    default to grey and a change of every pixel by the radius.
    """
    count, classes = len(labels), max([*labels, *predictions, 1]) + 1
    images = torch.full((count, 1, 8, 8), 0.25) if images is None else images
    shards = [
        {"id": f"{k:05d}", "start": start, "stop": min(start + shard, count)}
        for k, start in enumerate(range(0, count, shard))
    ]
    described = {
        "name": "synthetic",
        "split": "test",
        "limit": None,
        "seed": 0,
        "count": count,
        "fingerprint": "f" * 64,
    }
    written = {
        "format": 1,
        "settings": {"model": "net", "data": "synthetic"},
        "model": {"spec": "net", "name": "net", "hash": "a" * 64, "classes": classes, "parameters": 1234},
        "data": described,
        "class_names": [f"c{k}" for k in range(classes)],
        "shape": list(images.shape[1:]),
        "jobs": [entry for entry, _ in jobs],
        "shards": shards,
        "seed": 0,
        "batch": 32,
        "versions": {"python": "3.11", "torch": "2.8"},
        "hardware": {"device": "cpu"},
        "probes": [],
        **manifest,
    }
    path.mkdir(parents=True)
    (path / "manifest.json").write_text(json.dumps(written), encoding="utf-8")
    label, prediction = np.array(labels), np.array(predictions)
    correct = label == prediction
    clean = {
        "index": np.arange(count) + 10,
        "label": label,
        "prediction": prediction,
        "confidence": np.linspace(0.6, 0.99, count) if confidence is None else np.array(confidence),
        "correct": correct,
        "margin": np.where(correct, 1.0, -1.0) * np.linspace(1, 2, count) if margin is None else np.array(margin),
    }
    for part in shards:
        rows = np.arange(part["start"], part["stop"])
        _table(path / f"clean/{part['id']}.parquet", clean, rows)
        _images(path / f"images/clean/{part['id']}.safetensors", images[rows], clean["index"][rows])
        _json(path / f"timing/{part['id']}-clean.json", 0.25)
    for entry, given in jobs:
        columns = _columns(entry, given, label, correct, classes)
        place = columns.pop("place")
        default = (images[place] + entry["radius"] * torch.tensor(columns["attacked"])[:, None, None, None]).clamp(0, 1)
        stored = (adversarial or {}).get(entry["id"], default)
        for part in shards:
            rows = np.flatnonzero((place >= part["start"]) & (place < part["stop"]))
            _table(path / f"jobs/{entry['id']}/{part['id']}.parquet", columns, rows)
            _json(path / f"timing/{part['id']}-{entry['id']}.json", 1.5)
            keep = written["settings"].get("keep_images", "all")
            kept = rows[columns["success" if keep == "fooled" else "attacked"][rows]]
            if keep == "none":
                continue
            _images(path / f"images/{entry['id']}/{part['id']}.safetensors", stored[kept], columns["index"][kept])
    return path


def _columns(entry: dict[str, Any], given: dict[str, Any], label: Any, correct: Any, classes: int) -> dict[str, Any]:
    place = np.array(given.get("place", range(len(label))))
    attacked = np.array(given.get("attacked", correct[place]), dtype=bool) & correct[place]
    success = np.array(given["success"], dtype=bool) & attacked
    columns = {
        "place": place,
        "index": place + 10,
        "label": label[place],
        "target": np.full(len(place), -1),
        "attacked": attacked,
        "success": success,
        "fooled": success | ~correct[place],
        "prediction": np.where(success, (label[place] + 1) % classes, label[place]),
        "confidence": np.where(success, 0.7, 0.9),
        "margin": np.where(success, -0.5, 0.5),
        **{f"size_{norm}": np.where(attacked, entry["radius"], np.nan) for norm in ("l0", "l1", "l2", "linf")},
        **{name: np.where(attacked, entry["steps"], 0) for name in ("forwards", "backwards", "steps")},
        "zero_gradients": np.zeros(len(place)),
        "bad_gradients": np.zeros(len(place)),
        "unstarted": np.zeros(len(place)),
    }
    columns.update(
        {name: np.array(values) for name, values in given.items() if name not in ("success", "place", "attacked")}
    )
    return columns


def _table(file: Path, columns: dict[str, Any], rows: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    types = {**(ROWS if "attacked" in columns else CLEAN), "margin": "float32"}
    types |= {"carried": "bool"} if "carried" in columns else {}
    arrays = {name: pa.array(np.asarray(columns[name])[rows].astype(kind)) for name, kind in types.items()}
    pq.write_table(pa.table(arrays), file)


def _images(file: Path, images: Tensor, index: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({"images": images.float().contiguous(), "index": torch.tensor(index, dtype=torch.int64)}, file)


def _json(file: Path, seconds: float) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"seconds": seconds}), encoding="utf-8")
