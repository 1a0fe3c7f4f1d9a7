"""Which pixels matter: noise on one window of the image, slid over it, and the chance that the answer changes."""

from __future__ import annotations

import torch
from torch import Tensor

from ...classifiers import Classifier
from .normal import distribution, lengths
from .rectified import rectified
from .two_stage import Front, linear_back


def flip_chance(mean: Tensor, covariance: Tensor, labels: Tensor) -> Tensor:
    """The chance (...) that a rival's logit exceeds the label's: that of the likeliest rival alone, for normal margins.

    Args:
        mean, covariance: of the logits, (..., K) and (..., K, K). labels: (...).

    A lower bound of the chance that any rival does, but for margins that are not normal. Without variance it is 0 or 1.
    """
    own = labels.unsqueeze(-1)
    margin = mean.gather(-1, own) - mean
    row = covariance.gather(-2, own.unsqueeze(-1).expand(*own.shape, mean.shape[-1])).squeeze(-2)
    variance = covariance.diagonal(dim1=-2, dim2=-1)
    spread = lengths((variance + variance.gather(-1, own) - 2 * row).clamp(min=0))
    sure = (margin < 0).to(mean)
    chance = torch.where(spread > 0, distribution(-margin / torch.where(spread > 0, spread, 1.0)), sure)
    return chance.scatter(-1, own, 0.0).amax(-1)


def window_chances(model: Classifier, start: Front, sigma: float, size: int, stride: int) -> Tensor:
    """The chance (B, h, w) that the answer to each image changes under noise on one size x size window alone.

    The answer is that to the image without noise. Both stages are linear at the image, the covariance is the
    first-order one; inside a session.
    """
    images, split = start.points, start.split
    logits, B, D = linear_back(model, start)
    labels = logits.argmax(1)
    count, _, height, width = images.shape
    rows = range(0, height - size + 1, stride)
    columns = range(0, width - size + 1, stride)
    found = []
    for top in rows:
        for left in columns:
            part = (slice(None),) * 3 + (slice(top, top + size), slice(left, left + size))
            root = sigma * start.slope.view(*start.slope.shape[:2], *images.shape[1:])[part].flatten(2).double()
            of = rectified(start.level.double(), lengths(root.square().sum(-1)))
            weight = (1 - split.slope) * B
            linear = (weight * of.gain.unsqueeze(-2) + split.slope * B) @ root
            if D is not None:
                linear = linear + sigma * D.view(*D.shape[:2], *images.shape[1:])[part].flatten(2)
            own = of.variance - (of.scale * of.gain) ** 2
            covariance = linear @ linear.mT + (weight * own.unsqueeze(-2)) @ weight.mT
            shift = (weight @ (of.mean - start.level.double().clamp(min=0)).unsqueeze(-1)).squeeze(-1)
            found.append(flip_chance(logits + shift, covariance, labels))
    return torch.stack(found, 1).view(count, len(rows), len(columns))
