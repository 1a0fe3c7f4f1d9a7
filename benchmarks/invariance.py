"""The result for an image does not depend on its company: verdicts, images and counts of calls, bit for bit.

Every attack in every norm it offers attacks the same images as they stand, permuted, in part, alone, in populations of
other sizes, and, through `evaluate`, in shards worked on by two parts and in a run that was broken off and went on.
Each is compared with the plain call at the same model batch. Another model batch may round otherwise, as other kernels
run; how much that changes is given for information.
"""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

import blindspots as bs
from blindspots.attacks import ATTACKS
from blindspots.evaluation import plan

from .measure import Figure, counted
from .subjects import Subject, conv_net, resnet20

# Radii at which some images of the two subjects fall and some do not, and what makes each attack short.
RADII = {
    "small-cnn": {"linf": 0.15, "l2": 2.0, "l1": 15.0, "l0": 20.0, "flow": 1.0, "affine": 0.7, "flow-linf": 0.08},
    "ResNet-20": {"linf": 0.017, "l2": 0.5, "l1": 15.0, "l0": 60.0, "flow": 0.3, "affine": 0.2, "flow-linf": 0.01},
}
SHORT = {"steps": 5, "restarts": 2, "draws": 3, "rounds": 3, "halvings": 1, "rotations": 3, "shifts": 3}
COMPARED = ("images", "success", "prediction", "forwards", "backwards", "steps")
BATCH, OTHER_BATCHES = 4, (1, 8)


@dataclass
class Count:
    """Comparisons made, images compared, and images that differ."""

    comparisons: int = 0
    compared: int = 0
    differ: int = 0
    largest: float = 0.0
    verdicts: int = 0


def run(quick: bool) -> list[Figure]:
    figures = []
    for make, size in ((conv_net, 16), (resnet20, 7)):
        subject = make().head(5 if quick else size)
        for dtype in (torch.float64, torch.float32):
            figures += _subject(subject, dtype)
    return figures


def attacks(subject: str) -> list[bs.Attack]:
    """Every attack in each of its norms, but for those that read what was fitted to other images."""
    made = []
    for kind in ATTACKS.values():
        names = {item.name for item in fields(kind)}
        if "path" in names:
            continue
        short = {name: value for name, value in SHORT.items() if name in names}
        for norm in kind.norms:
            given = {"radius": RADII[subject][norm], **short, **({"norm": norm} if "norm" in names else {})}
            made.append(kind(**given))
    return made


def _subject(subject: Subject, dtype: torch.dtype) -> list[Figure]:
    module = subject.module.to(dtype)
    name = subject.name.partition(",")[0]
    same, other, fooled, total = Count(), Count(), 0, 0
    try:
        images = subject.images.to(dtype)
        made = attacks(name)
        wholes = []
        for attack in made:
            model = bs.Classifier(module, batch=BATCH)
            whole = attack(model, images, subject.labels)
            wholes.append(whole)
            fooled, total = fooled + int(whole.success.sum()), total + len(whole)
            for rows, population in _ways(len(images)):
                index = torch.tensor(rows)
                part = attack(model, images[index], subject.labels[index], index=index, population=population)
                _compare(same, part, whole, index)
            for batch in OTHER_BATCHES:
                part = attack(bs.Classifier(module, batch=batch), images, subject.labels)
                _compare(other, part, whole, torch.arange(len(images)))
        runs, lines = _runs(Subject(name, module, images, subject.labels), made)
    finally:
        subject.module.float()
    kind = str(dtype).removeprefix("torch.")
    what = f"{name}, {kind}"
    return [
        counted(
            f"{what}: images that differ, of {same.compared:,} in {same.comparisons} comparisons "
            f"({len(made)} attacks, {fooled} of {total} fooled)",
            same.differ,
            0,
        ),
        counted(f"{what}: files that differ, of {lines}, in two parts, or broken off and resumed", runs, 0),
        Figure(
            f"{what}: model batch {' and '.join(map(str, OTHER_BATCHES))} in place of {BATCH}",
            f"{other.differ} of {other.compared} images",
            spread=f"verdicts that differ: {other.verdicts}; largest change of a pixel {other.largest:.1e}",
        ),
    ]


def _ways(count: int) -> list[tuple[list[int], int | None]]:
    """Rows to attack, and how many together: permuted, a part, alone, and in populations of 1, 3, 4 and 5."""
    rows = list(range(count))
    permuted = torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()
    ways: list[tuple[list[int], int | None]] = [(permuted, None), (permuted[: count // 2], None), ([count - 1], None)]
    return ways + [(rows, population) for population in (1, 3, 4, 5)]


def _compare(count: Count, part: bs.Result, whole: bs.Result, index: Tensor) -> None:
    differ = torch.zeros(len(index), dtype=torch.bool)
    for name in COMPARED:
        mine, theirs = getattr(part, name), getattr(whole, name)[index]
        differ |= (mine != theirs).reshape(len(index), -1).any(1)
    for norm, size in part.size.items():
        differ |= size != whole.size[norm][index]
    count.comparisons, count.compared = count.comparisons + 1, count.compared + len(index)
    count.differ += int(differ.sum())
    count.verdicts += int((part.success != whole.success[index]).sum())
    count.largest = max(count.largest, float((part.images - whole.images[index]).abs().max()))


class _BrokenOffError(Exception):
    """Raised by the progress callback to end a run in its middle."""


def _runs(subject: Subject, made: list[bs.Attack]) -> tuple[int, int]:
    """Files that differ between an undivided run, one in two parts, and one broken off; and how many were compared."""
    shard = plan.SHARD_IMAGES
    data = bs.dataset((subject.images.float(), subject.labels))
    model = bs.Classifier(subject.module, batch=BATCH)
    plan.SHARD_IMAGES = max(2, len(data) // 3)
    try:
        with tempfile.TemporaryDirectory() as name:
            whole, parted, broken = (Path(name) / part for part in ("whole", "parted", "broken"))
            bs.evaluate(model, data, made, out=whole, batch=BATCH)
            for number in (2, 1):
                bs.evaluate(model, data, made, out=parted, batch=BATCH, part=(number, 2))
            for pieces in (1, 7, 20):
                _break_off(model, data, made, broken, pieces)
            bs.evaluate(model, data, made, out=broken, batch=BATCH)
            expected = results(whole)
            got = [results(parted), results(broken)]
    finally:
        plan.SHARD_IMAGES = shard
    return sum(one.get(k) != v for one in got for k, v in expected.items()), len(expected) * len(got)


def _break_off(model: bs.Classifier, data: object, made: list[bs.Attack], out: Path, pieces: int) -> None:
    done = 0

    def progress(event: object) -> None:
        nonlocal done
        done += 1
        if done == pieces:
            raise _BrokenOffError

    with suppress(_BrokenOffError):
        bs.evaluate(model, data, made, out=out, batch=BATCH, progress=progress)


def results(run: Path) -> dict[str, bytes]:
    """Every file of a run except what holds times (`timing`, the report) and locks."""
    found = {}
    for path in sorted(run.rglob("*")):
        place = path.relative_to(run)
        hidden = any(part.startswith(".") for part in place.parts)
        if path.is_file() and not hidden and place.parts[0] not in ("timing", "report.html"):
            found[str(place)] = path.read_bytes()
    return found
