"""Smallest perturbations: the median size that each library's own version of an attack finds.

Three small networks for MNIST that the benchmark trains itself: on images as they are, on one-step and on five-step
perturbations of linf radius 0.2; untargeted, in float32, on test images that they get right. Each library runs with its
own defaults but for the number of steps; blindspots has as many steps as fit into the passes (forwards and backwards of
an image, together) of the cheapest of them. What is returned is judged outside; an image that is not fooled counts as
infinitely far. Asked is a median of at most 1.02 times the best of the others.

The last lines are times, on the small network trained on images as they are: that of an attack over that of its own
forwards and backwards in a plain loop round the module, in model batches of 32, both measured in turns; and DeepFool
against the others', which are given the same 50 steps and batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import blindspots as bs
from blindspots.attack import Attack
from blindspots.geometry import NORMS

from . import bare
from .measure import Figure, Time, at_least, at_most, information, timed
from .meter import Meter, Metered
from .min_norm_peers import peers
from .peers import GIVEN
from .robust_nets import KINDS, victim
from .subjects import Subject, conv_net

IMAGES, QUICK = 100, 20
# Images of a piece of bare work.
PIECE = 128
LARGEST = {"l2": 8.0, "linf": 1.0, "l1": 64.0, "l0": 64}


@dataclass(frozen=True)
class Cell:
    """An attack in a norm: the steps of the others, and ours from the passes that there are."""

    attack: str
    norm: str
    steps: int
    ours: Callable[[float, int], Attack]


def _half(passes: int, spare: int) -> int:
    """Steps of a forward and a backward each, with some forwards put aside."""
    return max(1, (passes - spare) // 2)


def _fab(norm: str) -> Callable[[float, int], Attack]:
    # A step has two forwards and five backwards.
    return lambda r, p: bs.FAB(r, norm=norm, steps=max(1, (p - 5) // 7))  # type: ignore[arg-type]


def _pdpgd(norm: str) -> Callable[[float, int], Attack]:
    return lambda r, p: bs.PDPGD(r, norm=norm, steps=_half(p, 11))  # type: ignore[arg-type]


def _brendel(norm: str) -> Callable[[float, int], Attack]:
    # Five walks of the same length; what is drawn and bisected before each is at most as much as others spend on it.
    return lambda r, p: bs.BrendelBethge(r, norm=norm, steps=_half(p, 125) // 5, restarts=4)  # type: ignore[arg-type]


CELLS = [
    Cell("deepfool", "l2", 50, lambda r, p: bs.DeepFool(r)),
    Cell("deepfool", "linf", 50, lambda r, p: bs.DeepFool(r, norm="linf")),
    Cell("ddn", "l2", 100, lambda r, p: bs.DDN(r, steps=_half(p, 5))),
    Cell("fmn", "l2", 100, lambda r, p: bs.FMN(r, steps=_half(p, 5))),
    Cell("fmn", "linf", 100, lambda r, p: bs.FMN(r, norm="linf", steps=_half(p, 5))),
    Cell("fmn", "l1", 100, lambda r, p: bs.FMN(r, norm="l1", steps=_half(p, 5))),
    Cell("fmn", "l0", 100, lambda r, p: bs.FMN(r, norm="l0", steps=_half(p, 2))),
    Cell("cw", "l2", 1000, lambda r, p: bs.CW(r, steps=_half(p, 17) // 5, rounds=5)),
    Cell("cw", "linf", 1000, lambda r, p: bs.CW(r, norm="linf", steps=200)),
    Cell("ead", "l1", 1000, lambda r, p: bs.EAD(r, steps=_half(p, 17) // 5, rounds=5)),
    *(Cell("fab", norm, 20, _fab(norm)) for norm in ("linf", "l2", "l1")),
    *(Cell("pdpgd", norm, 200, _pdpgd(norm)) for norm in ("linf", "l2", "l1")),
    *(Cell("brendel-bethge", norm, 100, _brendel(norm)) for norm in ("l2", "linf", "l1")),
    Cell("sigma-zero", "l0", 300, lambda r, p: bs.SigmaZero(r, steps=_half(p, 12))),
]


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


class Calls(nn.Module):
    """Counts the images that pass through the module forwards and backwards."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.forwards, self.backwards = module, 0, 0
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        self.forwards += len(images)
        logits: Tensor = self.module(images)
        if logits.requires_grad:
            logits.register_hook(self._count)
        return logits

    def _count(self, gradient: Tensor) -> None:
        # The whole batch goes back, also the rows of no gradient. One row alone is a loop over images, and counts once.
        rows = int((gradient.flatten(1) != 0).any(1).sum())
        self.backwards += 1 if rows == 1 else len(gradient)


