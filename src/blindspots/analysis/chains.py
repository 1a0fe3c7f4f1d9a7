"""A network as it runs: its innermost layers in order, and where anything but a layer comes between two of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..classifiers import Classifier


@dataclass(frozen=True)
class Step:
    """A run of an innermost layer.

    Attributes:
        name, layer: as `named_modules` gives them.
        given, answer: shapes for one image, without the batch.
        follows: whether it gets what the step before it answered (the first: the normalised image), as it is or
            flattened.
    """

    name: str
    layer: nn.Module
    given: tuple[int, ...]
    answer: tuple[int, ...]
    follows: bool


@dataclass(frozen=True)
class Walk:
    """The steps of a network, and whether the last one's answer is what the classifier answers."""

    steps: tuple[Step, ...]
    ends: bool

    @property
    def broken(self) -> str | None:
        """Where the network is not one layer after the other, in words; None for a chain."""
        for step in self.steps:
            if not step.follows:
                return f"before the layer '{step.name}'"
        return None if self.ends and self.steps else "before the logits"


@torch.no_grad()
def walk(model: Classifier, images: Tensor) -> Walk:
    """Follow an image (the first of (B, C, H, W)) through the innermost layers."""
    image = model.accept(images[:1])
    model.layout(image)
    steps: list[Step] = []
    # Kept alive, so that no later tensor has their memory; a change in place shows in the version.
    kept: list[tuple[Tensor, int]] = []
    origin = image
    if model.mean is not None and model.std is not None and not model.defences:
        mean, std = (torch.tensor(v, dtype=model.dtype, device=model.device) for v in (model.mean, model.std))
        origin = (image - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)

    def enter(name: str, layer: nn.Module, given: Tensor) -> None:
        follows = (
            _same(given, *kept[-1])
            if kept
            else given.numel() == origin.numel() and bool(torch.equal(given.flatten(), origin.flatten()))
        )
        steps.append(Step(name, layer, tuple(given.shape[1:]), (), follows))

    def leave(name: str, answer: Tensor) -> None:
        kept.append((answer, answer._version))
        last = steps.pop()
        steps.append(Step(name, last.layer, last.given, tuple(answer.shape[1:]), last.follows))

    handles = []
    for name, layer in model.module.named_modules():
        if list(layer.children()):
            continue

        def before(layer: nn.Module, given: Any, name: str = name) -> None:
            enter(name, layer, given[0])

        def after(layer: nn.Module, given: Any, answer: Any, name: str = name) -> None:
            leave(name, answer)

        handles += [layer.register_forward_pre_hook(before), layer.register_forward_hook(after)]
    try:
        with model.session():
            logits = model.forward(image, exact=True)
    finally:
        for handle in handles:
            handle.remove()
    return Walk(tuple(steps), bool(kept) and _same(logits, *kept[-1]))


def _same(given: Tensor, answer: Tensor, version: int) -> bool:
    return (given.data_ptr(), given.numel(), given._version) == (answer.data_ptr(), answer.numel(), version)
