"""PGD of 40 steps against the bare cost of the model calls that it makes.

Bare is a plain loop round the same module with frozen parameters: a forward, the cross entropy, and its gradient with
respect to the images, which are those that the attack sees. The attack's own forwards and backwards, read off its
result, times the bare cost of each, is the least that it could take. Bare work is timed in between the model calls of
the attack and taken off its time. Every image stays active in every step (keep="lowest", at a radius at which none is
fooled). The attack runs in the batch and the memory format that blindspots chose, as it does for a user; the bare loop
in the cheapest batch and format of those measured here. Choosing is not part of the time, as it is done once for a
model on a machine.
"""

from __future__ import annotations

from functools import partial
from statistics import fmean
from typing import Any, NamedTuple

import blindspots as bs
from blindspots.geometry import BallName

from . import bare
from .measure import Figure, at_most, information, timed
from .meter import Meter, Metered
from .peers import GIVEN
from .subjects import Subject, conv_net, resnet20

# So small that no image is fooled, in units of each norm.
RADII: dict[BallName, float] = {"linf": 1e-4, "l2": 1e-3, "l1": 1e-2}
STEPS = 40
# Images of a piece of bare work: enough for the batches that may be best.
PIECE = 128


class Way(NamedTuple):
    """How images go into the module."""

    batch: int
    channels_last: bool

    def __str__(self) -> str:
        return f"{self.batch}, channels last" if self.channels_last else str(self.batch)


def run(quick: bool) -> list[Figure]:
    figures = []
    for subject, rounds in ((conv_net(), 4), (resnet20(), 2)):
        figures += _subject(subject.head(128) if quick else subject, 3 if quick else rounds)
    return figures


def _subject(subject: Subject, rounds: int) -> list[Figure]:
    count = len(subject.images)
    for parameter in subject.module.parameters():
        parameter.requires_grad_(False)
    layout = bs.Classifier(subject.module).layout(subject.images)
    chosen = Way(layout.batch, layout.channels_last)
    # The cost of max pooling depends on the values, so bare work is done on images that the attack has moved.
    moved = bs.PGD(RADII["linf"], steps=1, keep="lowest")(subject.module, subject.images, subject.labels).images
    seen = Subject(subject.name, subject.module, moved, subject.labels)
    piece = seen.head(PIECE)
    candidates = _candidates(piece, chosen)
    works = {str(way): bare.gradients(piece, way.batch, way.channels_last) for way in candidates}
    works |= {f"gradient {count}": bare.gradients(seen, count), f"forward {count}": bare.forwards(seen, count)}
    works |= {"forward": bare.forwards(piece, chosen.batch)}
    meter = Meter(subject.module, works, every=count)
    model = bs.Classifier(meter, batch=chosen.batch, channels_last=chosen.channels_last)
    fixed = bs.Classifier(meter, batch=GIVEN, channels_last=False)
    runs: dict[str, list[Metered]] = {name: [] for name in (*RADII, "given")}
    linf = bs.PGD(RADII["linf"], steps=STEPS, keep="lowest")
    for number in range(rounds):
        runs["given"].append(meter.run(partial(linf, fixed, subject.images, subject.labels)))
        for norm, radius in RADII.items():
            # The other norms are for information.
            if norm == "linf" or number % 2 == 0:
                attack = bs.PGD(radius, norm, steps=STEPS, keep="lowest")
                runs[norm].append(meter.run(partial(attack, model, subject.images, subject.labels)))
    cost = {way: fmean(r.bare[str(way)].wall for r in runs["linf"]) / PIECE for way in candidates}
    best = min(candidates, key=cost.__getitem__)
    raw: dict[str, Any] = {
        "chosen": str(chosen),
        "best": str(best),
        "bare_ms_per_image": {str(way): 1e3 * c for way, c in cost.items()},
        "seconds": [r.own.wall for r in runs["linf"]],
    }
    at_best, at_count = (str(best), "forward", PIECE), (f"gradient {count}", f"forward {count}", count)
    name = subject.name
    return [
        at_most(
            f"{name}: as it chose ({chosen}), over its calls at the best ({best})",
            _ratios(runs["linf"], *at_best),
            1.08,
            **raw,
        ),
        at_most(
            f"{name}: as it chose, over its calls at the caller's batch of {count}",
            _ratios(runs["linf"], *at_count),
            1.0,
            strict=True,
        ),
        information(
            f"{name}: as it chose, over the best, processor time", _ratios(runs["linf"], *at_best, clock="cpu")
        ),
        information(f"{name}: with a plain batch of {GIVEN} given, over the best", _ratios(runs["given"], *at_best)),
        information(f"{name}: l2, over the best", _ratios(runs["l2"], *at_best)),
        information(f"{name}: l1, over the best", _ratios(runs["l1"], *at_best)),
    ]


def _ratios(runs: list[Metered], gradient: str, forward: str, images: int, clock: str = "wall") -> list[float]:
    """Per round: the attack's time over that of its own forwards and backwards at the bare cost."""
    ratios = []
    for run in runs:
        forwards, backwards = int(run.own.value.forwards.sum()), int(run.own.value.backwards.sum())
        if backwards != STEPS * len(run.own.value):
            raise RuntimeError("an image left early: the radius is too large for this measurement")
        per_gradient = getattr(run.bare[gradient], clock) / images
        per_forward = getattr(run.bare[forward], clock) / images
        ratios.append(getattr(run.own, clock) / (backwards * per_gradient + (forwards - backwards) * per_forward))
    return ratios


def _candidates(subject: Subject, chosen: Way) -> list[Way]:
    """Ways worth measuring in every round: the cheapest four of a first look, and the chosen one."""
    cost = {}
    for way in (Way(batch, last) for batch in (8, 16, 32, 64, 128) for last in (False, True)):
        work = bare.gradients(subject, way.batch, way.channels_last)
        work()
        cost[way] = min(timed(work).wall for _ in range(3))
    return sorted({*sorted(cost, key=cost.__getitem__)[:4], *([chosen] if chosen.batch <= PIECE else [])})
