"""What a training method is given for one batch: images, the network in its two modes, and its own state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import noise
from .team import Team


class Step:
    """One batch, or the piece of it that one process works on.

    Args:
        network: the network that learns; `logits_of` is the function from images in [0, 1] to its logits.
        images, labels, index: (n, C, H, W), (n,) and the stable numbers (n,), on the device.
        seed, epoch, number: the place in the run, from which everything random is drawn.
        smoothing: label smoothing of the loss.
        team: precision and processes.
        state: tensors of the method that live on; part of the checkpoint.
        cache: what the method loads once and does not change.
        scale: factor of the step size of inner attacks: 1, or less after an alarm.
    """

    def __init__(
        self,
        network: nn.Module,
        logits_of: Callable[[Tensor], Tensor],
        images: Tensor,
        labels: Tensor,
        index: Tensor,
        *,
        seed: int = 0,
        epoch: int = 0,
        number: int = 0,
        smoothing: float = 0.0,
        team: Team | None = None,
        state: dict[str, Tensor] | None = None,
        cache: dict[str, Any] | None = None,
        scale: float = 1.0,
    ) -> None:
        self.network, self._logits_of = network, logits_of
        self.images, self.labels, self.index = images, labels, index
        self.seed, self.epoch, self.number, self.scale = seed, epoch, number, scale
        self.team = team or Team(images.device)
        self.state = {} if state is None else state
        self.cache = {} if cache is None else cache
        self._smoothing = smoothing

    def logits(self, images: Tensor) -> Tensor:
        """Logits (n, K) of images (n, C, H, W), differentiable, in the mode that the network is in."""
        return self.through([self._logits_of], images)

    def through(self, layers: Sequence[Callable[[Tensor], Tensor]], values: Tensor) -> Tensor:
        """The values after one layer after the other, in the precision of the run, and then in full precision."""
        with self.team.autocast():
            for layer in layers:
                values = layer(values)
        return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values

    def loss(self, logits: Tensor, labels: Tensor | None = None) -> Tensor:
        """The mean cross-entropy () with the smoothed labels, those of the batch by default."""
        return F.cross_entropy(logits, self.labels if labels is None else labels, label_smoothing=self._smoothing)

    def cross_entropy(self, logits: Tensor) -> Tensor:
        """The summed cross-entropy () with the labels of the batch: what inner attacks climb."""
        return F.cross_entropy(logits, self.labels, reduction="sum")

    def keys(self, *words: int | str) -> Tensor:
        """Noise keys (n,) of the images in this epoch, for one purpose named by the words."""
        return noise.key(self.seed, self.index, "training", self.epoch, *words)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The network in evaluation mode and without parameter gradients, as attacks are made; then as it was."""
        with frozen(self.network):
            yield


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """A network in evaluation mode and without parameter gradients; afterwards every flag is as it was."""
    training = [module for module in network.modules() if module.training]
    learning = [weight for weight in network.parameters() if weight.requires_grad]
    try:
        for module in training:
            module.training = False
        for weight in learning:
            weight.requires_grad_(False)
        yield
    finally:
        for module in training:
            module.training = True
        for weight in learning:
            weight.requires_grad_(True)
