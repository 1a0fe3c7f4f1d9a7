"""Moments through a chain of affine maps and ReLUs, layer by layer: no linearisation, and no sampling.

What each affine map gives is taken to be Gaussian, with its full covariance; then the moments after the next ReLU are
exact. Only sums of many numbers are near Gaussian, so narrow layers are the less exact ones.

Source: assumed density filtering, Minka 2001; of networks, Gast and Roth 2018, "Lightweight Probabilistic Deep
Networks". Differs from the papers: the whole covariance is kept, not the variances alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...classifiers import Classifier
from ...errors import BlindspotsError
from ..chains import Step, walk
from ..norms import batch_norm_scale
from .noise import Noise
from .normal import lengths
from .rectified import LogitMoments, coefficients, rectified
from .split import KINDS

PASSING = (nn.Flatten, nn.Identity, nn.Dropout)
NUMBERS = 2**19  # of covariances worked on at a time, so that they stay in the processor's cache


@dataclass(frozen=True)
class Affine:
    """h -> W h + b, with W (m, n) and b (m,)."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Leaky:
    """h -> max(h, 0) + slope min(h, 0)."""

    slope: float


Chain = tuple["Affine | Leaky", ...]


def chain(model: Classifier, image: Tensor) -> Chain:
    """The network, from the pixels of an image (1, C, H, W) in [0, 1] to logits, as affine maps and ReLUs in turn.

    The normalisation goes into the first map, batch norm into the one before it.

    Raises:
        BlindspotsError: anything but Linear, BatchNorm1d, ReLU, LeakyReLU, Flatten, Dropout and Identity, one after the
            other.
    """
    path = walk(model, image)
    if model.defences or path.broken is not None:
        where = "behind a defence" if model.defences else f"with something else {path.broken}"
        raise BlindspotsError(f"'{model.name}' is no chain of layers ({where}): take the two-stage form")
    steps = [step for run in path.steps for step in _step(model, run)]
    return _joined([_normalised(model, image), *steps], model.dtype)


def _step(model: Classifier, run: Step) -> list[Affine | Leaky]:
    layer = run.layer
    if isinstance(layer, nn.Linear):
        return [Affine(layer.weight, layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias)]
    if isinstance(layer, nn.BatchNorm1d) and layer.running_mean is not None:
        factor = batch_norm_scale(layer)
        shift = -layer.running_mean.double() * factor
        return [Affine(torch.diag(factor), shift if layer.bias is None else shift + layer.bias.double())]
    if isinstance(layer, KINDS):
        return [Leaky(layer.negative_slope if isinstance(layer, nn.LeakyReLU) else 0.0)]
    if isinstance(layer, PASSING):
        return []
    raise BlindspotsError(
        f"'{model.name}' has the layer '{run.name}' ({type(layer).__name__}), which moments cannot be taken through "
        "layer by layer: take the two-stage form"
    )


def _normalised(model: Classifier, image: Tensor) -> Affine:
    channels, pixels = image.shape[1], image.shape[2] * image.shape[3]
    mean = torch.tensor(model.mean or (0.0,), dtype=torch.float64, device=image.device).expand(channels)
    std = torch.tensor(model.std or (1.0,), dtype=torch.float64, device=image.device).expand(channels)
    factor = (1 / std).repeat_interleave(pixels)
    return Affine(torch.diag(factor), -mean.repeat_interleave(pixels) * factor)


def _joined(steps: list[Affine | Leaky], dtype: torch.dtype) -> Chain:
    """Neighbouring affine maps as one."""
    joined: list[Affine | Leaky] = []
    for step in steps:
        last = joined[-1] if joined else None
        if isinstance(step, Affine):
            step = Affine(step.weight.detach().double(), step.bias.detach().double())
            if isinstance(last, Affine):
                joined[-1] = Affine(step.weight @ last.weight, step.weight @ last.bias + step.bias)
                continue
        joined.append(step)
    return tuple(s if isinstance(s, Leaky) else Affine(s.weight.to(dtype), s.bias.to(dtype)) for s in joined)