def run(quick: bool) -> list[Figure]:
    cells, count, rounds = (CELLS[:3], QUICK, 2) if quick else (CELLS, IMAGES, 4)
    figures = [_figure(cell, subject) for subject in map(_right, KINDS, [count] * len(KINDS)) for cell in cells]
    small = conv_net().head(64) if quick else conv_net()
    figures += [_overhead(name, attack, small, rounds) for name, attack in TIMED.items()]
    return figures + _deepfool(small, rounds)


def _right(kind: str, count: int) -> Subject:
    """A network with the first test images that it gets right."""
    subject = victim(kind, 2 * count)
    with torch.no_grad():
        right = (subject.module(subject.images).argmax(1) == subject.labels).nonzero().squeeze(1)[:count]
    return Subject(kind, subject.module, subject.images[right], subject.labels[right])


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
    medians = {name: f"{_median(subject, taken[-1].value, 'l2'):.4g}" for name, taken in times.items()}
    asked = {"Foolbox": 2.0, "adv-lib": 1.0}
    figures = []
    for name in finders:
        ratios = [theirs.wall / own.wall for theirs, own in zip(times[name], times["blindspots"], strict=True)]
        what = f"deepfool, l2: time of {name} over ours; medians {medians[name]} and {medians['blindspots']}"
        figures.append(at_least(what, ratios, asked[name]) if name in asked else information(what, ratios))
    return figures


def _figure(cell: Cell, subject: Subject) -> Figure:
    raw: dict[str, Any] = {}
    for library, find in peers(cell.attack, cell.norm, cell.steps).items():
        torch.manual_seed(0)
        np.random.seed(0)
        calls = Calls(subject.module)
        images = find(calls, subject.images, subject.labels)
        passes = (calls.forwards + calls.backwards) / len(subject.images)
        raw[library] = {"median": _median(subject, images, cell.norm), "passes": passes}
    least = int(min((found["passes"] for found in raw.values()), default=2 * cell.steps))
    result = cell.ours(LARGEST[cell.norm], least)(
        bs.Classifier(subject.module, batch=50), subject.images, subject.labels
    )
    own = float((result.forwards + result.backwards).double().mean())
    median = _median(subject, result.images, cell.norm)
    raw["blindspots"] = {"median": median, "passes": own}
    others = ", ".join(
        f"{name} {found['median']:.4g} in {found['passes']:.0f}" for name, found in raw.items() if name != "blindspots"
    )
    best = min((found["median"] for name, found in raw.items() if name != "blindspots"), default=None)
    what = f"{subject.name}: {cell.attack}, {cell.norm}: median in {own:.0f} passes" + (
        f" ({others})" if others else ""
    )
    if best is None:
        return Figure(what, f"{median:.4g}", raw=raw)
    return Figure(what, f"{median:.4g}", f"<= {1.02 * best:.4g}", met=median <= 1.02 * best, raw=raw)


@torch.no_grad()
def _median(subject: Subject, images: Tensor, norm: str) -> float:
    """Of all images, those that are not fooled being infinitely far."""
    images = images.detach()
    size = NORMS[norm].size(images.double() - subject.images.double())
    fooled = subject.module(images).argmax(1) != subject.labels
    fooled &= ((images >= 0) & (images <= 1)).flatten(1).all(1)
    return float(torch.where(fooled, size, float("inf")).median())
