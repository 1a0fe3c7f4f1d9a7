"""What searches for the smallest perturbation, and some others, cost over their calls.

The time of an attack over that of its own forwards and backwards in a plain loop round the module, both measured in
turns, on the small network for MNIST trained on images as they are. The attack runs in the model batch and the memory
format that blindspots chose, as it does for a user, and the plain loop in the same; what it comes to in plain batches
of 32 is beside it. A batch that is not full costs as much as a full one there, so where images leave one by one the
rest of the last batch is part of what is measured, and so is a batch whose gradient one of its images alone needs; the
radii are such that not all images fall at once.

And DeepFool against the others', which are given the same 50 steps: with all images at once, as they come, and in the
batches that blindspots chose.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import blindspots as bs
from blindspots.attack import Attack
from blindspots.batching import Layout

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
    "APGD, linf, 40 steps": bs.APGD(0.1, steps=40),
    "FAB, linf, 10 steps": bs.FAB(LARGEST["linf"], steps=10),
    "Square, linf, 200 queries": bs.Square(0.1, queries=200),
    "CW, l2, 3 runs of 20 steps": bs.CW(LARGEST["l2"], steps=20, rounds=3),
}


def _overhead(name: str, attack: Attack, subject: Subject, rounds: int) -> list[Figure]:
    layout = bs.Classifier(subject.module).layout(subject.images)
    plain = Layout(GIVEN)
    ratios = {
        each: [_ratio(_metered(attack, subject, each), PIECE) for _ in range(count)]
        for each, count in ((layout, rounds), (plain, 1))
    }
    what = f"{subject.name}: {name}, over its calls"
    told = f"{layout.batch}{', channels last' * layout.channels_last}"
    return [
        at_most(f"{what}, as it chose ({told})", ratios[layout], 1.15),
        information(f"{what}, in batches of {GIVEN}", ratios[plain]),
    ]


def _metered(attack: Attack, subject: Subject, layout: Layout) -> Metered:
    """A run with bare work in the same layout in between."""
    piece = subject.head(PIECE)
    works = {
        "gradient": bare.gradients(piece, layout.batch, layout.channels_last),
        "forward": bare.forwards(piece, layout.batch, layout.channels_last),
    }
    meter = Meter(subject.module, works, every=len(subject.images))
    return meter.run(lambda: attack(_model(meter, layout), subject.images, subject.labels))


def _model(module: torch.nn.Module, layout: Layout) -> bs.Classifier:
    return bs.Classifier(module, batch=layout.batch, channels_last=layout.channels_last, smaller=layout.smaller)


def _ratio(run: Metered, images: int) -> float:
    """A backward costs what a gradient costs more than a forward."""
    forwards, backwards = int(run.own.value.forwards.sum()), int(run.own.value.backwards.sum())
    forward, gradient = (run.bare[name].wall / images for name in ("forward", "gradient"))
    return run.own.wall / (forwards * forward + backwards * (gradient - forward))


def run(quick: bool) -> list[Figure]:
    small, rounds = (conv_net().head(64), 2) if quick else (conv_net(), 3)
    overheads = [figure for name, attack in TIMED.items() for figure in _overhead(name, attack, small, rounds)]
    return [*overheads, *_deepfool(small, 2)]


def _deepfool(subject: Subject, rounds: int) -> list[Figure]:
    """Time of the others' DeepFool in l2 over ours, and the medians that they find."""
    layout = bs.Classifier(subject.module).layout(subject.images)
    model, attack, steps = _model(subject.module, layout), bs.DeepFool(LARGEST["l2"]), 50
    works: dict[str, Callable[[], Tensor]] = {
        "blindspots": lambda: attack(model, subject.images, subject.labels).images
    }
    for name, find in peers("deepfool", "l2", steps).items():
        ways = {"as it comes": len(subject.images), f"in batches of {layout.batch}": layout.batch}
        for way, batch in list(ways.items())[: 1 if name == "ART" else 2]:
            parts = list(zip(subject.images.split(batch), subject.labels.split(batch), strict=True))
            works[f"{name}, {way}"] = lambda find=find, parts=parts: torch.cat(
                [find(subject.module, x, y) for x, y in parts]
            )
    times: dict[str, list[Time]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(timed(work))
    medians = {name: f"{median_size(subject, taken[-1].value, 'l2'):.4g}" for name, taken in times.items()}
    asked = {"Foolbox": 2.0, "adv-lib": 1.0}
    figures = []
    for name in list(works)[1:]:
        ratios = [theirs.wall / own.wall for theirs, own in zip(times[name], times["blindspots"], strict=True)]
        what = f"deepfool, l2: time of {name} over ours; medians {medians[name]} and {medians['blindspots']}"
        library = name.split(",")[0]
        figures.append(at_least(what, ratios, asked[library]) if library in asked else information(what, ratios))
    return figures
