"""What searches for the smallest perturbation, and some others, cost over their calls.

The time of an attack over that of its own forwards and backwards in a plain loop round the module, in model batches of
32, both measured in turns, on the small network for MNIST trained on images as they are; and DeepFool against the
others', which are given the same 50 steps and batches.
"""

from __future__ import annotations

import torch

import blindspots as bs
from blindspots.attack import Attack

from . import bare
from .measure import Figure, Time, at_least, at_most, information, timed
from .meter import Meter, Metered
from .min_norm import LARGEST, median_size
from .min_norm_peers import peers
from .peers import GIVEN
from .subjects import Subject, conv_net

# Images of a piece of bare work.
PIECE = 128

TIMED: dict[str, Attack] = {
    "DeepFool, l2": bs.DeepFool(LARGEST["l2"]),
    "FMN, l2, 40 steps": bs.FMN(LARGEST["l2"], steps=40),
    "FMN, linf, 40 steps": bs.FMN(LARGEST["linf"], norm="linf", steps=40),
    "APGD, linf, 40 steps": bs.APGD(0.3, steps=40),
    "FAB, linf, 10 steps": bs.FAB(LARGEST["linf"], steps=10),
    "Square, linf, 200 queries": bs.Square(0.1, queries=200),
    "CW, l2, 3 runs of 20 steps": bs.CW(LARGEST["l2"], steps=20, rounds=3),
}


def _overhead(name: str, attack: Attack, subject: Subject, rounds: int) -> Figure:
    piece = subject.head(PIECE)
    works = {"gradient": bare.gradients(piece, GIVEN), "forward": bare.forwards(piece, GIVEN)}
    meter = Meter(subject.module, works, every=len(subject.images))
    model = bs.Classifier(meter, batch=GIVEN)
    runs = [meter.run(lambda: attack(model, subject.images, subject.labels)) for _ in range(rounds)]
    ratios = [_ratio(run, len(piece.images)) for run in runs]
    return at_most(f"{subject.name}: {name}, over its calls in batches of {GIVEN}", ratios, 1.15)


def _ratio(run: Metered, images: int) -> float:
    """A backward costs what a gradient costs more than a forward."""
    forwards, backwards = int(run.own.value.forwards.sum()), int(run.own.value.backwards.sum())
    forward, gradient = (run.bare[name].wall / images for name in ("forward", "gradient"))
    return run.own.wall / (forwards * forward + backwards * (gradient - forward))


def run(quick: bool) -> list[Figure]:
    small, rounds = (conv_net().head(64), 2) if quick else (conv_net(), 4)
    return [*(_overhead(name, attack, small, rounds) for name, attack in TIMED.items()), *_deepfool(small, rounds)]


def _deepfool(subject: Subject, rounds: int) -> list[Figure]:
    """Time of the others' DeepFool in l2 over ours, and the medians that they find."""
    model = bs.Classifier(subject.module, batch=GIVEN)
    attack, steps = bs.DeepFool(LARGEST["l2"]), 50
    finders = peers("deepfool", "l2", steps)
    times: dict[str, list[Time]] = {name: [] for name in ("blindspots", *finders)}
    for _ in range(rounds):
        times["blindspots"].append(timed(lambda: attack(model, subject.images, subject.labels).images))
        for name, find in finders.items():
            parts = list(zip(subject.images.split(GIVEN), subject.labels.split(GIVEN), strict=True))
            times[name].append(
                timed(lambda find=find, parts=parts: torch.cat([find(subject.module, x, y) for x, y in parts]))
            )
    medians = {name: f"{median_size(subject, taken[-1].value, 'l2'):.4g}" for name, taken in times.items()}
    asked = {"Foolbox": 2.0, "adv-lib": 1.0}
    figures = []
    for name in finders:
        ratios = [theirs.wall / own.wall for theirs, own in zip(times[name], times["blindspots"], strict=True)]
        what = f"deepfool, l2: time of {name} over ours; medians {medians[name]} and {medians['blindspots']}"
        figures.append(at_least(what, ratios, asked[name]) if name in asked else information(what, ratios))
    return figures
