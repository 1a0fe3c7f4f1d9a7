"""Peak memory of `blindspots evaluate` on 10,000 images over that on 1,000: images are worked on shard by shard.

One step, noise and `fast` at linf 0.3. Each is a process of its own, report included; its peak is what the system
counted (ru_maxrss).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from .measure import Figure, Ran, at_most, blindspots_command, checked, child
from .subjects import conv_file, digit_data


def run(quick: bool) -> list[Figure]:
    many, few = (2000, 200) if quick else (10_000, 1000)
    rounds = 1 if quick else 2
    peaks: dict[int, list[Ran]] = {many: [], few: []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for count in peaks:
            _write(folder / f"{count}.npz", count)
        for number in range(rounds):
            for count, ran in peaks.items():
                ran.append(_evaluate(folder, count, number))
    ratios = [a.peak_mib / b.peak_mib for a, b in zip(peaks[many], peaks[few], strict=True)]
    raw: dict[str, Any] = {"peak_mib": {str(count): [round(r.peak_mib) for r in ran] for count, ran in peaks.items()}}
    base = min(r.peak_mib for r in peaks[few])
    beyond = max(r.peak_mib for r in peaks[many]) - base
    pixels = (many - few) * 28 * 28 * 4 / 2**20
    return [
        at_most(f"peak memory, {many:,} images over {few:,}", ratios, 1.2, **raw),
        Figure(
            f"peak memory at {few:,} images, and what {many - few:,} more add",
            f"{base:.0f} MiB, {beyond:+.0f} MiB",
            spread=f"their pixels in float32: {pixels:.0f} MiB, once for each of 4 stored sets",
        ),
    ]


def _write(path: Path, count: int) -> None:
    data = digit_data("test", count)
    images, labels, _ = data.batch(0, count)
    np.savez(path, images=(images.numpy() * 255).round().astype(np.uint8), labels=labels.numpy())


def _evaluate(folder: Path, count: int, number: int) -> Ran:
    attacks = [word for name in ("uniform-noise:draws=1", "fgsm", "fast") for word in ("--attack", name)]
    command = [*blindspots_command(), "evaluate", "--model", str(conv_file()), "--data", str(folder / f"{count}.npz")]
    out = folder / f"run-{count}-{number}"
    return checked(child([*command, *attacks, "--radius", "0.3", "--batch", "32", "--out", str(out)]))
