"""Gatys' way: no network, the image itself is optimised. Slow, and what a transfer network is held against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..optimisers import LBFGS

if TYPE_CHECKING:
    from torch import Tensor

    from .features import FeatureNetwork
    from .objective import StyleObjective


def gatys(
    objective: StyleObjective, network: FeatureNetwork, content: Tensor, style: Tensor, steps: int = 100
) -> tuple[Tensor, Tensor]:
    """Minimise the objective over images in [0, 1] by L-BFGS, each image on its own, beginning at the content.

    Args:
        content, style: (B, C, H, W) in [0, 1].
        steps: evaluations of objective and gradient at most.

    Returns:
        The best images seen (B, C, H, W), and their objective (B,).

    Source: Gatys et al. 2016, "Image style transfer using convolutional neural networks" (L-BFGS on the image).
    Differs from the paper: the objective is the one given, so that a network trained for it can be compared; the box.
    """
    with torch.no_grad():
        of_content, of_style = network(content), network(style)
    # A sum of float32 features moves by more than the optimiser's usual tolerance of a gradient.
    optimiser = LBFGS(tolerance_gradient=1e-9, first_step=0.1)
    images = content.detach().clone()
    best, lowest = images.clone(), torch.full((len(images),), float("inf"), dtype=images.dtype, device=images.device)
    state = optimiser.init(images, bounds=(torch.zeros_like(images), torch.ones_like(images)))
    for step in range(steps + 1):
        leaf = images.requires_grad_(True)
        loss = objective.terms(network, leaf, of_content, of_style)["total"]
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        images, loss = leaf.detach(), loss.detach()
        better = loss < lowest
        best[better], lowest[better] = images[better], loss[better]
        if step == steps or bool(state["done"].all()):
            break
        images, state = optimiser.update(images, loss, gradient, state)
    return best, lowest
