"""What is fitted: modules from images to changed images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ..geometry import NORMS
from ..universal.perturbation import onto_ball
from .forms import brought, shortened
from .inward import into_box

if TYPE_CHECKING:
    from torch import Tensor

    from .forms import Form


class FromImage(nn.Module):
    """x' = form(G(x)): the change depends on the image."""

    def __init__(self, network: nn.Module, form: Form) -> None:
        super().__init__()
        self.network, self.form = network, form

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> changed images of the same shape."""
        return self.form(self.network(images), images)


class FromNoise(nn.Module):
    """x' = clamp(x + U), U made of one fixed image Z of uniform noise: the same for all images."""

    noise: Tensor

    def __init__(self, network: nn.Module, form: Form, noise: Tensor) -> None:
        super().__init__()
        self.network, self.form = network, form
        self.register_buffer("noise", noise)

    def delta(self) -> Tensor:
        """U (1, C, H, W), of the radius itself: the box cuts it off for each image in another way."""
        form = self.form
        answer: Tensor = self.network(self.noise)
        assert form.radius is not None
        d: Tensor = answer.tanh() if form.head == "tanh" else answer.sigmoid()
        if form.norm == "linf":
            return form.radius * d
        return brought(d, form.radius) if form.exact else shortened(d, form.radius)

    def forward(self, images: Tensor) -> Tensor:
        return added(images, self.delta(), self.form.norm)


class Free(nn.Module):
    """x' = clamp(x + delta): the change itself is the parameter."""

    def __init__(self, shape: tuple[int, int, int], norm: str) -> None:
        super().__init__()
        self.delta, self.norm = nn.Parameter(torch.zeros(1, *shape)), norm

    def forward(self, images: Tensor) -> Tensor:
        return added(images, self.delta, self.norm)


def added(images: Tensor, delta: Tensor, norm: str) -> Tensor:
    """clamp(images + delta), delta the same for all images.

    In linf a value that the box cuts off for most images keeps the gradients that lead back, or it would stay where it
    is. In l2 they would say what a value is worth at the bound, and not where it is: there it went less far.
    """
    return into_box(images + delta) if norm == "linf" else (images + delta).clamp(0, 1)


class Steepest(torch.optim.Optimizer):
    """delta <- project(delta + lr * step), with the step of unit size along which the loss falls fastest."""

    def __init__(self, delta: nn.Parameter, lr: float, norm: str, radius: float) -> None:
        super().__init__([delta], {"lr": lr, "norm": norm, "radius": radius})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for delta in group["params"]:
                moved = delta + group["lr"] * NORMS[group["norm"]].steepest(delta.grad)
                delta.copy_(onto_ball(moved[0], group["norm"], group["radius"]).unsqueeze(0))


def discriminator(shape: tuple[int, int, int]) -> nn.Module:
    """(B, C, H, W) -> (B, 1, h, w), one answer for each patch: convolutions 4x4 of stride 2 to 16, 32, ... channels.

    Source: AdvGAN's (Xiao et al. 2018, arXiv:1801.02610), 8, 16, 32 channels there for 28 pixels. No batch norm: with
    it the answer for an image would depend on the others.
    """
    layers: list[nn.Module] = []
    inside, size = shape[0], min(shape[1:])
    wide = 16
    while size >= 8 and len(layers) < 8:
        layers += [nn.Conv2d(inside, wide, 4, 2, 1), nn.LeakyReLU(0.2)]
        inside, wide, size = wide, 2 * wide, size // 2
    return nn.Sequential(*layers, nn.Conv2d(inside, 1, 3, 1, 1))
