"""The page of measured figures: one section a benchmark, made from the records in benchmarks/results."""

from __future__ import annotations

import inspect
import json
import os
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from .measure import Figure

INTRODUCTION = """\
# Measured figures

Written by `python -m benchmarks --out docs/benchmarks.md`; `benchmarks/results` has the records with every round.
`make bench` prints the same tables, `python -m benchmarks overhead --quick` a short form of one of them.

All of this runs on one processor thread. What is compared takes turns within one run, and the ratio is formed in each
round; a line gives the median of the rounds and, as its spread, the smallest and the largest. Ratios of times measured
together mean something on another machine. Seconds on their own do not, and are given only where a limit in seconds is
asked. A benchmark that is run again replaces its own section and no other, so sections may differ in date.
"""

# Where what was measured is kept: a file a benchmark.
RESULTS = Path(__file__).parent / "results"
ORDER = (
    *("overhead", "peers", "min_norm", "min_norm_time", "verdict", "autoattack", "queries", "memory"),
    *("imports", "invariance", "kill", "demo", "fast_settings", "lbfgs", "szegedy"),
    *("training", "train_kill", "madry", "generative", "moments"),
)
TITLES = {
    "overhead": "Overhead over the model's own calls",
    "peers": "The same attack elsewhere",
    "min_norm": "Smallest perturbations",
    "min_norm_time": "Smallest perturbations over their calls",
    "verdict": "Time to the verdict",
    "autoattack": "AutoAttack and fast beside the reference",
    "queries": "Queries of black-box attacks",
    "memory": "Memory against the number of images",
    "imports": "Import and help",
    "invariance": "Independence of company",
    "kill": "Killed and resumed",
    "demo": "The embedded default",
    "fast_settings": "Settings of fast",
    "lbfgs": "L-BFGS for a batch",
    "szegedy": "Szegedy's attack for a batch",
    "training": "Adversarial training",
    "train_kill": "Training killed and resumed",
    "madry": "Madry's network on MNIST",
    "moments": "Moments from formulas",
    "generative": "Generated perturbations",
}


def make_record(figures: list[Figure], seconds: float, quick: bool, load: tuple[float, float]) -> dict[str, Any]:
    """What one benchmark found, where and when."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "seconds": round(seconds, 1),
        "quick": quick,
        "load": {"before": round(load[0], 2), "after": round(load[1], 2)},
        "machine": machine(),
        "figures": [asdict(figure) for figure in figures],
    }


def machine() -> dict[str, Any]:
    """Processor, threads and versions."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "versions": {"python": platform.python_version()}
        | {
            name: _version(name)
            for name in (
                "blindspots",
                "torch",
                "foolbox",
                "torchattacks",
                "adversarial-robustness-toolbox",
                "pyautoattack",
            )
        },
    }


def write_page(path: Path, records: dict[str, dict[str, Any]], results: Path = RESULTS) -> None:
    """Keep each record in a file of `results`, beside those of earlier runs, and make the page of all."""
    results.mkdir(parents=True, exist_ok=True)
    for name, record in records.items():
        (results / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    files = {name: results / f"{name}.json" for name in ORDER}
    known = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.is_file()}
    sections = [_section(name, record) for name, record in known.items()]
    path.write_text("\n".join([INTRODUCTION, *sections]), encoding="utf-8")


def _section(name: str, record: dict[str, Any]) -> str:
    text = inspect.cleandoc(import_module(f".{name}", __package__).__doc__ or "")
    rows = [
        f"| {f['what']} | {f['asked'] or '-'} | {f['measured']} | {_mark(f['met'])} | {f['spread'] or '-'} |"
        for f in record["figures"]
    ]
    where, load = record["machine"], record["load"]
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items() if number)
    foot = (
        f"{'Short form. ' if record['quick'] else ''}{record['date']}; {where['processor']}, {where['cores']} cores, "
        f"{where['threads']} thread used, {where['system']}; load of the machine {load['before']} before and "
        f"{load['after']} after; {record['seconds']:.0f} s; {versions}."
    )
    head = "| what | asked | measured | met | spread |\n|---|---|---|---|---|"
    return f"## {TITLES[name]}\n\n{text}\n\n{head}\n" + "\n".join(rows) + f"\n\n{foot}\n"


def _mark(met: bool | None) -> str:
    return {True: "yes", False: "**no**", None: "-"}[met]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name, which Python itself does not know on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
