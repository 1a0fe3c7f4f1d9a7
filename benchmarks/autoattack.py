"""AutoAttack and `fast` beside the reference: AutoAttack standard by its authors, as pyautoattack packages it.

Victims are small networks for MNIST that the benchmark trains itself: on images as they are, on one-step and on
five-step perturbations of linf radius 0.2. The radii are 0.2 and 1.5 (l2) for the trained ones, and 0.3 and 3 for the
undefended one, where an attack has little to do. The images are the first of the test set, right or wrong at first. A
network for CIFAR-10, where it is found, was trained on five-step perturbations of linf 8/255 and is attacked at it.
Both have the same radius and the settings of the standard version; the reference has its own random numbers and the
batch of 250 that it comes with.

Asked of AutoAttack: a robust accuracy not more than 0.2 points above that of the reference, the same verdict on 99.5 %
of the images, no more passes (images forwards and backwards; of blindspots those that its attacks ask for, of the
reference those that the network sees), and the reference takes at least 15 times as long on the undefended network, and
1.2 times on the one trained on five steps.

Both draw at random. Each image on which they disagree is therefore attacked by both under four more seeds, and is named
with how often of five times each fools it, and with the member that fooled it here: one that only some seeds of a
library fool is on the edge of what it finds, and two runs of that library would disagree on it too.

Asked of `fast`, on the network trained on five steps: the same accuracy, and that the reference takes 8 times as long.
The settings of its runs are chosen by "Settings of fast", on other images and another network. Runs alone left 86.0 %
(linf) and 73.4 % (l2) of the images here, which is why searches for the smallest change end it now; which ones was
decided by what they found on those other images.

Times are in units of a bare gradient, timed in between the model calls of each run. Every cell is run once: the
reference takes minutes to hours.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import blindspots as bs
from blindspots.attack import Attack
from blindspots.result import Result
from blindspots.several import Several

from . import bare
from .measure import Figure
from .meter import Meter, Metered
from .min_norm import Calls
from .parts import Parts
from .robust_nets import KINDS, RADIUS, victim
from .subjects import Subject

RADII = {"linf": 0.2, "l2": 1.5}
UNDEFENDED = {"linf": 0.3, "l2": 3.0}
IMAGES, COLOURED, QUICK = 500, 100, 20
# Images between two pieces of bare work, and images of a piece.
EVERY, PIECE = 20_000, 250
# The least times of the reference over ours, by the kind of network.
ASKED = {"plain": 15.0, "PGD-trained": 1.2}
FAST_ASKED = 8.0
# Of the further runs on images of which the two disagree.
SEEDS = (1, 2, 3, 4)
POINTS, AGREEMENT = 0.2, 99.5


@dataclass(frozen=True)
class Verdict:
    """What a run found: which images are fooled, what that cost, and how it was decided."""

    fooled: Tensor
    passes: int
    time: float
    seconds: float
    decided: list[str]

    @property
    def robust(self) -> float:
        """Robust accuracy in per cent."""
        return 100 * float((~self.fooled).double().mean())


def run(quick: bool) -> list[Figure]:
    parts, figures = Parts("autoattack", quick), []
    for kind in KINDS:
        for norm in RADII:
            count = QUICK if quick else IMAGES
            figures += parts.part(f"{kind}-{norm}", lambda a=(kind, norm, count): cell(*a))
    with suppress(bs.BlindspotsError):
        bs.dataset("cifar10", split="test", limit=1)
        count = QUICK if quick else COLOURED
        figures += parts.part("cifar10", lambda: cell("PGD-trained", "linf", count, "cifar10"))
    parts.forget()
    return figures


def cell(kind: str, norm: str, count: int, data: str = "mnist") -> list[Figure]:
    """The figures of one network in one norm."""
    subject, radius = victim(kind, count, name=data), (UNDEFENDED if kind == "plain" else RADII)[norm]
    radius = RADIUS[data] if data == "cifar10" else radius
    name = f"{subject.name}, {norm} {radius:.3g}, {count} images"
    theirs = reference(subject, norm, radius)
    ours = mine(subject, bs.AutoAttack(radius, norm))  # type: ignore[arg-type]
    figures = [
        *_verdicts(f"{name}: autoattack", ours, theirs),
        _agreement(name, ours, theirs),
        _named(name, ours, theirs, subject, norm, radius),
        _ratio(f"{name}: autoattack, passes over the reference's", ours.passes / theirs.passes, most=1.0),
        _ratio(f"{name}: time of the reference over autoattack", theirs.time / ours.time, ASKED.get(kind)),
    ]
    if kind == "PGD-trained":
        fast = mine(subject, bs.Fast(radius, norm))  # type: ignore[arg-type]
        figures += [
            *_verdicts(f"{name}: fast", fast, theirs),
            _ratio(f"{name}: time of the reference over fast", theirs.time / fast.time, FAST_ASKED),
        ]
    return figures


def mine(subject: Subject, attack: Attack | Several) -> Verdict:
    """An attack of blindspots, in model batches of its own choice."""
    layout = bs.Classifier(subject.module).layout(subject.images)
    meter = _meter(subject)
    model = bs.Classifier(meter, batch=layout.batch, channels_last=layout.channels_last, smaller=layout.smaller)
    done = meter.run(lambda: attack(model, subject.images, subject.labels))
    result: Result = done.own.value
    members = [*result.members, "fast" if not result.members else "wrong at first"]
    decided = result.decided if result.decided is not None else torch.full_like(result.labels, -1)
    return Verdict(
        _fooled(subject, result.images),
        int((result.forwards + result.backwards).sum()),
        *_times(done),
        [members[int(number)] for number in decided],
    )


def reference(subject: Subject, norm: str, radius: float, seed: int = 0) -> Verdict:
    """AutoAttack standard of its authors; what it returns is judged outside."""
    from pyautoattack import AutoAttack

    calls = Calls(_meter(subject))
    attack: Any = AutoAttack(calls, norm=norm.capitalize(), eps=radius, version="standard", seed=seed, device="cpu")
    attack.verbose = False

    def work() -> Tensor:
        images: Tensor = attack.run_standard_evaluation(subject.images, subject.labels)[0]
        return images

    with torch.random.fork_rng():
        done = calls.module.run(work)  # type: ignore[operator]
    fooled = _fooled(subject, done.own.value)
    return Verdict(fooled, calls.forwards + calls.backwards, *_times(done), ["reference"] * len(fooled))


def _meter(subject: Subject) -> Meter:
    piece = Subject(subject.name, subject.module, *_first(subject))
    return Meter(subject.module, {"bare": bare.gradients(piece, 50)}, EVERY)


def _first(subject: Subject) -> tuple[Tensor, Tensor]:
    rows = torch.arange(PIECE) % len(subject.images)
    return subject.images[rows], subject.labels[rows]


def _times(done: Metered) -> tuple[float, float]:
    """The time of a run in units of the bare work, and in seconds."""
    return done.own.wall / done.bare["bare"].wall, done.own.wall


@torch.no_grad()
def _fooled(subject: Subject, images: Tensor) -> Tensor:
    return torch.cat([subject.module(part).argmax(1) for part in images.split(64)]) != subject.labels


def _verdicts(name: str, ours: Verdict, theirs: Verdict) -> list[Figure]:
    """Robust accuracy beside that of the reference."""
    raw = {"passes": [ours.passes, theirs.passes], "seconds": [ours.seconds, theirs.seconds]}
    measured = f"{ours.robust:.1f} %, reference {theirs.robust:.1f} %"
    met = ours.robust <= theirs.robust + POINTS + 1e-9
    return [Figure(f"{name}: robust accuracy", measured, f"<= reference + {POINTS}", "", met, raw)]


def _agreement(name: str, ours: Verdict, theirs: Verdict) -> Figure:
    share = 100 * float((ours.fooled == theirs.fooled).double().mean())
    return Figure(f"{name}: same verdict", f"{share:.1f} %", f">= {AGREEMENT} %", "", share >= AGREEMENT)


def _named(name: str, ours: Verdict, theirs: Verdict, subject: Subject, norm: str, radius: float) -> Figure:
    """The images of which one of the two is fooled and the other is not, and what other seeds make of them."""
    rows = (ours.fooled != theirs.fooled).nonzero().squeeze(1)
    what = f"{name}: images fooled by one alone (seeds of five that fool it, ours and theirs)"
    if not len(rows):
        return Figure(what, "none")
    few = Subject(subject.name, subject.module, subject.images[rows], subject.labels[rows])
    attack = bs.AutoAttack(radius, norm)  # type: ignore[arg-type]
    times = torch.stack((ours.fooled[rows], theirs.fooled[rows])).long()
    for seed in SEEDS:
        made = attack(bs.Classifier(few.module, batch=64), few.images, few.labels, index=rows, seed=seed)
        times[0] += _fooled(few, made.images)
        times[1] += reference(few, norm, radius, seed).fooled
    told = [
        f"{row} ({a}, {b}{': ' + ours.decided[row] if ours.fooled[row] else ''})"
        for row, (a, b) in zip(rows.tolist(), times.T.tolist(), strict=True)
    ]
    swings = int(((times > 0) & (times < 1 + len(SEEDS))).any(0).sum())
    return Figure(what, ", ".join(told), spread=f"{swings} of {len(rows)} depend on the seed")


def _ratio(name: str, value: float, least: float | None = None, most: float | None = None) -> Figure:
    if most is not None:
        return Figure(name, f"{value:.2f}", f"<= {most:g}", "", value <= most)
    asked = "" if least is None else f">= {least:g}"
    return Figure(name, f"{value:.2f}", asked, "", None if least is None else value >= least)
