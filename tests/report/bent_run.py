"""A real run for the tests of bent images: three attacks that bend, and one that does not, on a victim of 8 x 8."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import blindspots as bs

ATTACKS = (
    bs.StAdv(steps=15, halvings=2),
    bs.Affine(rotations=7, shifts=3, zoom=1.2, zooms=3),
    bs.FlowBall("0.05", steps=10),
    bs.PGD("0.05", steps=5),
)
COUNT = 20


def victim() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A fixed random network, and noise with the network's own labels."""
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(96, 5)
    ).eval()
    images = torch.rand(COUNT, 1, 8, 8)
    with torch.no_grad():
        net[4].weight *= 4
        net[4].bias -= net(images).mean(0)
        return net, images, net(images).argmax(1)


def bent_run(path: Path, **settings: object) -> bs.Run:
    """Evaluate the victim; every attack turns some images."""
    net, images, labels = victim()
    model = bs.classifier(net, batch=8)
    return bs.evaluate(model, (images, labels), attacks=ATTACKS, out=path, **settings)  # type: ignore[arg-type]
