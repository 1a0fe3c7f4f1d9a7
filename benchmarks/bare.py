"""Bare work: what the model calls of an attack cost in a plain loop round the same module."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

from .subjects import Subject


def gradients(subject: Subject, batch: int, channels_last: bool = False) -> Callable[[], None]:
    """A forward of all images in batches, and the gradient of the cross entropy with respect to them.

    With channels last, each batch is laid out so before the module sees it.
    """
    parts = list(zip(subject.images.split(batch), subject.labels.split(batch), strict=True))

    def work() -> None:
        for images, labels in parts:
            leaf = images.detach().requires_grad_()
            laid = leaf.clone(memory_format=torch.channels_last) if channels_last else leaf
            torch.autograd.grad(F.cross_entropy(subject.module(laid), labels, reduction="sum"), leaf)

    return work


def forwards(subject: Subject, batch: int, channels_last: bool = False) -> Callable[[], None]:
    """A forward of all images in batches."""

    def work() -> None:
        with torch.no_grad():
            for images in subject.images.split(batch):
                subject.module(images.clone(memory_format=torch.channels_last) if channels_last else images)

    return work
