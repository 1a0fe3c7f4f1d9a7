"""Moments of the logits by sampling: any number of draws, none of which is kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...batching import fill
from ...classifiers import Classifier
from ...errors import BlindspotsError
from ...noise import key
from .noise import Noise
from .rectified import LogitMoments

CALL = 512  # draws in a model call


@dataclass(frozen=True)
class Sampled:
    """What N draws of noise for each of B images told of the logits.

    Attributes:
        draws: N.
        mean, covariance: of the logits, (B, K) and (B, K, K).
        mean_error, covariance_error: their standard errors, of the same shapes.
        counts: how often each class had the greatest logit, (B, K), int64.
    """

    draws: int
    mean: Tensor
    covariance: Tensor
    mean_error: Tensor
    covariance_error: Tensor
    counts: Tensor

    @property
    def moments(self) -> LogitMoments:
        return LogitMoments(self.mean, self.covariance)

    @property
    def variance(self) -> Tensor:
        return self.moments.variance

    @property
    def variance_error(self) -> Tensor:
        return self.covariance_error.diagonal(dim1=-2, dim2=-1)


class Sums:
    """Running sums over draws of K numbers, from which mean, covariance and their standard errors follow, in float64.

    Numbers are taken relative to the mean of the first draws, so that nothing cancels, and so that the products, whose
    spread gives the error of the covariance, are those of deviations.
    """

    def __init__(self) -> None:
        self.count = 0
        self._centre: Tensor | None = None

    def add(self, numbers: Tensor) -> None:
        """Take in draws (N, K)."""
        numbers = numbers.double()
        if self._centre is None:
            self._centre = numbers.mean(0)
            width = len(self._centre)
            self._first, self._wins = torch.zeros_like(self._centre), torch.zeros_like(self._centre, dtype=torch.int64)
            self._second, self._fourth = self._centre.new_zeros(2, width, width)
        off = numbers - self._centre
        squares = off * off
        self.count += len(numbers)
        self._first = self._first + off.sum(0)
        self._second = self._second + off.mT @ off
        self._fourth = self._fourth + squares.mT @ squares
        self._wins = self._wins + torch.bincount(numbers.argmax(1), minlength=len(self._centre))

    def found(self) -> Sampled:
        """Of one image: without the dimension of images.

        The standard error of a covariance is that of the mean product of deviations from the centre.
        """
        if self._centre is None or self.count < 2:
            raise BlindspotsError(f"moments need at least 2 draws, got {self.count}")
        n, first = self.count, self._first / self.count
        product = self._second / n
        covariance = (product - first.unsqueeze(1) * first) * (n / (n - 1))
        error = ((self._fourth / n - product**2).clamp(min=0) / n).sqrt()
        spread = (covariance.diagonal().clamp(min=0) / n).sqrt()
        return Sampled(n, self._centre + first, covariance, spread, error, self._wins)


@torch.no_grad()
def sample(
    model: Classifier,
    images: Tensor,
    noise: Noise,
    draws: int,
    *,
    index: Tensor | None = None,
    seed: int = 0,
    clamp: bool = False,
) -> Sampled:
    """Ask the network about each image (B, C, H, W) with `draws` draws of noise, in calls of one shape, nothing kept.

    The noise of an image follows from the seed and the image's number (`index`, by default its place), whatever comes
    with it, and more draws go on where fewer end; on another kind of device it is another stream. `clamp` cuts the
    noisy images to [0, 1], which the formulas know nothing of.
    """
    if draws < 2:
        raise BlindspotsError(f"draws must be at least 2, got {draws}")
    images = model.accept(images)
    model.layout(images)
    index = torch.arange(len(images)) if index is None else index
    found = []
    with model.session():
        for image, number in zip(images, key(seed, index.cpu(), "moments").tolist(), strict=True):
            stream = torch.Generator(images.device).manual_seed(number)
            sums = Sums()
            for start in range(0, draws, CALL):
                standard = torch.randn(
                    min(CALL, draws - start), image.numel(), generator=stream, dtype=image.dtype, device=image.device
                )
                shown = (image.flatten() + noise.draw(standard)).view(-1, *image.shape)
                if clamp:
                    shown = shown.clamp(0, 1)
                sums.add(model.forward(fill(shown, CALL), exact=True)[: len(shown)])
            found.append(sums.found())
    names = ("mean", "covariance", "mean_error", "covariance_error", "counts")
    return Sampled(draws, *(torch.stack([getattr(one, name) for one in found]) for name in names))
