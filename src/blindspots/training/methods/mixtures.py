"""How clean and crafted images are mixed in a step. With l1 the loss of the clean half and l2 that of the crafted one:

only         l2: the crafted images alone (Madry et al. 2018, arXiv:1706.06083).
accumulate   l1 + l2, two backward passes and one update: gradient g1 + g2.
average      (l1 + l2) / 2 (Goodfellow et al. 2015, arXiv:1412.6572): gradient (g1 + g2) / 2.
concatenate  the mean over the batch of both halves: equal to average for halves of equal size, unless batch
             normalisation mixes their statistics.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, get_args

from ...lazy import torch
from ...settings import one_of
from .method import Part

if TYPE_CHECKING:
    from torch import Tensor

    from ..step import Step

Mixture = Literal["only", "accumulate", "average", "concatenate"]


def check_mixture(settings: object) -> None:
    """Refuse a mixture that is not one of them."""
    one_of(settings, "mixture", get_args(Mixture))


def mixed(step: Step, crafted: Tensor | None, mixture: Mixture) -> Iterator[Part]:
    """The parts of a step on images (n, C, H, W) and crafted ones (k n, C, H, W), k blocks of the same labels."""
    assert crafted is not None
    labels = step.labels.repeat(len(crafted) // len(step.labels))
    if mixture == "concatenate":
        logits = step.logits(torch.cat([step.images, crafted]))
        yield Part(step.loss(logits, torch.cat([step.labels, labels])), logits[-len(step.labels) :])
        return
    weight = 0.5 if mixture == "average" else 1.0
    if mixture != "only":
        logits = step.logits(step.images)
        yield Part(step.loss(logits) * weight, logits)
    logits = step.logits(crafted)
    yield Part(step.loss(logits, labels) * weight, logits[-len(step.labels) :])