@torch.no_grad()
def matched(
    model: Classifier, images: Tensor, sigma: float | Tensor, *, mean: Tensor | None = None, terms: int = 4
) -> LogitMoments:
    """Mean (B, K) and covariance (B, K, K), in float64, of g(x + n) for n ~ N(mean, sigma), layer by layer.

    Worked out in the precision of the model.

    Args:
        images, sigma, mean: as for `two_stage`.
        terms: of Mehler's series for the covariance after each ReLU, whose diagonal is exact in any case.

    Raises:
        BlindspotsError: the network is not a chain of affine layers and ReLUs.
    """
    images = model.accept(images)
    steps = chain(model, images[:1])
    noise = Noise.of(images[0], sigma, mean)
    first = steps[0]
    if not isinstance(first, Affine):
        raise BlindspotsError(f"'{model.name}' begins with a ReLU, which leaves nothing to take moments of")
    root = noise.through(first.weight.double())
    start = (root @ root.mT).to(first.weight)  # all images have the same noise
    widest = max(len(step.bias) for step in steps if isinstance(step, Affine))
    parts = [
        _through(steps, part.flatten(1) + noise.mean.to(part), start, terms)
        for part in images.split(max(1, NUMBERS // widest**2))  # type: ignore[no-untyped-call]
    ]
    return LogitMoments(torch.cat([p.mean for p in parts]), torch.cat([p.covariance for p in parts]))


def _through(steps: Chain, given: Tensor, start: Tensor, terms: int) -> LogitMoments:
    first = steps[0]
    assert isinstance(first, Affine)
    mean, covariance = torch.addmm(first.bias, given, first.weight.mT), start
    for step in steps[1:]:
        if isinstance(step, Affine):
            mean = torch.addmm(step.bias, mean, step.weight.mT)
            covariance = step.weight @ (covariance @ step.weight.mT)
        else:
            mean, covariance = _rectified(step.slope, mean, covariance, terms)
    return LogitMoments(mean.double(), covariance.expand(len(mean), *covariance.shape[-2:]).double())


def _rectified(slope: float, mean: Tensor, covariance: Tensor, terms: int) -> tuple[Tensor, Tensor]:
    """Moments (B, n), (B, n, n) after a ReLU of moments (B, n) and (B, n, n), or (n, n) for all, before it."""
    scale = lengths(covariance.diagonal(dim1=-2, dim2=-1).clamp(min=0))
    of = rectified(mean, scale.expand_as(mean))
    inverse = torch.where(of.scale > 0, 1 / torch.where(of.scale > 0, of.scale, 1.0), 0.0)
    factors = [c * inverse**k for k, c in enumerate(coefficients(of, terms))]
    # A leaky ReLU is slope z + (1 - slope) max(z, 0): of the series only the first coefficient is another.
    factors = [(1 - slope) * f for f in factors]
    factors[0] = factors[0] + slope
    # Units that are almost never on would fill the products with denormal numbers, on which a processor is slow.
    floor = torch.finfo(mean.dtype).tiny ** 0.25
    factors = [torch.where(f.abs() < floor, 0.0, f) for f in factors]
    total = mean.new_zeros(*mean.shape, mean.shape[-1])
    for k in range(terms, 0, -1):
        total.addcmul_(factors[k - 1].unsqueeze(-1), factors[k - 1].unsqueeze(-2), value=1 / math.factorial(k))
        total.mul_(covariance)
    own = (1 - slope) ** 2 * of.variance + scale**2 * slope * (slope + 2 * (1 - slope) * of.gain)
    total.diagonal(dim1=-2, dim2=-1).copy_(torch.where(own < floor**2, 0.0, own))
    return slope * mean + (1 - slope) * of.mean, total
