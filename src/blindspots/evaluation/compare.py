"""`compare`: finished runs on the same images, two by two: by how much they differ, and whether that is chance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BlindspotsError
from ..files import replace_file
from .curves import at_every_radius
from .intervals import LEVEL, share
from .paired import difference, holm
from .run import Run
from .summary import job_labels, worst_cases

Mask = NDArray[np.bool_]


def compare(runs: Sequence[Run | str | Path], *, out: str | Path | None = None) -> dict[str, Any]:
    """Compare finished runs on the same images, image by image.

    Of every two runs, in the order given: their accuracy without attack; their robust accuracy in the worst case over
    all attacks at each norm and radius that both have; and under each attack that both made with the same settings,
    where a run has several. With runs of two models this compares models, with runs of one model and different attacks
    it compares attacks. The same images under both are a far sharper test than two intervals beside each other.

    Args:
        runs: two or more runs, or their directories.
        out: folder for comparison.json and comparison.html, written if it is given.

    Returns:
        JSON values: `count`, `level`, `data`; `runs` with name, path, model, `clean`, and `worst`, a share for each
        norm and radius; and `pairs`, each with `first`, `second`, `same_model`, the worst cases that only one
        has (`unpaired`), and its `points`. A point is what `paired.difference` returns, first less second, with `what`
        ("clean", "worst" or "attack"), `label`, `norm`, `radius`, `radius_text`, `targets`, and `p_holm`, its p among
        all points of all pairs.

    Raises:
        BlindspotsError: fewer than two runs, one given twice, one that is unfinished, or runs on different images or
            labels.

    >>> compare(["runs/plain", "runs/hardened"])["pairs"][0]["points"][0]["difference"]  # doctest: +SKIP
    0.012
    """
    opened = [run if isinstance(run, Run) else Run(run) for run in runs]
    names = _names(opened)
    for run in opened[1:]:
        _same_images(opened[0], run)
    verdicts = [_Side(run) for run in opened]
    pairs = [
        {"first": names[a], "second": names[b], **_pair(verdicts[a], verdicts[b])}
        for a, b in combinations(range(len(opened)), 2)
    ]
    points = [point for pair in pairs for point in pair["points"]]
    for point, raised in zip(points, holm([point["p"] for point in points]), strict=True):
        point["p_holm"] = raised
    found = {
        "format": 1,
        "level": LEVEL,
        "count": opened[0].clean().num_rows,
        "data": opened[0].manifest["data"],
        "runs": [side.describe(name) for side, name in zip(verdicts, names, strict=True)],
        "pairs": pairs,
    }
    if out is not None:
        from ..report.comparison import render

        folder = Path(out)
        replace_file(folder / "comparison.json", json.dumps(found, indent=1, ensure_ascii=False).encode() + b"\n")
        replace_file(folder / "comparison.html", render(found).encode())
    return found


class _Side:
    """One run, read for comparing: what each of its points says of every image, in the order of the image numbers."""

    def __init__(self, run: Run) -> None:
        self.run = run
        clean = run.clean()
        order = np.argsort(clean["index"].to_numpy(), kind="stable")
        self.correct: Mask = clean["correct"].to_numpy()[order]
        jobs = [run.verdicts(job) for job in run.job_ids]
        goal = run.manifest.get("settings", {}).get("targets")
        self.targets = None if goal is None else str(goal)
        self.worst = [(entry, ~fooled[order]) for entry, fooled in worst_cases(jobs)]
        labels = job_labels(run.jobs)
        self.series = {label["series"] for label in labels.values()}
        self.attacks = {
            _key(v.job): (_place(v.job), labels[v.job["id"]]["series"], ~v.fooled[order]) for v in at_every_radius(jobs)
        }

    def points(self) -> dict[Any, tuple[dict[str, Any], Mask]]:
        """Where this run can be compared: what it is called and which images are right, by a key that pairs points."""
        found = {("clean",): ({"what": "clean", "label": "no attack", **_NOWHERE}, self.correct)}
        for entry, right in self.worst:
            place = {**_place(entry), "targets": self.targets}
            found["worst", *_at(place)] = ({"what": "worst", "label": "worst case", **place}, right)
        for key, (place, series, right) in self.attacks.items():
            found["attack", *_at(place), *key] = ({"what": "attack", "label": series, **place}, right)
        return found

    def describe(self, name: str) -> dict[str, Any]:
        about = self.run.manifest["model"]
        return {
            "name": name,
            "path": str(self.run.path),
            "model": about["name"],
            "hash": about["hash"],
            "targets": self.targets,
            "attacks": sorted(self.series),
            "clean": share(int(self.correct.sum()), len(self.correct)),
            "worst": [
                {key: entry[key] for key in ("norm", "radius", "radius_text", "robust")} for entry, _ in self.worst
            ],
        }


_NOWHERE: dict[str, Any] = {"norm": None, "radius": 0.0, "radius_text": "0", "targets": None}


def _pair(first: _Side, second: _Side) -> dict[str, Any]:
    ours, theirs = first.points(), second.points()
    several = max(len(first.series), len(second.series)) > 1  # of a single attack the worst case tells all
    points = [
        {**about, **difference(right, theirs[key][1])}
        for key, (about, right) in ours.items()
        if key in theirs and (several or about["what"] != "attack")
    ]
    unpaired = [
        {"run": side, **about}
        for side, mine, others in (("first", ours, theirs), ("second", theirs, ours))
        for key, (about, _) in mine.items()
        if key not in others and about["what"] == "worst"
    ]
    same = first.run.manifest["model"]["hash"] == second.run.manifest["model"]["hash"]
    return {"same_model": same, "points": points, "unpaired": unpaired}


def _place(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: entry.get(key) for key in ("norm", "radius", "radius_text", "targets")}


def _at(place: dict[str, Any]) -> tuple[Any, ...]:
    """Norm, radius and goal of a point; 8/255 is the same radius as its decimals."""
    return place["norm"], round(float(place["radius"]), 6), place["targets"]


def _key(job: dict[str, Any]) -> tuple[Any, ...]:
    """What an attack at a radius must share with another to be the same."""
    settings = {name: value for name, value in job["settings"].items() if name != "radius"}
    return job["attack"], *_at(job), repr(sorted(settings.items()))


def _names(runs: Sequence[Run]) -> list[str]:
    """What the runs are called, the names of their directories if these differ, after checking that there are two."""
    if len(runs) < 2:
        raise BlindspotsError(
            f"compare needs at least two runs, got {len(runs)}: give the directories of runs of `blindspots evaluate`"
        )
    places = [run.path.resolve() for run in runs]
    twice = next((run for run, place in zip(runs, places, strict=True) if places.count(place) > 1), None)
    if twice is not None:
        raise BlindspotsError(f"the run '{twice.path}' is given twice: give every run once")
    for run in runs:
        run.require_complete()
    short = [place.name for place in places]
    return short if len(set(short)) == len(short) else [str(run.path) for run in runs]


def _same_images(first: Run, second: Run) -> None:
    ours, theirs = first.manifest["data"], second.manifest["data"]
    asked = "evaluate them on the same data, split, limit and seed"
    if ours["fingerprint"] != theirs["fingerprint"]:
        raise BlindspotsError(
            f"the runs '{first.path}' ({_told(ours)}) and '{second.path}' ({_told(theirs)}) hold different images or "
            f"numbers of images, which cannot be paired: {asked}"
        )
    label = [np.asarray(run.clean().sort_by("index")["label"].to_numpy()) for run in (first, second)]
    changed = int((label[0] != label[1]).sum())
    if changed:
        raise BlindspotsError(
            f"the runs '{first.path}' and '{second.path}' take different labels for {changed} of {len(label[0])} "
            "images, so their accuracies are of different questions: evaluate both with --labels-from data"
        )


def _told(data: dict[str, Any]) -> str:
    limit = "" if data.get("limit") is None else f", limit {data['limit']}, seed {data.get('seed')}"
    return f"{data.get('name')} {data.get('split')}, {data.get('count')} images{limit}"
