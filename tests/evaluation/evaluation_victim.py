"""A small victim as a file that a fresh process can name, so that runs can be killed and continued."""

from __future__ import annotations

import torch
from torch import nn


def victim() -> nn.Module:
    """A fixed random network on 8 x 8 images that gets about all of its own labels right."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 16, 10)
        ).eval()


def images(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels: the victim's own predictions, the first of every ten made wrong."""
    generator = torch.Generator().manual_seed(5)
    pixels = torch.rand(count, 1, 8, 8, generator=generator)
    with torch.no_grad():
        labels = victim()(pixels).argmax(1)
    labels[::10] = (labels[::10] + 1) % 10
    return pixels, labels
