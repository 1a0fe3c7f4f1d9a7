"""The statistics of a finished run, as plain JSON: what the report and `blindspots show` print.

Every number follows from the rows alone, so two identical runs have identical summaries; times are apart.
Robust accuracy is the share of all images that were not fooled: what the clean model already gets wrong
counts as fooled and is credited to no attack.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .curves import at_every_radius, smallest_curve, worst_curve
from .flags import red_flags
from .intervals import LEVEL, share
from .run import NORMS, Run, sizes_of
from .verdicts import Verdicts

Mask = NDArray[np.bool_]
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def summarise(run: Run) -> dict[str, Any]:
    """Summarise a finished run.

    Returns a dict of JSON values: `count`, `level`, `clean`, `jobs` (one entry each), `worst` (one per norm
    and radius), `curves` (the worst case at every radius, for norms in which smallest changes were looked for),
    `classes`, `confusion` (per norm, at its largest radius), `pairs` (which attack fooled whom, each at its own
    radius), `model_calls` and `flags`. A share is `{"count", "of", "value", "low", "high"}`; a curve a list of
    (radius, images still right from there on).

    Raises:
        BlindspotsError: the run is unfinished or a file is damaged.

    >>> summarise(Run("runs/r20"))["clean"]["value"]  # doctest: +SKIP
    0.968
    """
    clean = run.clean()
    label, correct = clean["label"].to_numpy(), clean["correct"].to_numpy()
    verdicts = {job: run.verdicts(job) for job in run.job_ids}
    labels = job_labels(run.jobs)
    jobs = [{**_job(run, verdict), **labels[job]} for job, verdict in verdicts.items()]
    worst = worst_cases(list(verdicts.values()))
    return {
        "format": 1,
        "count": len(label),
        "level": LEVEL,
        "clean": share(int(correct.sum()), len(label)),
        "jobs": jobs,
        "worst": [entry for entry, _ in worst],
        "curves": _curves(list(verdicts.values())),
        "classes": _classes(run, label, correct, worst),
        "confusion": _confusion(label, verdicts, worst),
        "pairs": _pairs(verdicts),
        "model_calls": {
            "forwards": sum(job["forwards"]["total"] for job in jobs),
            "backwards": sum(job["backwards"]["total"] for job in jobs),
        },
        "flags": red_flags(run, verdicts),
    }


def seconds(run: Run) -> dict[str, Any]:
    """Wall time of a run: `{"total": s, "jobs": {job id: s, "clean": s}}`, apart from all that is repeatable."""
    times = run.timings()
    return {"total": sum(times.values()), "jobs": times}


def job_labels(jobs: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Short names of jobs: `series` (attack and what sets it apart, over all radii) and `label` (with norm and radius).

    Settings are named only where two jobs with the same attack, norm and radius differ in them.
    """
    names: dict[str, dict[str, str]] = {}
    for job in jobs:
        twins = [j for j in jobs if all(j.get(key) == job.get(key) for key in ("attack", "norm", "radius", "radii"))]
        differing = sorted(
            key
            for key in set().union(*(twin["settings"] for twin in twins)) - {"radius"}
            if any(twin["settings"].get(key) != job["settings"].get(key) for twin in twins)
        )
        said = [f"{key} {job['settings'].get(key)}" for key in differing if key != "targets"]
        if job["targets"]:
            said.insert(0, f"targets {job['targets']}")
        series = f"{job['attack']} ({', '.join(said)})" if said else str(job["attack"])
        upto = "up to " if len(job.get("radii", ())) > 1 else ""
        names[job["id"]] = {"series": series, "label": f"{series}, {job['norm']} {upto}{job['radius_text']}"}
    return names


