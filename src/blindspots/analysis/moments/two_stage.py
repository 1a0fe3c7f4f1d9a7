"""Moments of the logits of a deep network under Gaussian noise, by linearising it before and after one ReLU.

At an image x0, what the layer gets is z = f1(x0) + A (x - x0), what follows is linear in its answer, and in between
stands an exact formula. Exact where the network is affine-ReLU-affine, and for any network as the noise vanishes.

Source: Bibi, Alfadly, Ghanem 2018, "Analytic Expressions for Probabilistic Moments of PL-DNN with Gaussian Input".
Differs from the paper: the covariance holds for any mean (`form`); the second stage is linearised at the mean of the
layer's answer rather than at its answer to x0 (`expansion="point"` is the paper's); ways around the layer are followed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.func import vjp, vmap

from ...classifiers import Classifier
from ...errors import BlindspotsError
from ...noise import key, normal
from .forms import Form
from .noise import Noise
from .normal import lengths
from .rectified import LogitMoments, checked_form, rectified, spread
from .split import Split, after, before, find_split, rectify

Expansion = Literal["mean", "point"]
NUMBERS = 2**25  # of the Jacobians held at a time
ROWS = 256  # images times Jacobian rows pulled back at a time


@dataclass(frozen=True)
class Front:
    """The network before a layer, linear around points (B, C, H, W): what the layer gets there (B, n), and A (B, n, P).

    Made once, it serves all noise.
    """

    split: Split
    points: Tensor
    level: Tensor
    slope: Tensor

    def nearest(self, images: Tensor) -> Front:
        """For each of other images (M, C, H, W), the part linearised at the point nearest to it."""
        row = torch.cdist(images.flatten(1).to(self.points), self.points.flatten(1)).argmin(1)
        return Front(self.split, self.points[row], self.level[row], self.slope[row])


def front(model: Classifier, points: Tensor, split: Split) -> Front:
    """Linearise what comes before the layer at the points (B, C, H, W); inside a session."""
    model.layout(points)
    level, pull = vjp(lambda images: before(model, split, images), points)  # type: ignore[misc]
    return Front(split, points, level, _rows(lambda given: pull(given)[0], level))


def moments(
    model: Classifier,
    start: Front,
    noise: Noise,
    *,
    images: Tensor | None = None,
    form: Form = "general",
    expansion: Expansion = "mean",
    level: Tensor | None = None,
) -> LogitMoments:
    """Mean (B, K) and covariance (B, K, K) of the logits of images + noise; inside a session.

    Args:
        start: the network before the layer, linear around the images, or around the points nearest to them.
        images: (B, C, H, W), where they are not the points of `start`.
        level: the mean (B, n) of what the layer gets, where it is known better than by the linear part.
    """
    split, shift = start.split, noise.mean
    if images is not None:
        shift = shift + (images - start.points).flatten(1)
    A = start.slope.double()
    mean = start.level.double() + (A @ shift.expand(len(A), A.shape[-1]).unsqueeze(-1)).squeeze(-1)
    mean = mean if level is None else level.double()
    root = noise.through(A)
    of = rectified(mean, lengths(root.square().sum(-1)))
    answer = split.slope * mean + (1 - split.slope) * of.mean
    centre = answer.to(start.level) if expansion == "mean" else rectify(split, start.level)
    logits, B, D = back(model, split, centre, start.points)
    B = B.double()
    found = logits.double() + (B @ (answer - centre.double()).unsqueeze(-1)).squeeze(-1)
    weight = (1 - split.slope) * B
    covariance = spread(weight, of, root, form)
    if split.slope or D is not None:
        # A part that is linear in the noise: what leaks below zero, and the ways around the layer.
        linear = split.slope * (B @ root)
        if D is not None:
            found = found + (D.double() @ shift.expand(len(A), A.shape[-1]).unsqueeze(-1)).squeeze(-1)
            linear = linear + noise.through(D.double())
        cross = ((weight * of.gain.unsqueeze(-2)) @ root) @ linear.mT
        covariance = covariance + cross + cross.mT + linear @ linear.mT
    return LogitMoments(found, covariance)


def two_stage(
    model: Classifier,
    images: Tensor,
    sigma: float | Tensor,
    *,
    layer: str | None = None,
    mean: Tensor | None = None,
    form: Form = "general",
    expansion: Expansion = "mean",
    points: Tensor | None = None,
    pairs: int = 0,
    index: Tensor | None = None,
    seed: int = 0,
) -> LogitMoments:
    """Mean (B, K) and covariance (B, K, K), in float64, of g(x + n) for n ~ N(mean, sigma), by formulas.

    Args:
        images: x (B, C, H, W) in [0, 1]; x + n is not clamped.
        sigma: standard deviation of each pixel, as a number or (C, H, W), or a covariance (P, P), P = CHW.
        layer: the ReLU-like layer at which the network is cut; by default the middle one.
        mean: of the noise, (C, H, W); zero by default.
        form: of the covariance of the layer's answer, see `rectified.covariance_rows`.
        expansion: where the second stage is linearised: at the `mean` of the layer's answer, or at its answer to x.
        points: linearise the first stage at these images (M, C, H, W) instead, and use for x the nearest one.
        pairs: antithetic draws n and -n of the noise, from which the mean before the layer is then taken. Their linear
            parts cancel, so that a few tell how the first stage bends, which no tangent does; 0 is without sampling.
        index, seed: stable numbers (B,) of the images and the seed, from which the draws follow.

    Raises:
        BlindspotsError: no such layer; no ReLU-like layer at all; a covariance that is none.

    >>> import blindspots as bs
    >>> net = bs.build("fc20-10", channels=1, size=8, hidden="relu")
    >>> found = two_stage(bs.classifier(net), torch.rand(3, 1, 8, 8), 0.1)
    >>> found.mean.shape, found.covariance.shape
    (torch.Size([3, 10]), torch.Size([3, 10, 10]))
    """
    checked_form(form)
    if expansion not in get_args(Expansion):
        raise BlindspotsError(f"expansion must be one of {', '.join(get_args(Expansion))}, got '{expansion}'")
    if pairs < 0:
        raise BlindspotsError(f"pairs must be at least 0, got {pairs}")
    images = model.accept(images)
    split, noise = find_split(model, images, layer), Noise.of(images[0], sigma, mean)
    model.layout(images)
    with model.session(), torch.no_grad():
        shared = None if points is None else front(model, model.accept(points), split)
        numbers = torch.arange(len(images)) if index is None else index
        parts = []
        for part, start in _parts(model, images, split, shared):
            mine, numbers = numbers[: len(start.level)], numbers[len(start.level) :]
            shown = start.points if part is None else part
            level = bent(model, split, shown, noise, pairs, mine, seed) if pairs else None
            parts.append(moments(model, start, noise, images=part, form=form, expansion=expansion, level=level))
    return LogitMoments(torch.cat([p.mean for p in parts]), torch.cat([p.covariance for p in parts]))


def bent(model: Classifier, split: Split, images: Tensor, noise: Noise, pairs: int, index: Tensor, seed: int) -> Tensor:
    """The mean (B, n) of what the layer gets over antithetic pairs of noise on images (B, C, H, W); in a session."""
    total = images.new_zeros(len(images), split.width, dtype=torch.float64)
    for pair in range(pairs):
        keys = key(seed, index.to(images.device), "pairs", pair)
        drawn = noise.draw(normal(keys, (noise.mean.numel(),), images.dtype)) - noise.mean.to(images)
        for moved in (drawn, -drawn):
            shown = images + (noise.mean.to(images) + moved).view_as(images)
            total += before(model, split, shown).double()
    return total / (2 * pairs)


def portions(images: Tensor, split: Split) -> Iterator[Tensor]:
    """As many images at a time as may have their Jacobians in memory."""
    count = max(1, NUMBERS // (split.width * math.prod(images.shape[1:])))
    yield from images.split(count)  # type: ignore[no-untyped-call]


def _parts(
    model: Classifier, images: Tensor, split: Split, shared: Front | None
) -> Iterator[tuple[Tensor | None, Front]]:
    for part in portions(images, split):
        yield (None, front(model, part, split)) if shared is None else (part, shared.nearest(part))


def linear_back(model: Classifier, start: Front) -> tuple[Tensor, Tensor, Tensor | None]:
    """`back` at what the layer answers to the points themselves, in float64."""
    logits, B, D = back(model, start.split, rectify(start.split, start.level), start.points)
    return logits.double(), B.double(), None if D is None else D.double()


def back(model: Classifier, split: Split, hidden: Tensor, images: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Logits (B, K) where the layer answers `hidden` (B, n), with B (B, K, n) and, if there is a way around, D."""
    if not split.around:
        logits, pull = vjp(lambda given: after(model, split, given, images), hidden)  # type: ignore[misc]
        return logits, _rows(lambda given: pull(given)[0], logits), None
    logits, pull = vjp(lambda given, shown: after(model, split, given, shown), hidden, images)  # type: ignore[misc]
    return logits, _rows(lambda given: pull(given)[0], logits), _rows(lambda given: pull(given)[1], logits)


def _rows(pull: Callable[[Tensor], Tensor], answer: Tensor) -> Tensor:
    """The Jacobian (B, n, ...) of an answer (B, n), pulled back row by row for all images at once."""
    count, n = answer.shape
    units = torch.eye(n, dtype=answer.dtype, device=answer.device)
    rows = vmap(lambda unit: pull(unit.expand(count, n)), chunk_size=max(1, ROWS // count))(units)
    return rows.transpose(0, 1).flatten(2)
