"""Training a quocnet without labels, and then the detector on top of it, with its filters as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import ImageData
from ..errors import BlindspotsError
from ..models.quocnet import LocallyConnected
from ..settings import above, at_least
from .order import epoch_batches, key
from .rows import Rows, read_rows

_ROOT = 1e-4  # epsilon of the penalty's root, as large as the square of a weak response


@dataclass(frozen=True)
class WithoutLabels:
    """Reconstruction with a sparse topographic penalty, for each stage with filters W1 and decoder W2,

        mean over images of ||W2^T W1 x - x||^2 + sparsity * sum_j sqrt(epsilon + sum over the pool H_j of (W1 x)^2),

    where x is what the stage below answers; the decoder is dropped at the end. All stages learn at once, each from its
    own term alone.

    Source: Le et al. 2012, "Building high-level features using large scale unsupervised learning", arXiv:1112.6209,
    equation 1. Differs from the paper: no gradient flows from a stage to those below it; Adam.
    """

    epochs: int = 3
    """How often every image is seen."""
    batch: int = 100
    """Images of each step."""
    rate: float = 3e-3
    """Step of Adam."""
    sparsity: float = 0.1
    """Weight of the penalty."""

    def __post_init__(self) -> None:
        at_least(self, epochs=0, batch=1, sparsity=0)
        above(self, rate=0)

    def fit(
        self, network: nn.Sequential, data: ImageData, *, seed: int = 0, progress: Callable[[str], None] | None = None
    ) -> list[float]:
        """Train the stages of the network in place.

        Returns:
            The mean objective of each epoch.

        Raises:
            BlindspotsError: a network without such stages.
        """
        stages = _stages(network)
        layers: list[LocallyConnected] = [stage.local for stage in stages]  # type: ignore[misc]
        decoders = [layer.weight.detach().clone().requires_grad_() for layer in layers]
        optimiser = torch.optim.Adam([*(layer.weight for layer in layers), *decoders], lr=self.rate)
        rows, means = read_rows(data), []
        for epoch in range(self.epochs):
            total = 0.0
            for chosen in epoch_batches(len(rows), self.batch, key(seed, "without-labels"), epoch):
                optimiser.zero_grad()
                loss = self.objective(stages, decoders, rows.batch(chosen)[0])
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                total += float(loss.detach()) * len(chosen)
            means.append(total / len(rows))
            if progress is not None:
                progress(f"epoch {epoch + 1}: {means[-1]:.4g}")
        return means

    def objective(self, stages: list[nn.Sequential], decoders: list[Tensor], images: Tensor) -> Tensor:
        """The sum over stages of the mean objective of images (B, C, H, W)."""
        below, total = images, torch.zeros((), dtype=images.dtype)
        for stage, decoder in zip(stages, decoders, strict=True):
            layer, pool, norm = stage
            assert isinstance(layer, LocallyConnected)
            answers = layer(below)
            missing = layer.transposed(answers, decoder) - below
            pooled = pool(answers)
            penalty = (pooled.square() + _ROOT).sqrt().flatten(1).sum(1)
            total = total + (missing.flatten(1).square().sum(1) + self.sparsity * penalty).mean()
            below = norm(pooled).detach()
        return total


def fit_detector(network: nn.Sequential, data: ImageData, *, penalty: float = 1e-4, steps: int = 200) -> None:
    """Fit the linear output of the network to the labels by multinomial logistic regression, all else as it is.

    Minimises the mean cross entropy + penalty * sum(w^2) over all images at once by L-BFGS, from 0.
    """
    network.eval()
    features, head = network[:-1], network[-1]
    if not isinstance(head, nn.Linear):
        raise BlindspotsError(f"a detector must be linear, got {type(head).__name__}: give a network that ends in one")
    rows = read_rows(data)
    with torch.no_grad():
        known = torch.cat([features(images) for images in _images(rows)])
    spread = known.std(0).clamp(min=1e-6)
    weight = torch.zeros_like(head.weight, requires_grad=True)
    bias = torch.zeros_like(head.bias, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(F.linear(known / spread, weight, bias), data.labels) + penalty * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        head.weight.copy_(weight / spread)
        head.bias.copy_(bias)


def _images(rows: Rows, size: int = 500) -> list[Tensor]:
    return [rows.batch(chosen)[0] for chosen in torch.arange(len(rows)).tensor_split(-(-len(rows) // size))]


def _stages(network: nn.Sequential) -> list[nn.Sequential]:
    stages = [
        part
        for part in network.children()
        if isinstance(part, nn.Sequential) and isinstance(next(part.children()), LocallyConnected)
    ]
    if not stages:
        raise BlindspotsError("training without labels needs stages of local filters: give a network such as quocnet")
    return stages