def _job(run: Run, verdict: Verdicts) -> dict[str, Any]:
    job, attacked = verdict.job, verdict.attacked
    rows = run.rows(job["id"])
    reached = rows["success"].to_numpy()
    tried = rows["attacked"].to_numpy()
    return {
        **{key: job[key] for key in ("id", "attack", "norm", "radius", "radius_text", "control", "steps", "targets")},
        "robust": share(int((~verdict.fooled).sum()), len(attacked)),
        "success": share(int(verdict.success.sum()), int(attacked.sum())),
        "targets_reached": share(int(reached.sum()), int(tried.sum())) if job["targets"] else None,
        "sizes": {name: _spread(rows[f"size_{name}"].to_numpy()[reached]) for name in sizes_of(job)},
        "bends": {name: _quantiles(rows[f"size_{name}"].to_numpy()[reached]) for name in sizes_of(job)[len(NORMS) :]},
        "forwards": _cost(verdict.forwards[attacked]),
        "backwards": _cost(verdict.backwards[attacked]),
        **({"curve": smallest_curve(verdict)} if verdict.minimum else {}),
        **({"carried": int(verdict.carried.sum())} if "carries" in job else {}),
        **({} if verdict.decided is None else {"members": _members(job["members"], verdict.decided)}),
    }


def _members(names: list[str], decided: NDArray[np.int64]) -> list[dict[str, Any]]:
    """What each attack of an ensemble added: the images that it fooled and those before it had not."""
    return [{"name": name, "added": int((decided == number).sum())} for number, name in enumerate(names)]


def _spread(size: NDArray[np.float64]) -> dict[str, float] | None:
    if not len(size):
        return None
    return {"median": float(np.median(size)), "mean": float(size.mean()), "p90": float(np.quantile(size, 0.9))}


def _quantiles(size: NDArray[np.float64]) -> dict[str, Any] | None:
    """How a measure spreads over the successes: their number, the mean, and the values at the shares QUANTILES."""
    if not len(size):
        return None
    return {"count": len(size), "mean": float(size.mean()), "quantiles": np.quantile(size, QUANTILES).tolist()}


def _cost(calls: NDArray[np.int64]) -> dict[str, Any]:
    if not len(calls):
        return {"total": 0, "mean": None, "max": None}
    return {"total": int(calls.sum()), "mean": float(calls.mean()), "max": int(calls.max())}


def worst_cases(jobs: list[Verdicts]) -> list[tuple[dict[str, Any], Mask]]:
    """The worst case per (norm, radius), with the mask of fooled images; monotone in the radius by construction."""
    norms = list(dict.fromkeys(v.job["norm"] for v in jobs))
    verdicts, calls = at_every_radius(jobs), _calls(jobs)
    found = []
    points = {(v.job["norm"], v.job["radius"]) for v in verdicts}
    for norm, radius in sorted(points, key=lambda point: (norms.index(point[0]), point[1])):
        inside = [v for v in verdicts if v.job["norm"] == norm and v.job["radius"] <= radius]
        here = [v for v in inside if v.job["radius"] == radius]
        fooled = np.any([v.fooled for v in inside], axis=0)
        turned = np.any([v.success for v in inside], axis=0)
        entry = {
            "norm": norm,
            "radius": radius,
            "radius_text": here[0].job["radius_text"],
            "robust": share(int((~fooled).sum()), len(fooled)),
            "jobs": list(dict.fromkeys(v.job["id"] for v in inside)),
            "credits": _credits(here, calls),
            "smaller_only": int((turned & ~np.any([v.success for v in here], axis=0)).sum()),
        }
        found.append((entry, fooled))
    return found


def _credits(here: list[Verdicts], calls: dict[str, NDArray[np.int64]]) -> list[dict[str, Any]]:
    """What each job did at one norm and radius: its shares, the images it fooled, and of those the ones it fooled first
    (in job order), with the fewest model calls, and alone; `missed` are those that each of the others did not fool."""
    success = np.stack([v.success for v in here])  # (jobs, N)
    spent = np.stack([calls[v.job["id"]] for v in here])
    by_any = success.any(axis=0)
    first = np.where(by_any, success.argmax(axis=0), -1)
    cheapest = np.where(by_any, np.where(success, spent, np.iinfo(np.int64).max).argmin(axis=0), -1)
    alone = success & (success.sum(axis=0) == 1)
    return [
        {
            "job": v.job["id"],
            "robust": share(int((~v.fooled).sum()), len(v.fooled)),
            "success": share(int(success[k].sum()), int(v.attacked.sum())),
            "fooled": int(success[k].sum()),
            "first": int((first == k).sum()),
            "cheapest": int((cheapest == k).sum()),
            "unique": int(alone[k].sum()),
            "missed": (success[k] & ~success).sum(axis=1).tolist(),
        }
        for k, v in enumerate(here)
    ]


