"""Moments under Gaussian noise from formulas, beside sampling that is as accurate.

The closed form on a random network (5 inputs, 7 ReLUs, 4 outputs), any mean and covariance, against 4 million draws:
the largest distance of a mean and of a covariance in standard errors.

Then networks trained on MNIST: a chain (784-200-200-120-60-10, ReLU), layer by layer and cut at its middle ReLU, and
the small convolutional network cut at its last ReLU. Ratios and errors are over images and logits: the ratio of the
means is their slope, that of the variances is of their sums over logits, averaged over images.

Equal accuracy: with N draws a mean is off by 1/sqrt(N) standard deviations of the logit, root mean square, and a
variance by sqrt(2/N) of itself (normal logits). N is what brings sampling to the error of the formulas, found against
many more draws whose own error is taken off; a formula that is no further off than these draws counts as twice their
error. The two N, for means and for variances, are given apart, and the smaller counts. Sampling is timed in calls of
512 draws with its noise, in turns with the formulas. Where N is below 512, times are in proportion.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import blindspots as bs
from blindspots.analysis.moments.analysis import beside
from blindspots.analysis.moments.matching import matched
from blindspots.analysis.moments.noise import Noise
from blindspots.analysis.moments.rectified import LogitMoments, affine_relu_affine
from blindspots.analysis.moments.sampling import Sampled, Sums, sample
from blindspots.analysis.moments.two_stage import two_stage
from blindspots.cache import cache_directory
from blindspots.classifiers import Classifier

from .measure import Figure, at_least, information, spread, timed
from .subjects import TRAINING_IMAGES, conv_file, digit_data

SIGMAS = (0.02, 0.05, 0.1)
CALL = 512
Way = Callable[[Tensor, float], LogitMoments]


def run(quick: bool) -> list[Figure]:
    figures = _closed_form(100_000 if quick else 4_000_000)
    chain = bs.classifier(str(_chain_file()), device="cpu")
    conv = bs.classifier(str(conv_file()), device="cpu")
    ways: tuple[tuple[str, Classifier, Way, int, bool], ...] = (
        ("chain, layer by layer", chain, lambda x, s: matched(chain, x, s, terms=3), 1000, True),
        ("chain, cut at its middle", chain, lambda x, s: two_stage(chain, x, s), 100, False),
        ("small-cnn, cut at its last ReLU", conv, lambda x, s: two_stage(conv, x, s, layer="head.relu"), 10, False),
        ("the same with 32 pairs", conv, lambda x, s: two_stage(conv, x, s, layer="head.relu", pairs=32), 10, False),
    )
    for name, model, way, count, asked in ways:
        for sigma in SIGMAS:
            figures += _network(name, model, way, (100 if asked else 3) if quick else count, sigma, asked, quick)
    return figures


def _closed_form(draws: int) -> list[Figure]:
    stream = torch.Generator().manual_seed(0)
    shapes = ((7, 5), (7,), (4, 7), (4,), (5,), (5, 5))
    A, c1, B, c2, mean, root = (torch.randn(shape, generator=stream, dtype=torch.float64) for shape in shapes)
    found, sums = affine_relu_affine(A, c1, B, c2, mean, root @ root.mT), Sums()
    for _ in range(draws // 50_000):
        x = mean + torch.randn(50_000, 5, generator=stream, dtype=torch.float64) @ root.mT
        sums.add((x @ A.mT + c1).clamp(min=0) @ B.mT + c2)
    drawn = sums.found()
    off = {
        "mean": float(((found.mean - drawn.mean) / drawn.mean_error).abs().max()),
        "covariance": float(((found.covariance - drawn.covariance) / drawn.covariance_error).abs().max()),
    }
    return [
        Figure(f"closed form, largest distance of a {what} from {draws} draws, in standard errors",
               f"{value:.2f}", "<= 4", met=value <= 4)
        for what, value in off.items()
    ]  # fmt: skip


def _network(
    name: str, model: Classifier, way: Way, count: int, sigma: float, asked: bool, quick: bool
) -> list[Figure]:
    images = digit_data("test").batch(0, count)[0]
    few = images[: 3 if quick else 20]  # accuracy needs many draws of an image rather than many images
    draws = (20_000 if quick else 200_000) if asked else (2_000 if quick else 30_000)
    if not asked:
        few = few[:10]
    calls = 2 if quick else 10
    drawn, found = _drawn(model, len(few), sigma, draws), way(few, sigma)
    told = beside(found, drawn)
    # What the draws cannot tell from nothing counts as twice their own error.
    means = max(told["mean_error"], 2 / math.sqrt(draws))
    variances = max(told["variance_error"], 2 * math.sqrt(2 / draws))
    needed = {"means": 1 / means**2, "variances": 2 / variances**2}
    rounds = 1 if quick else 3
    faster: dict[str, list[float]] = {what: [] for what in needed}
    for _ in range(rounds):
        ours = timed(lambda: way(images, sigma)).wall / count
        each = timed(lambda: _calls(model, images[:2], sigma, calls)).wall / (2 * calls * CALL)
        for what, n in needed.items():
            faster[what].append(n * each / ours)
    raw: dict[str, Any] = {**told, "needed": needed, "draws": draws, "images": len(few), "timed": count}
    title = f"{name}, sigma {sigma:g}"
    ratio, variance = told["mean_ratio"], told["variance_ratio"]["value"]
    least = [min(pair) for pair in zip(*faster.values(), strict=True)]
    what = f"{title}: sampling of equal accuracy ({min(needed.values()):.0f} draws) over formulas, {count} images, time"
    return [
        Figure(f"{title}: ratio of means", f"{ratio:.4f}", "0.99 to 1.01", met=0.99 <= ratio <= 1.01, raw=raw),
        Figure(f"{title}: ratio of variances", f"{variance:.3f}", "0.9 to 1.1", met=0.9 <= variance <= 1.1),
        Figure(f"{title}: error of a mean, in standard deviations", f"{told['mean_error']:.4f}"),
        Figure(f"{title}: relative error of a variance", f"{told['variance_error']:.4f}"),
        at_least(what, least, 50) if asked else information(what, least),
        *(
            Figure(f"{title}: the same for {part} alone ({needed[part]:.0f} draws)", f"{min(ratios):.1f}", "",
                   spread(ratios, 1))
            for part, ratios in faster.items()
        ),
    ]  # fmt: skip


@cache
def _drawn(model: Classifier, count: int, sigma: float, draws: int) -> Sampled:
    """Moments of the first test images by sampling; ways with the same network share them."""
    images = digit_data("test").batch(0, count)[0]
    return sample(model, images, Noise.of(images[0], sigma), draws)


@torch.no_grad()
def _calls(model: Classifier, images: Tensor, sigma: float, calls: int) -> None:
    """Nothing but the noise and the model: no sums are made."""
    with model.session():
        for image in images:
            for _ in range(calls):
                model.forward(image + sigma * torch.randn(CALL, *image.shape), exact=True)


@cache
def _chain_file() -> Path:
    data = digit_data("train", TRAINING_IMAGES)
    place = cache_directory() / "benchmarks" / f"chain-{Path(data.name).name}-{TRAINING_IMAGES}"
    settings = bs.TrainSettings(
        network="fc200-200-120-60-10", network_settings={"hidden": "relu"}, optimiser="adam", epochs=3, batch=64,
        schedule="onecycle", learning_rate=3e-3, validation=0.0, threads=1, device="cpu", out=str(place),
    )  # fmt: skip
    return Path(bs.fit(settings, data=data).model)
