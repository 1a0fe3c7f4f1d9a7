"""Smallest perturbations: the median size that each library's own version of an attack finds.

Three small networks for MNIST that the benchmark trains itself: on images as they are, on one-step and on five-step
perturbations of linf radius 0.2; untargeted, in float32, on test images that they get right. Each library runs with its
own defaults but for the number of steps; blindspots has as many steps as fit into the passes (forwards and backwards of
an image, together) of the cheapest of them. What is returned is judged outside; an image that is not fooled counts as
infinitely far. Asked is a median of at most 1.02 times the best of the others.
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

from .measure import Figure
from .min_norm_peers import peers
from .parts import Parts
from .robust_nets import KINDS, victim
from .subjects import Subject

IMAGES, QUICK = 100, 20
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
    cells, count = (CELLS[:3], QUICK) if quick else (CELLS, IMAGES)
    parts, figures = Parts("min_norm", quick), []
    for subject in map(_right, KINDS, [count] * len(KINDS)):
        for cell in cells:
            name = f"{subject.name}-{cell.attack}-{cell.norm}"
            figures += parts.part(name, lambda cell=cell, subject=subject: [_figure(cell, subject)])
    parts.forget()
    return figures


def _right(kind: str, count: int) -> Subject:
    """A network with the first test images that it gets right."""
    subject = victim(kind, 2 * count)
    with torch.no_grad():
        right = (subject.module(subject.images).argmax(1) == subject.labels).nonzero().squeeze(1)[:count]
    return Subject(kind, subject.module, subject.images[right], subject.labels[right])


def _figure(cell: Cell, subject: Subject) -> Figure:
    raw: dict[str, Any] = {}
    for library, find in peers(cell.attack, cell.norm, cell.steps).items():
        torch.manual_seed(0)
        np.random.seed(0)
        calls = Calls(subject.module)
        images = find(calls, subject.images, subject.labels)
        passes = (calls.forwards + calls.backwards) / len(subject.images)
        raw[library] = {"median": median_size(subject, images, cell.norm), "passes": passes}
    least = int(min((found["passes"] for found in raw.values()), default=2 * cell.steps))
    result = cell.ours(LARGEST[cell.norm], least)(
        bs.Classifier(subject.module, batch=50), subject.images, subject.labels
    )
    own = float((result.forwards + result.backwards).double().mean())
    median = median_size(subject, result.images, cell.norm)
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
def median_size(subject: Subject, images: Tensor, norm: str) -> float:
    """Of all images, those that are not fooled being infinitely far."""
    images = images.detach()
    size = NORMS[norm].size(images.double() - subject.images.double())
    fooled = subject.module(images).argmax(1) != subject.labels
    fooled &= ((images >= 0) & (images <= 1)).flatten(1).all(1)
    return float(torch.where(fooled, size, float("inf")).median())
