"""Adversarial weight perturbation: the gradient of a step is taken where the weights themselves have been moved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .methods import Method
from .step import Step


@contextmanager
def moved_weights(step: Step, method: Method, crafted: Tensor | None, size: float, weight: float) -> Iterator[None]:
    """Inside the block each weight tensor w of two dimensions or more is w + v, the step up the loss of the batch

        v = size * ||w|| * g / ||g||,   g = grad_w of the sum of the method's losses;

    afterwards it is w again. A size of 0 does nothing. `weight` is the share of the batch that this process has.

    Cost: the forwards and backwards of the method's losses once more.
    Source: Wu, Xia, Wang 2020, "Adversarial weight perturbation helps robust generalization", arXiv:2004.05884, with
    gamma for size. Differs from the paper: weight decay acts on w and not on w + v.
    """
    if not size:
        yield
        return
    buffers = [(buffer, buffer.clone()) for buffer in step.network.buffers()]
    weights = [value for value in step.network.parameters() if value.requires_grad and value.ndim > 1]
    loss = torch.stack([part.loss * weight for part in method.parts(step, crafted)]).sum()
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    gradients = [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)]
    step.team.sum(*gradients)
    before = [value.detach().clone() for value in weights]
    with torch.no_grad():
        for buffer, value in buffers:
            buffer.copy_(value)
        for value, gradient in zip(weights, gradients, strict=True):
            length = torch.linalg.vector_norm(gradient).clamp(min=1e-30)
            value.add_(gradient * (size * torch.linalg.vector_norm(value) / length))
    try:
        yield
    finally:
        with torch.no_grad():
            for value, old in zip(weights, before, strict=True):
                value.copy_(old)
