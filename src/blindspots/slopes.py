"""Gradients that are means: over the draws of a randomised model, and over changed copies of the images.

Means guide a search; what is judged is always the image as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

from . import noise
from .record import Answer

if TYPE_CHECKING:
    from torch import Tensor

    from .oracle import Oracle
    from .transforms import Transform


def expected(oracle: Oracle, theta: Tensor, draws: int, judged: bool = True) -> Answer:
    """The mean loss and gradient of `draws` queries at theta (R, ...), of which the first is judged.

    The expectation over transformation of Athalye et al. 2018 (arXiv:1707.07397), for models that answer the same image
    differently; any other model answers the same `draws` times.
    """
    answer = oracle.query(theta, judged=judged)
    if draws == 1:
        return answer
    assert answer.gradient is not None
    loss, gradient = answer.loss, answer.gradient
    for _ in range(draws - 1):
        more = oracle.query(theta, judged=False)
        assert more.gradient is not None
        loss, gradient = loss + more.loss, gradient + more.gradient
    return Answer(loss / draws, gradient / draws, answer.logits, loss / draws)


def transformed(oracle: Oracle, theta: Tensor, transforms: Sequence[Transform], draws: int, keys: Tensor) -> Tensor:
    """The mean gradient at theta (R, ...) through every copy that the transformations make; judges nothing.

    Transformations apply in the order given, and what each makes of the gradient in the reverse order. Every copy is
    asked for `draws` times, each with noise of its own from the keys (R,).
    """
    total: Tensor | None = None
    counts = [range(transform.copies) for transform in transforms]
    numbered = list(product(*counts, range(draws)))
    for number, (*copies, _) in enumerate(numbered):
        mine = noise.key(0, keys, number)

        def through(images: Tensor, rows: slice, copies: list[int] = copies, mine: Tensor = mine) -> Tensor:
            for transform, copy in zip(transforms, copies, strict=True):
                images = transform.change(images, mine[rows], copy)
            return images

        gradient = oracle.query(theta, judged=False, through=through).gradient
        assert gradient is not None
        total = gradient if total is None else total + gradient
    assert total is not None
    mean = total / len(numbered)
    for transform in reversed(transforms):
        mean = transform.smooth(mean)
    return mean
