"""The same attack in other libraries: equal radius, steps, step size and random start, on the same images and network.

"As it comes" gives a library the caller's 256 images through its usual door. "Fed by hand" cuts them for it into the
model batch that blindspots chose for itself, which takes that advantage away (not that of the memory format, which
blindspots chooses too); of this nothing is asked. Ratios are the
time of the other library over that of blindspots: above 1, blindspots is faster. It runs all steps for all images here
(keep="lowest"), as the others do. The job is to return images and to say which of them fool the network: where a
library returns images alone, the forward that a caller then needs is part of its time. Success is counted once more
outside; the radii are such that not all fall, and a library that fools more than one image in a hundred more would not
count as beaten. Each run is measured in units of a bare gradient, timed in between its own model calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from statistics import median
from typing import Any

import torch
from torch import Tensor

import blindspots as bs
from blindspots.batching import Layout

from . import bare
from .libraries import installed
from .measure import Figure, information
from .meter import Meter, Metered
from .subjects import Subject, conv_net, resnet20

# Radii at which a part of the images withstands, steps, and rounds. Few steps are unkind to blindspots, which makes
# forwards that others do not: of the clean image, and of a success to verify it.
CASES = ((conv_net, 0.1, 40, 3), (resnet20, 0.014, 20, 2))
PIECE = 64
# Tuned on a busy machine, the batch that blindspots chooses may be far from the best; this one is given, to compare.
# With it images stay in the usual memory format.
GIVEN = 32

Runs = dict[str, list[Metered]]


def run(quick: bool) -> list[Figure]:
    figures = []
    for make, radius, steps, rounds in CASES:
        subject = make().head(64) if quick else make()
        figures += _subject(subject, radius, 10 if quick else steps, 2 if quick else rounds)
    return figures


def _subject(subject: Subject, radius: float, steps: int, rounds: int) -> list[Figure]:
    runs, layout = race(subject, bs.PGD(radius, steps=steps, step_size=2.5 * radius / steps, keep="lowest"), rounds)
    success = {name: median(r.own.value for r in each) for name, each in runs.items()}
    figures = []
    for name in list(runs)[1:]:
        values = ratios(runs, name)
        what = (
            f"{subject.name}, {steps} steps: {name} (fools {success[name]:.0f}, blindspots {success['blindspots']:.0f})"
        )
        raw = {"fooled": success[name], "seconds": [r.own.wall for r in runs[name]], "layout": asdict(layout)}
        figure = information(what, values, **raw)
        if name.endswith("as it comes"):
            equal = success["blindspots"] >= success[name] - len(subject.images) / 100
            met = median(values) >= 1 and equal
            figure = Figure(what, figure.measured, ">= 1", figure.spread, met, figure.raw)
        figures.append(figure)
    return figures


def race(subject: Subject, attack: bs.PGD, rounds: int) -> tuple[Runs, Layout]:
    """Let everybody make this attack in turn; what a run returns is the number of images it fooled."""
    layout = bs.Classifier(subject.module).layout(subject.images)
    batch = layout.batch
    meter = Meter(subject.module, {"bare": bare.gradients(subject.head(PIECE), batch)}, every=len(subject.images))
    metered = Subject(subject.name, meter, subject.images, subject.labels)
    model = bs.Classifier(meter, batch=batch, channels_last=layout.channels_last, smaller=layout.smaller)
    radius, step = float(attack.radius), float(attack.step_size or 0)
    works: dict[str, Callable[[], Tensor]] = {
        "blindspots": lambda: attack(model, subject.images, subject.labels).images
    }
    fixed = bs.Classifier(meter, batch=GIVEN)
    works[f"blindspots, batch {GIVEN} given"] = lambda: attack(fixed, subject.images, subject.labels).images
    for name, make in installed().items():
        works[f"{name}, as it comes"] = make(metered, radius, step, attack.steps, None)
        works[f"{name}, fed by hand"] = make(metered, radius, step, attack.steps, batch)
    runs: Runs = {name: [] for name in works}
    for number in range(rounds):
        for name in list(works) if number % 2 == 0 else list(works)[::-1]:
            runs[name].append(_counted(meter.run(works[name]), subject))
    return runs, layout


def ratios(runs: Mapping[str, list[Metered]], name: str) -> list[float]:
    """Per round: the other library's time over ours, each in units of the bare gradient during its run."""
    return [_units(theirs) / _units(ours) for theirs, ours in zip(runs[name], runs["blindspots"], strict=True)]


def _units(run: Metered) -> float:
    return run.own.wall / run.bare["bare"].wall


def _counted(run: Metered, subject: Subject) -> Metered:
    own: Any = run.own
    return Metered(type(own)(own.wall, own.cpu, _fooled(subject, own.value)), run.bare)


@torch.no_grad()
def _fooled(subject: Subject, images: Tensor) -> int:
    """How many of the images the network no longer classifies as their labels."""
    answers = torch.cat([subject.module(part).argmax(1) for part in images.split(64)])
    return int((answers != subject.labels).sum())
