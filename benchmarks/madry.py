"""The convolutional network of Madry et al. for MNIST, trained against PGD at linf 0.3 on a shorter schedule.

Theirs: 100 000 steps in batches of 50, PGD of 40 steps of 0.01, Adam 1e-4. Here: 10 epochs in batches of 64, PGD of 7
steps of 0.1, Adam with one cycle up to 1e-3; that is about a forty-fifth of their forwards and backwards. The training
is kept in the cache and goes on where it was stopped. Measured on test images: accuracy without attack, against PGD of
100 steps of 0.01 from 20 random starts, against the ensemble `fast`, and against Square, which needs no gradients that
training may have bent; with 95 % Clopper-Pearson intervals. Their published figures for their network: 92.52 % against
PGD-100, 89.62 % with 50 restarts, and 88.0 % under the best attack listed on their page.
"""

from __future__ import annotations

from typing import Any

import blindspots as bs
from blindspots.cache import cache_directory
from blindspots.data import ImageData
from blindspots.evaluation.intervals import share
from blindspots.report.words import interval, percent

from .measure import Figure

EPOCHS, STEPS, SIZE, RATE = 10, 7, 0.1, 1e-3
IMAGES = 500  # test images that are attacked


def run(quick: bool) -> list[Figure]:
    limit = 1000 if quick else None
    settings = bs.preset(
        "madry-mnist", epochs=1 if quick else EPOCHS, batch=64, limit=limit, learning_rate=RATE, schedule="onecycle",
        method_settings={"steps": STEPS, "step_size": SIZE}, validation=0.05, watch=500, threads=1,
        out=str(cache_directory() / "benchmarks" / f"madry-{'quick' if quick else EPOCHS}"),
    )  # fmt: skip
    trained = bs.fit(settings)
    model = bs.classifier(str(trained.model))
    test = bs.dataset("mnist", split="test")
    right = 0
    for start in range(0, len(test), 500):
        images, labels, _ = test.batch(start, min(start + 500, len(test)))
        right += int((model.logits(images).argmax(1).cpu() == labels).sum())
    attacked = bs.dataset("mnist", split="test", limit=100 if quick else IMAGES)
    restarts = 2 if quick else 20
    pgd = bs.PGD(0.3, steps=100, step_size=0.01, restarts=restarts)
    queries = 100 if quick else 5000
    square = bs.Square(0.3, queries=queries)
    told = {"seconds_of_training": trained.seconds, "alarms": list(trained.alarms), "best_epoch": trained.best_epoch}
    return [
        _figure("accuracy without attack", share(right, len(test)), 0.983, **told),
        _figure(f"accuracy against PGD-100 with {restarts} restarts", _robust(model, attacked, pgd), 0.90),
        _figure("accuracy against the ensemble fast", _robust(model, attacked, bs.Fast(0.3)), None),
        _figure(f"accuracy against Square, {queries} queries", _robust(model, attacked, square), None),
    ]


def _robust(model: bs.Classifier, data: ImageData, attack: Any) -> dict[str, Any]:
    images, labels, index = data.batch(0, len(data))
    result = attack(model, images, labels, index=index)
    return share(int((result.prediction.cpu() == labels).sum()), len(labels))


def _figure(what: str, found: dict[str, Any], asked: float | None, **raw: Any) -> Figure:
    return Figure(
        what, percent(found["value"]), "" if asked is None else f">= {percent(asked)}",
        f"{interval(found)} of {found['of']} images", None if asked is None else found["value"] >= asked,
        {**found, **raw},
    )  # fmt: skip
