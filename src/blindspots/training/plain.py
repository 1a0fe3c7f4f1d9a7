"""Plain training: the mean cross-entropy on the images as they are.

A training method is a frozen dataclass with `loss(logits_of, images, labels) -> (loss, logits)`: the loss to descend,
and the logits from which the running accuracy is counted. The loop knows nothing else of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Plain:
    """Minimise the mean over images of H(q, softmax(g(x))), with q = (1 - s) onehot(y) + s / K.

    Source of the smoothing s: Szegedy et al. 2016, arXiv 1512.00567, section 7. Differs from the paper: nothing.
    """

    label_smoothing: float = 0.0

    def loss(self, logits_of: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss () and logits (B, K) of images (B, C, H, W) in [0, 1] with labels (B,)."""
        logits = logits_of(images)
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing), logits
