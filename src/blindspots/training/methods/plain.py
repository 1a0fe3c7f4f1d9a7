"""Plain training: the mean cross-entropy on the images as they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .method import Method, Part

if TYPE_CHECKING:
    from torch import Tensor

    from ..step import Step


@dataclass(frozen=True)
class Plain(Method):
    """Minimise the mean over images of H(q, softmax(g(x))), with q = (1 - s) onehot(y) + s / K.

    The smoothing s is the run's. Source: Szegedy et al. 2016, arXiv 1512.00567, section 7. Differs from the paper:
    nothing.
    """

    name: ClassVar[str] = "plain"
    summary: ClassVar[str] = "the images as they are"

    def craft(self, step: Step) -> Tensor | None:
        return None

    def parts(self, step: Step, crafted: Tensor | None) -> Iterator[Part]:
        logits = step.logits(step.images)
        yield Part(step.loss(logits), logits)
