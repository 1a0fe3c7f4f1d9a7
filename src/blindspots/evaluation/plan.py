"""The plan of a run: which attacks on which images with which settings, as the manifest that names all of it.

Everything that decides a verdict is in the manifest. A run goes on only under an equal manifest, so the files of an
interrupted and continued run are those of an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..attack import Attack
from ..errors import BlindspotsError
from ..flags import Flag, probe
from ..goal import TARGET_RULES, check_labels
from ..hardware import hardware, versions
from ..record import Budget
from .jobs import Planned, describe_jobs
from .run import FORMAT
from .tuning import model_layout

if TYPE_CHECKING:
    from ..classifiers import Classifier
    from ..data import ImageData

# Images attacked and stored together: at most this many, and at most this many bytes of float32 pixels.
SHARD_IMAGES, SHARD_BYTES = 500, 64 << 20
PROBED = 32
LABELS_FROM = ("data", "predictions")
KEPT_IMAGES = ("all", "fooled", "none")

_PREDICTED = Flag(
    "predicted-labels",
    "info",
    "The labels are the model's own predictions",
    "They were asked for by name. Shares are of predictions that an attack left unchanged, not of right answers, and "
    "the accuracy without attack is 100 % by definition.",
)


@dataclass(frozen=True)
class Choices:
    """How a run is made, apart from model, data and attacks; see the arguments of `evaluate`."""

    targets: str | int | None = None
    budget: Budget | None = None
    seed: int = 0
    labels_from: str = "data"
    keep_images: str = "all"

    def __post_init__(self) -> None:
        if self.keep_images not in KEPT_IMAGES:
            raise BlindspotsError(f"keep_images must be one of {', '.join(KEPT_IMAGES)}, got '{self.keep_images}'")
        if self.labels_from not in LABELS_FROM:
            raise BlindspotsError(f"labels_from must be one of {', '.join(LABELS_FROM)}, got '{self.labels_from}'")
        if isinstance(self.targets, str) and self.targets not in TARGET_RULES:
            raise BlindspotsError(f"targets must be a class or one of {', '.join(TARGET_RULES)}, got '{self.targets}'")


def make_identity(model: Classifier, data: ImageData, jobs: Sequence[Planned], choices: Choices) -> dict[str, Any]:
    """What sets a run apart from others, known without asking the model."""
    if not jobs:
        raise BlindspotsError("there are no attacks: give at least one, as blindspots list attacks names them")
    return {
        "model": model.hash,
        "data": data.fingerprint(),
        "jobs": describe_jobs(jobs, choices.targets),
        "budget": None if choices.budget is None else asdict(choices.budget),
        "seed": choices.seed,
        "labels_from": choices.labels_from,
    }


def make_manifest(model: Classifier, data: ImageData, jobs: Sequence[Planned], choices: Choices) -> dict[str, Any]:
    """Describe a run completely, after checking that it can be made.

    Raises:
        BlindspotsError: labels that are no classes of the model, or a model that answers with NaN.
    """
    targets = choices.targets
    few, _, _ = data.batch(0, min(PROBED, len(data)))
    layout = model_layout(model, few)
    model.batch, model.channels_last, model.smaller = layout.batch, layout.channels_last, layout.smaller
    probes = probe(model, few)
    broken = next((flag for flag in probes if flag.code == "bad-outputs"), None)
    if broken is not None and not bool(torch.isfinite(model.logits(few)).all(1).any()):
        raise BlindspotsError(
            "the model answers every image with NaN or infinite logits: check its weights and its input"
        )
    accepted = model.accept(few)
    for job in jobs:
        if isinstance(job.attack, Attack):
            job.attack.space(accepted[:1])  # images that it cannot take are refused before anything is written
    classes = model.count(accepted)
    if choices.labels_from == "data":
        check_labels(data.labels, len(data), classes, f"labels of '{data.name}'")
    else:
        probes = (*probes, _PREDICTED)
    if isinstance(targets, int) and not 0 <= targets < classes:
        raise BlindspotsError(f"the target class must be from 0 to {classes - 1}, got {targets}")
    names = [*data.class_names, *(str(c) for c in range(len(data.class_names), classes))]
    size = max(1, min(SHARD_IMAGES, SHARD_BYTES // (4 * int(torch.tensor(data.shape).prod()))))
    return {
        "format": FORMAT,
        "settings": {
            "targets": targets,
            "labels_from": choices.labels_from,
            "budget": None if choices.budget is None else asdict(choices.budget),
            "keep_images": choices.keep_images,
            "amp": model.amp,
            "outputs": model.outputs,
        },
        "seed": choices.seed,
        "batch": model.batch,
        "channels_last": model.channels_last,
        "smaller": list(model.smaller),
        "model": _describe_model(model, classes),
        "data": data.describe(),
        "class_names": names,
        "shape": list(data.shape),
        "jobs": describe_jobs(jobs, targets),
        "shards": [
            {"id": f"{number:05d}", "start": start, "stop": min(start + size, len(data))}
            for number, start in enumerate(range(0, len(data), size))
        ],
        "probes": [flag.to_json() for flag in probes],
        "versions": versions(),
        "hardware": hardware(model.device),
    }


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """What differs between two manifests, as `path: old -> new`.

    >>> differences({"a": {"b": 1}}, {"a": {"b": 2}})
    ['a.b: 1 -> 2']
    """
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [
            line
            for key in keys
            for line in differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            line for i, (a, b) in enumerate(zip(old, new, strict=True)) for line in differences(a, b, f"{path}[{i}]")
        ]
    if old == new:
        return []
    return [f"{path}: {_short(old)} -> {_short(new)}"]


def _describe_model(model: Classifier, classes: int) -> dict[str, Any]:
    about = {
        "spec": model.spec,
        "weights": model.weights,
        "name": model.name,
        "hash": model.hash,
        "mean": model.mean,
        "std": model.std,
        "classes": classes,
        "parameters": sum(p.numel() for p in model.module.parameters()),
        "trained": model.trained,
    }
    # Named only where there are any: the manifests of runs without defences stay what they were.
    return about | ({"defences": [str(defence) for defence in model.defences]} if model.defences else {})


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
