"""One run for the tests of the page: colour images, two norms, a noise control, red flags and hostile names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from report_run import job, write_run

HOSTILE = '<script>alert("x")</script>'


def example(path: Path, *, channels: int = 3, **more: Any) -> Path:
    """A run of 24 images of four classes, of which attacks fool more with every radius."""
    count = 24
    labels = [place % 4 for place in range(count)]
    predictions = [*labels[:-2], 0, 0]
    images = torch.linspace(0, 1, count * channels * 64).view(count, channels, 8, 8)

    def first(number: int) -> dict[str, Any]:
        return {"success": [place < number for place in range(count)]}

    jobs = [
        (job("00-uniform-linf-8/255", "uniform", 8 / 255, steps=1, control=True, radius_text="8/255"), first(2)),
        (job("01-fgsm-linf-8/255", "fgsm", 8 / 255, steps=1, radius_text="8/255"), first(9)),
        (job("02-pgd-linf-8/255", "pgd", 8 / 255, radius_text="8/255"), first(6)),
        (job("03-pgd-linf-16/255", "pgd", 16 / 255, radius_text="16/255"), first(16)),
        (job("04-pgd-l2-1", "pgd", 1.0, norm="l2"), {**first(12), "zero_gradients": [3] * count}),
    ]
    for entry, _ in jobs:
        entry["id"] = entry["id"].replace("/", "_")
    names = [HOSTILE, "cat & dog", "c" * 60, "$x$"]
    return write_run(path, labels, predictions, jobs, images=images, class_names=names, **more)
