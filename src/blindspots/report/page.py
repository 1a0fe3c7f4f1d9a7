"""The report: one HTML file that needs nothing else, no network, no script, and reads well everywhere."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from ..evaluation.flags import CHECKS, PROBES
from ..evaluation.run import NORMS, Run
from ..evaluation.summary import class_name, seconds
from . import words
from .figures import curves
from .pictures import gallery
from .templating import TEMPLATES, environment, style

CLASSES = 40  # rows of the class table; of more classes the least robust are shown
LONG = 300  # characters of one setting
CONFUSED = 20  # classes up to which confusion is a square; beyond, a list of the most frequent changes


def write_report(run: Run, summary: dict[str, Any], path: str | Path) -> Path:
    """Write the report of a finished run to `path` and return it.

    Everything in the page follows from the run and its summary, except the seconds; it is written under
    another name and moved into place, so a reader never sees half a page.

    Raises:
        BlindspotsError: the run is unfinished or a file is damaged.

    >>> write_report(run, summarise(run), "runs/r20/report.html")  # doctest: +SKIP
    PosixPath('runs/r20/report.html')
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.tmp")
    unfinished.write_text(render(run, summary), encoding="utf-8")
    os.replace(unfinished, path)
    return path


def render(run: Run, summary: dict[str, Any]) -> str:
    """The page as text; names and paths from the run are escaped."""
    templates = environment(TEMPLATES)
    for name in ("percent", "interval", "number", "duration", "plural", "sureness", "with_control", "used"):
        templates.filters[name] = getattr(words, name)
    templates.filters["breakable"] = _breakable
    labels = {job["id"]: job["label"] for job in summary["jobs"]}
    series = {job["id"]: job["series"] for job in summary["jobs"]}
    norms = list(dict.fromkeys(job["norm"] for job in summary["jobs"]))
    return templates.get_template("report.html").render(
        style=style(),
        manifest=run.manifest,
        run={
            "seed": run.manifest.get("seed"),
            "model batch": run.manifest.get("batch"),
            "shards": len(run.shard_ids),
            "jobs": len(run.job_ids),
        },
        summary=summary,
        labels=labels,
        series=series,
        jobs={job["id"]: job for job in summary["jobs"]},
        largest=words.largest(summary),
        flags=words.grouped_flags(summary),
        trust=words.trust(summary),
        checks=(*CHECKS, *([PROBES] if "probes" in run.manifest else [])),
        strips=_strips(summary),
        sizes=NORMS,
        bends=_bends(summary),
        figures=[
            {
                "norm": norm,
                "wide": Markup(curves(summary, norm, wide=True)),
                "narrow": Markup(curves(summary, norm, wide=False)),
            }
            for norm in norms
        ],
        gallery=gallery(run, labels),
        classes=_classes(summary),
        confusions=[_confusion(run, entry) for entry in summary["confusion"]],
        rivals=_rivals(summary),
        taken=any(job.get("carried") for job in summary["jobs"]),
        seconds=seconds(run),
        settings=json.dumps(run.manifest.get("settings", {}), indent=2, ensure_ascii=False),
        plain=_plain,
    )


def _strips(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """What became of all images, without attack and at every radius: right, turned by an attack, wrong already."""
    count, clean = summary["count"], summary["clean"]
    rows = [{"name": "no attack", "share": clean, "turned": 0, "apart": False}]
    norm = None
    for point in summary["worst"]:
        turned = clean["count"] - point["robust"]["count"]
        name = f"{point['norm']} {point['radius_text']}"
        rows.append({"name": name, "share": point["robust"], "turned": turned, "apart": point["norm"] != norm})
        norm = point["norm"]
    return [{**row, "wrong": count - clean["count"]} for row in rows]


def _bends(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """For every measure of bent images, how it spreads over the successes of each job; `top` ends a norm's scale."""
    tables = []
    for name, title in words.MEASURES.items():
        jobs = [job for job in summary["jobs"] if job["bends"].get(name)]
        tops: dict[str, float] = {}
        for job in jobs:
            tops[job["norm"]] = max(tops.get(job["norm"], 0), job["bends"][name]["quantiles"][-1])
        # Where nothing was to be zoomed, nothing is to be told of it.
        unused = name == "zoom" and all(set(job["bends"][name]["quantiles"]) == {1.0} for job in jobs)
        if jobs and not unused:
            rows = [{"label": job["label"], "top": tops[job["norm"]] or 1.0, **job["bends"][name]} for job in jobs]
            tables.append({"title": title, "rows": rows})
    return tables


def _classes(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the class table: all, or the least robust at the last radius, in class order."""

    def robust(entry: dict[str, Any]) -> tuple[float, int]:
        last = entry["robust"][-1]["robust"] if entry["robust"] else entry["clean"]
        return float(last["value"]), int(entry["class"])

    kept = sorted(summary["classes"], key=robust)[:CLASSES]
    return sorted(kept, key=lambda entry: int(entry["class"]))


def _confusion(run: Run, entry: dict[str, Any]) -> dict[str, Any]:
    """A square of label by prediction where the classes are few enough, else the most frequent changes."""
    names = run.manifest["class_names"]
    seen = sorted({pair[side] for pair in entry["pairs"] for side in ("label", "prediction")})
    if len(names) <= CONFUSED:
        seen = sorted({*seen, *range(len(names))})
    times = Counter({(pair["label"], pair["prediction"]): pair["count"] for pair in entry["pairs"]})
    return {
        **{key: entry[key] for key in ("norm", "radius_text")},
        "total": times.total(),
        "most": max(times.values(), default=1),
        "names": [class_name(names, number) for number in seen],
        "square": [[times[label, prediction] for prediction in seen] for label in seen]
        if len(seen) <= CONFUSED
        else None,
        "pairs": [
            {**pair, "label": class_name(names, pair["label"]), "prediction": class_name(names, pair["prediction"])}
            for pair in entry["pairs"][:CONFUSED]
        ],
    }


def _rivals(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Per norm and radius: each attack's share in the worst case, and what each other attack missed of it."""
    last = {id(point) for point in words.largest(summary)}
    return [
        {
            **point,
            "rows": point["credits"],
            "columns": [credit["job"] for credit in point["credits"]],
            "open": id(point) in last,
        }
        for point in summary["worst"]
    ]


def _breakable(name: str) -> Markup:
    """A name that may be broken after its underscores, slashes and dots; escaped."""
    return Markup(re.sub(r"([_/.])", r"\1<wbr>", str(escape(name))))


def _plain(value: Any) -> str:
    """A setting as text: lists and dicts as compact JSON, nothing as a dash."""
    if value is None or value in ([], {}):
        return "–"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else str(value)
    return text if len(text) <= LONG else f"{text[:LONG]}… (manifest.json has all)"
