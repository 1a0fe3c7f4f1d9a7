"""How many points of an image a black-box attack asks until one of them fools the network within the radius.

Told are the queries at which 50 % and at which 90 % of the images have fallen, and the ratio to the best of the other
libraries; asked is that it is at most 1.05. All attack the same images, which the network gets right, with the same
radius and, where they take them, step sizes. The radius follows a rule, so that nobody's results choose it: 1.5 times
the median smallest size that FMN finds in this norm on all images of the network, rounded to three digits. Attacks on
decisions begin from the same points, uniform noise images of which the network says something else. Others are counted
by a module round the network: for each image the points up to the first that fools it within the radius, which is
kinder than what they report. A point that is asked twice in a row counts once, since a batch goes on asking for images
whose step is found. For blindspots it is the forwards of the result, with the rest of the round in which it was found,
less one, the verification, which others do not make. Each round has other seeds; the quantiles are over the images of
all rounds, the spread is that of single ones. Images fall to HopSkipJump at the end of one of its rounds of a few
hundred queries, and after the first of them one or two in a hundred a round: a quantile that lies there moves by a
third with two images more or less.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

import blindspots as bs
from blindspots import noise

from . import query_peers as peers
from .counter import MOST
from .libraries import installed
from .measure import Figure, spread
from .parts import Parts
from .subjects import Subject, small_digits

IMAGES, ROUNDS = 100, 3
RADIUS_FACTOR = 1.5
ASKED = 1.05


@dataclass(frozen=True)
class Case:
    """An attack of ours against those of others, each a function of (subject, starts, seed, radius)."""

    name: str
    norm: str
    radius: float
    ours: bs.Attack
    peers: dict[str, Callable[[Subject, Tensor, int, float], Tensor]] = field(default_factory=dict)


def run(quick: bool) -> list[Figure]:
    count, rounds = (10, 1) if quick else (IMAGES, ROUNDS)
    everything = small_digits()
    radii = {norm: radius_by_rule(everything, norm) for norm in ("linf", "l2")}
    subject = everything.head(count)
    parts, figures = Parts("queries", quick), []
    for case in cases(radii):
        figures += parts.part(f"{case.name}-{case.norm}", lambda case=case: figures_of(case, subject, rounds))
    parts.forget()
    return figures


def figures_of(case: Case, subject: Subject, rounds: int) -> list[Figure]:
    """The queries of all who have this attack."""
    present = installed()
    others = {name: work for name, work in case.peers.items() if name.partition(" ")[0] in present}
    found: dict[str, list[Tensor]] = {name: [] for name in ("blindspots", *others)}
    for seed in range(rounds):
        starts = starts_of(subject, seed)
        found["blindspots"].append(ours(case, subject, starts, seed))
        for name, work in others.items():
            torch.manual_seed(seed)
            np.random.seed(seed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found[name].append(work(subject, starts, seed, case.radius))
    return [_figure(case, found, share) for share in (0.5, 0.9)]


def radius_by_rule(subject: Subject, norm: str) -> float:
    """The radius at which all attack: see above. An image for which FMN finds nothing counts as infinitely far."""
    largest = 1.0 if norm == "linf" else math.sqrt(subject.images[0].numel())
    model = bs.Classifier(subject.module, batch=64)
    found = bs.FMN(largest, norm=norm)(model, subject.images, subject.labels)
    size = torch.where(found.success, found.size[norm], float("inf")).sort().values
    return float(f"{RADIUS_FACTOR * float(size[len(size) // 2]):.3g}")


def ours(case: Case, subject: Subject, starts: Tensor, seed: int) -> Tensor:
    """Queries (N,) of each image to its success, 0 where there was none."""
    given = {"starts": starts} if case.ours.knowledge == "decisions" else {}
    model = bs.Classifier(subject.module, batch=len(subject.images))
    result = case.ours(model, subject.images, subject.labels, seed=seed, **given)
    return torch.where(result.success, result.forwards - 1, 0)


def starts_of(subject: Subject, seed: int) -> Tensor:
    """For each image a uniform noise image that the network takes for another class."""
    keys = noise.key(seed, torch.arange(len(subject.images)), "queries")
    starts = torch.zeros_like(subject.images)
    left = torch.ones(len(starts), dtype=torch.bool)
    draw = 0
    while bool(left.any()) and draw < 1000:
        trial = noise.uniform(noise.key(draw, keys), tuple(starts.shape[1:]), starts.dtype)
        with torch.no_grad():
            good = (subject.module(trial).argmax(1) != subject.labels) & left
        starts[good], draw = trial[good], draw + 1
        left &= ~good
    if bool(left.any()):
        raise RuntimeError("the network takes all noise for one class: there is no point to begin from")
    return starts


def quantile(queries: Tensor, share: float) -> float:
    """The number of queries at which this share of the images had fallen, infinite if it never did."""
    done = torch.where(queries > 0, queries.double(), float("inf")).sort().values
    return float(done[math.ceil(share * len(done)) - 1])


def _figure(case: Case, found: dict[str, list[Tensor]], share: float) -> Figure:
    at = {name: quantile(torch.cat(each), share) for name, each in found.items()}
    told = ", ".join(f"{name} {value:.0f}" for name, value in at.items())
    what = f"{case.name}, {case.norm} {case.radius:g}: queries to {share:.0%} ({told})"
    others = [name for name in at if name != "blindspots"]
    if not others:
        return Figure(what, f"{at['blindspots']:.0f}")
    best = min(others, key=lambda name: at[name])
    each = {name: [quantile(queries, share) for queries in found[name]] for name in at}
    ratios = [_ratio(a, b) for a, b in zip(each["blindspots"], each[best], strict=True)]
    value = _ratio(at["blindspots"], at[best])
    return Figure(
        what, f"{value:.3f}", f"<= {ASKED:g}", spread(ratios), value <= ASKED, {"queries": each, "best": best}
    )


def _ratio(a: float, b: float) -> float:
    """a / b, where both may be infinite: neither is the better then."""
    if math.isinf(a) and math.isinf(b):
        return 1.0
    return a / b if math.isfinite(b) else 0.0


def cases(radii: dict[str, float]) -> list[Case]:
    """The attacks, each at the radius of its norm."""

    def square(norm: str) -> Case:
        radius = radii[norm]
        theirs = {"torchattacks": peers.square_torchattacks(norm), "ART": peers.square_art(norm)}
        return Case("Square", norm, radius, bs.Square(radius, norm=norm, queries=peers.SQUARE_QUERIES), theirs)

    def simba(basis: str, name: str) -> Case:
        ours = bs.SimBA(peers.ANY, step_size=peers.SIMBA_STEP, basis=basis, queries=MOST)
        return Case(f"SimBA, {basis}", "l2", peers.ANY, ours, {"ART": peers.simba_art(name)})

    def hopskipjump(norm: str) -> Case:
        radius = radii[norm]
        theirs = {"Foolbox": peers.hopskipjump_foolbox(norm), "ART": peers.hopskipjump_art(norm)}
        return Case("HopSkipJump", norm, radius, bs.HopSkipJump(radius, norm=norm, queries=MOST), theirs)

    def geoda(norm: str) -> Case:
        return Case("GeoDA", norm, radii[norm], bs.GeoDA(radii[norm], norm=norm, queries=MOST, share=1.0), {})

    theirs = {"Foolbox": peers.boundary_foolbox}
    boundary = Case("Boundary", "l2", radii["l2"], bs.Boundary(radii["l2"], queries=MOST), theirs)
    return [
        *(square("linf"), square("l2"), simba("pixel", "px"), simba("dct", "dct"), boundary),
        *(hopskipjump("l2"), hopskipjump("linf"), geoda("l2"), geoda("linf")),
    ]
