"""Victims of the ensembles: the small network trained on plain images, on one-step and on many-step perturbations.

Each is trained once on the first 20,000 images, on perturbations in linf of radius 0.2, and kept in the cache of
demonstration models; one for the colour images of CIFAR-10, where these are found, on radius 8/255. The loop is plain
torch, so that no victim knows an attack of this library.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import blindspots as bs
from blindspots.cache import cache_directory
from blindspots.data import ImageData

from .subjects import TRAINING_IMAGES, Subject, digit_data

BATCH, RATE = 64, 2e-3
RADIUS = {"mnist": 0.2, "cifar10": 8 / 255}
# Steps of the perturbations in training, and epochs.
KINDS = {"plain": (0, 2), "FGSM-trained": (1, 2), "PGD-trained": (5, 2)}


@cache
def robust_net(kind: str, seed: int = 0, name: str = "mnist") -> nn.Module:
    """The small network trained so, in eval mode; another seed is another network."""
    data = _data(name, "train", TRAINING_IMAGES)
    place = cache_directory() / "benchmarks" / f"{Path(data.name).name}-{TRAINING_IMAGES}-{kind}-{seed}.pt"
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = bs.build("small-cnn", channels=data.shape[0], size=data.shape[1])
        if place.is_file():
            net.load_state_dict(torch.load(place, weights_only=True))
        else:
            images, labels, _ = data.batch(0, len(data))
            _train(net, images, labels, RADIUS[name], *KINDS[kind])
            place.parent.mkdir(parents=True, exist_ok=True)
            torch.save(net.state_dict(), place)
    return net.eval().requires_grad_(False)


def victim(kind: str, count: int, seed: int = 0, name: str = "mnist") -> Subject:
    """That network with test images, right or wrong: the first, or of CIFAR-10, as many of each class."""
    images, labels, _ = _data(name, "test", None if name == "mnist" else count).batch(0, count)
    return Subject(kind if name == "mnist" else f"{kind}, {name}", robust_net(kind, seed, name), images, labels)


def _data(name: str, split: str, limit: int | None) -> ImageData:
    if name == "mnist":
        return digit_data(split, limit)
    return bs.dataset(name, split=split, limit=limit)


def rehearsal(kind: str, count: int, seed: int) -> Subject:
    """That network with training images that no network has seen: what settings may be chosen on."""
    data = digit_data("train")
    first = min(TRAINING_IMAGES, len(data) - count)
    images, labels, _ = data.batch(first, first + count)
    return Subject(kind, robust_net(kind, seed), images, labels)


def _train(net: nn.Module, images: Tensor, labels: Tensor, largest: float, steps: int, epochs: int) -> None:
    """Adam on a one-cycle rate; the radius of the perturbations grows during the first epoch."""
    rounds = len(images) // BATCH
    optimiser = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=epochs * rounds)
    for number in range(epochs):
        for place, rows in enumerate(torch.randperm(len(images))[: rounds * BATCH].split(BATCH)):
            radius = largest * min(1.0, number + (place + 1) / rounds)
            x, y = images[rows], labels[rows]
            x = _perturbed(net, x, y, radius, steps) if steps else x
            optimiser.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimiser.step()
            schedule.step()


def _perturbed(net: nn.Module, x: Tensor, y: Tensor, radius: float, steps: int) -> Tensor:
    """One sign step of the radius from the image; or several shorter ones from a random point."""
    step = radius if steps == 1 else 2.5 * radius / steps
    z = x.clone() if steps == 1 else (x + radius * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
    for _ in range(steps):
        z.requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(net(z), y), z)
        z = (z.detach() + step * slope.sign()).clamp(x - radius, x + radius).clamp(0, 1)
    return z
