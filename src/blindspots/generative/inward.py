"""A box that lets gradients through where descent leads back into it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def into_box(values: Tensor) -> Tensor:
    """clamp(values, 0, 1), whose gradient is zero only where descent would lead further out of the box.

    That of clamp is zero wherever a bound is met, so what has left the box would never come back.
    """
    boxed: Tensor = _IntoBox.apply(values)
    return boxed


class _IntoBox(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return values.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (values,) = ctx.saved_tensors
        return gradient.masked_fill(((values <= 0) & (gradient > 0)) | ((values >= 1) & (gradient < 0)), 0)
