"""Pictures for the report: original, adversarial and the amplified difference, of successes and of failures.

The choice is the same for the same run: spread over norms and classes, smallest radius first. Images are
read one at a time and only those shown.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..evaluation.run import Run
from ..evaluation.summary import class_name
from ..evaluation.verdicts import Verdicts
from .arrows import arrows

SUCCESSES, FAILURES = 12, 6
BYTES = 2_000_000  # of all pictures, as they stand in the page; photographs fill it before the counts above
SMALL = 96  # images below this height or width are enlarged with hard pixel edges


@dataclass(frozen=True)
class Picture:
    """One row of three images with what the model said before and after."""

    index: int
    label: str
    before: str
    before_confidence: float
    after: str
    after_confidence: float
    target: str | None
    job: str
    sizes: dict[str, float]
    factor: int
    width: int
    height: int
    original: str
    adversarial: str
    difference: str
    arrows: str | None = None
    stretch: int = 1

    @property
    def small(self) -> bool:
        return min(self.width, self.height) < SMALL


@dataclass(frozen=True)
class Gallery:
    """The chosen pictures, of how many there were, and how channels are shown where that needs saying."""

    successes: list[Picture]
    failures: list[Picture]
    fooled: int
    withstood: int
    note: str | None


def gallery(run: Run, labels: dict[str, str]) -> Gallery:
    """Choose and encode the pictures; `labels` names the jobs."""
    verdicts = {job: run.verdicts(job) for job in run.job_ids}
    fooled, withstood = _fooled(verdicts), _withstood(run, verdicts)
    stored_fooled = fooled if run.kept != "none" else []
    stored_withstood = withstood if run.kept == "all" else []
    successes: list[Picture] = []
    failures: list[Picture] = []
    room = BYTES
    for choice, shown in _turns(_spread(run, stored_fooled)[:SUCCESSES], _spread(run, stored_withstood)[:FAILURES]):
        picture = _picture(run, verdicts[choice[0]], choice[1], labels[choice[0]])
        room -= len(picture.original) + len(picture.adversarial) + len(picture.difference) + len(picture.arrows or "")
        if room < 0 and successes + failures:
            break
        (successes if shown else failures).append(picture)
    return Gallery(successes, failures, len({c[1] for c in fooled}), len({c[1] for c in withstood}), _note(run))


Choice = tuple[str, int, float]  # job, position in the clean table, rank (smaller is shown earlier)


def _turns(fooled: list[Choice], withstood: list[Choice]) -> Iterator[tuple[Choice, bool]]:
    """Two successes (True), one failure (False), and again, so that a full page has shown both."""
    for turn in zip_longest(fooled[::2], fooled[1::2], withstood):
        yield from ((choice, place < 2) for place, choice in enumerate(turn) if choice is not None)


def _fooled(verdicts: dict[str, Verdicts]) -> list[Choice]:
    """Every image an attack fooled, once per norm, with the job that needed the least radius and size."""
    best: dict[tuple[str, int], tuple[tuple[Any, ...], Choice]] = {}
    for order, (job, verdict) in enumerate(verdicts.items()):
        norm = verdict.job["norm"]
        for position in np.flatnonzero(verdict.success).tolist():
            size = float(verdict.sizes[norm][position])
            needed = size if verdict.minimum else verdict.job["radius"]
            key = (verdict.job["control"], needed, size, order)
            if (norm, position) not in best or key < best[norm, position][0]:
                best[norm, position] = (key, (job, position, size))
    return [choice for _, choice in best.values()]


def _withstood(run: Run, verdicts: dict[str, Verdicts]) -> list[Choice]:
    """Images that no attack of a norm fooled, with the last attack at its largest radius; the least sure first."""
    found: list[Choice] = []
    for norm in dict.fromkeys(verdict.job["norm"] for verdict in verdicts.values()):
        mine = {job: verdict for job, verdict in verdicts.items() if verdict.job["norm"] == norm}
        job = max(mine, key=lambda job: (not mine[job].job["control"], mine[job].job["radius"], run.job_ids.index(job)))
        stood = mine[job].attacked & ~np.any([verdict.fooled for verdict in mine.values()], axis=0)
        found += [(job, p, float(mine[job].confidence[p])) for p in np.flatnonzero(stood).tolist()]
    return found


def _spread(run: Run, choices: list[Choice]) -> list[Choice]:
    """Deal choices by turns over (class, norm), each hand sorted by rank; an image is shown once."""
    label = run.clean()["label"].to_numpy()
    norm = {job["id"]: job["norm"] for job in run.jobs}
    norms = list(dict.fromkeys(norm.values()))
    hands: dict[tuple[int, int], list[Choice]] = {}
    for choice in sorted(choices, key=lambda choice: (choice[2], choice[1])):
        hands.setdefault((norms.index(norm[choice[0]]), int(label[choice[1]])), []).append(choice)
    # classes turn fastest, and the norm changes with them, so that few pictures show many of both
    ordered = [hands[key] for key in sorted(hands, key=lambda key: ((key[0] + key[1]) % len(norms), key[1], key[0]))]
    dealt: dict[int, Choice] = {}
    for choice in chain.from_iterable(zip_longest(*ordered)):
        if choice is not None:
            dealt.setdefault(choice[1], choice)
    return list(dealt.values())


def _picture(run: Run, verdict: Verdicts, position: int, job: str) -> Picture:
    clean = run.clean().slice(position, 1).to_pylist()[0]
    names = run.manifest["class_names"]
    index = int(clean["index"])
    before = run.images("clean", [index])[index].numpy()
    after = run.images(verdict.job["id"], [index])[index].numpy()
    change = after.astype(np.float64) - before
    factor = amplification(float(np.abs(change).max()))
    flow = run.flows(verdict.job["id"], [index]).get(index)
    drawn, stretch = (None, 1) if flow is None else arrows(flow.numpy())
    target = int(verdict.target[position])
    return Picture(
        index=index,
        label=class_name(names, int(clean["label"])),
        before=class_name(names, int(clean["prediction"])),
        before_confidence=float(clean["confidence"]),
        after=class_name(names, int(verdict.prediction[position])),
        after_confidence=float(verdict.confidence[position]),
        target=class_name(names, target) if target >= 0 else None,
        job=job,
        sizes={norm: float(size[position]) for norm, size in verdict.sizes.items()},
        factor=factor,
        width=before.shape[2],
        height=before.shape[1],
        original=png(before),
        adversarial=png(after),
        difference=png(0.5 + factor * change),
        arrows=drawn or None,  # a flow that moves next to nothing is not drawn
        stretch=stretch,
    )


def amplification(largest: float) -> int:
    """The factor 1, 2, 5, 10, 20 ... that brings the largest change nearest to half the scale, not above.

    >>> amplification(0.1), amplification(8 / 255), amplification(0.9), amplification(0.0)
    (5, 10, 1, 1)
    """
    if largest <= 0:
        return 1
    room = 0.5 / largest * (1 + 1e-6)
    power = int(10 ** max(0, math.floor(math.log10(room))))
    return max(1, max(step * power for step in (1, 2, 5) if step * power <= max(room, 1)))


def png(image: NDArray[Any]) -> str:
    """An image `(C, H, W)` in [0, 1] as a `data:` address of a PNG at its own resolution.

    Grey for one channel, colour for three; of more, the first three; of two, their mean.
    """
    shown = image[:3] if image.shape[0] >= 3 else image.mean(axis=0, keepdims=True)
    levels = np.round(np.clip(shown, 0, 1) * 255).astype(np.uint8)
    written = io.BytesIO()
    Image.fromarray(levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0)).save(written, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode("ascii")


def _note(run: Run) -> str | None:
    channels = int(run.manifest["shape"][0])
    if channels in (1, 3):
        return None
    return f"The images have {channels} channels; shown is " + (
        "the mean of them." if channels < 3 else "the first three, as red, green and blue."
    )
