"""Szegedy's attack on a LeNet: blindspots for all images at once, and SciPy's L-BFGS-B image by image.

Both minimise |r|^2 + c * cross entropy of the target over the box, bracket c by factors of ten from 1e-2 and bisect its
logarithm, with equal numbers of bisections and of evaluations in each run, and keep the smallest success of all points
evaluated. SciPy starts every run from the image, with its own tolerances. The median distortion is that of the images
that both brought to their targets, sqrt(mean of squared changes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn import functional as F

import blindspots as bs
from blindspots.attacks.szegedy import FIRST, LEAST, MOST

from .lbfgs import victim
from .measure import Figure, Time, at_least, at_most, information, timed

STEPS, ROUNDS = 100, 8


@dataclass(frozen=True)
class Found:
    """Distortion (N,) of every image, infinite where the target was not reached, and evaluations in all."""

    distortion: Tensor
    evaluations: int


def run(quick: bool) -> list[Figure]:
    module, images, labels = victim("lenet", 16 if quick else 96)
    targets = (labels + 1 + torch.arange(len(labels)) % 9) % 10
    theirs: list[Time] = []
    ours: list[Time] = []
    model = bs.Classifier(module)
    model.layout(images)  # chosen once, before anything is timed
    for _ in range(1 if quick else 3):
        ours.append(timed(lambda: _batched(model, images, labels, targets)))
        theirs.append(timed(lambda: _one_by_one(module, images, targets)))
    batched: Found = ours[0].value
    alone: Found = theirs[0].value
    both = torch.isfinite(batched.distortion) & torch.isfinite(alone.distortion)
    here, there = (float(found.distortion[both].median()) for found in (batched, alone))
    reached = [int(torch.isfinite(found.distortion).sum()) for found in (batched, alone)]
    raw: dict[str, Any] = {"evaluations": [batched.evaluations, alone.evaluations], "reached": reached}
    what = f"lenet, {len(images)} images"
    return [
        at_least(
            f"{what}: images per second over those of SciPy one by one",
            [a.wall / b.wall for a, b in zip(theirs, ours, strict=True)],
            3,
            **raw,
        ),
        information(f"{what}: the same in processor time", [a.cpu / b.cpu for a, b in zip(theirs, ours, strict=True)]),
        at_most(f"{what}: median distortion {here:.4f} over SciPy's {there:.4f}", [here / there], 1.0),
        Figure(
            f"{what}: targets reached, SciPy's {reached[1]}", str(reached[0]), "not fewer", met=reached[0] >= reached[1]
        ),
        Figure(
            f"{what}: evaluations an image, SciPy's {alone.evaluations / len(images):.0f}",
            f"{batched.evaluations / len(images):.0f}",
        ),
    ]


def _batched(model: bs.Classifier, images: Tensor, labels: Tensor, targets: Tensor) -> Found:
    attack = bs.Szegedy(radius=28.0, steps=STEPS, rounds=ROUNDS)
    result = attack(model, images, labels, targets=targets)
    size = result.size["l2"] / images[0].numel() ** 0.5
    return Found(torch.where(result.success, size, float("inf")), int(result.backwards.sum()))


def _one_by_one(module: nn.Module, images: Tensor, targets: Tensor) -> Found:
    distortion, evaluations = torch.full((len(images),), float("inf"), dtype=torch.float64), 0
    for row in range(len(images)):
        smallest, asked = _search(module, images[row : row + 1], targets[row : row + 1])
        distortion[row], evaluations = smallest, evaluations + asked
    return Found(distortion, evaluations)


def _search(module: nn.Module, image: Tensor, target: Tensor) -> tuple[float, int]:
    """The smallest distortion of one image, by a bracket and bisections of the weight, and evaluations."""
    start, smallest, asked = image.flatten().double().numpy(), float("inf"), 0
    weight, low, high, left = FIRST, None, None, ROUNDS
    while LEAST <= weight <= MOST:
        lowest, reached = float("inf"), False

        def one(x: np.ndarray, weight: float = weight) -> Any:
            nonlocal smallest, asked, lowest, reached
            leaf = torch.from_numpy(x).float().view_as(image).requires_grad_()
            logits = module(leaf)
            size = (leaf - image).square().sum()
            value = size + weight * F.cross_entropy(logits, target)
            (gradient,) = torch.autograd.grad(value, leaf)
            asked += 1
            hit = int(logits.argmax()) == int(target)
            if value.item() < lowest:
                lowest, reached = value.item(), hit
            if hit:
                smallest = min(smallest, (size.item() / image.numel()) ** 0.5)
            return value.item(), gradient.flatten().double().numpy()

        options = {"maxfun": STEPS}
        minimize(one, start, jac=True, method="L-BFGS-B", bounds=[(0.0, 1.0)] * len(start), options=options)
        if low is not None and high is not None:
            left -= 1
        low, high = (low, weight) if reached else (weight, high)
        if low is not None and high is not None:
            if left <= 0:
                break
            weight = (low * high) ** 0.5
        else:
            weight = weight / 10 if reached else weight * 10
    return smallest, asked