def _calls(jobs: list[Verdicts]) -> dict[str, NDArray[np.int64]]:
    """Model calls (N,) of each job; of an image that was taken over, those that found it."""
    calls: dict[str, NDArray[np.int64]] = {}
    for v in sorted(jobs, key=lambda job: float(job.job["radius"])):  # what is taken over has a smaller radius
        own = v.forwards + v.backwards
        calls[v.job["id"]] = np.where(v.carried, calls[v.job["carries"]], own) if "carries" in v.job else own
    return calls


def _curves(jobs: list[Verdicts]) -> list[dict[str, Any]]:
    """The worst case at every radius, per norm with a search for the smallest change."""
    norms = dict.fromkeys(v.job["norm"] for v in jobs if v.minimum)
    return [{"norm": norm, "curve": worst_curve([v for v in jobs if v.job["norm"] == norm])} for norm in norms]


def _classes(
    run: Run, label: NDArray[np.int64], correct: Mask, worst: list[tuple[dict[str, Any], Mask]]
) -> list[dict[str, Any]]:
    table = []
    for number in np.unique(label).tolist():
        mine = label == number
        count = int(mine.sum())
        table.append(
            {
                "class": number,
                "name": class_name(run.manifest["class_names"], number),
                "count": count,
                "clean": share(int(correct[mine].sum()), count),
                "robust": [
                    {
                        **{key: entry[key] for key in ("norm", "radius", "radius_text")},
                        "robust": share(int((~fooled[mine]).sum()), count),
                    }
                    for entry, fooled in worst
                ],
            }
        )
    return table


def _confusion(
    label: NDArray[np.int64], verdicts: dict[str, Verdicts], worst: list[tuple[dict[str, Any], Mask]]
) -> list[dict[str, Any]]:
    """Per norm at its largest radius: how often an attack turned images of a label into which prediction.

    The prediction is that of the first job that fooled the image; clean mistakes are not in it.
    """
    found = []
    largest = {entry["norm"]: entry for entry, _ in worst}  # ascending radii: the last of a norm stays
    for entry in largest.values():
        inside = [verdicts[job] for job in entry["jobs"]]
        success = np.stack([v.success for v in inside])
        turned = success.any(axis=0)
        prediction = np.stack([v.prediction for v in inside])[success.argmax(axis=0), np.arange(len(label))]
        pairs = Counter(zip(label[turned].tolist(), prediction[turned].tolist(), strict=True))
        found.append(
            {
                **{key: entry[key] for key in ("norm", "radius", "radius_text")},
                "pairs": [
                    {"label": a, "prediction": b, "count": n}
                    for (a, b), n in sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))
                ],
            }
        )
    return found


def _pairs(verdicts: dict[str, Verdicts]) -> dict[str, Any]:
    """`missed[i][j]`: images that job i fooled and job j did not (clean mistakes count for neither)."""
    success = np.stack([v.success for v in verdicts.values()]) if verdicts else np.zeros((0, 0), dtype=bool)
    hits = success.astype(np.int64)
    missed = hits.sum(axis=1, keepdims=True) - hits @ hits.T  # fooled by i, less fooled by both
    alone = (success & (success.sum(axis=0) == 1)).sum(axis=1)
    return {"jobs": list(verdicts), "missed": missed.tolist(), "unique": alone.tolist()}


def class_name(names: list[str], number: int) -> str:
    """The name of a class; a prediction may lie outside the classes that the data names."""
    return str(names[number]) if 0 <= number < len(names) else f"class {number}"
