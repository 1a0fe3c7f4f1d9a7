"""Cutting a network at one of its ReLU-like layers: what comes before it, and what comes after.

Layers are met by hooks, so any module will do whose ReLU is a layer of its own (`nn.ReLU`, `nn.LeakyReLU`); a ReLU that
is called as a function is not seen. Works under the transforms of `torch.func`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...classifiers import Classifier
from ...errors import BlindspotsError, unknown

KINDS = (nn.ReLU, nn.LeakyReLU)


@dataclass(frozen=True)
class Split:
    """A place in a network.

    Attributes:
        name: of the layer; `NAME:2` is its second run, where one module runs several times.
        slope: of the layer below zero.
        width: numbers that the layer gets, n.
        around: whether the images also reach the logits by a way around the layer (a residual network).
    """

    name: str
    slope: float
    width: int
    around: bool

    @property
    def place(self) -> tuple[str, int]:
        name, _, run = self.name.partition(":")
        return name, int(run or 1)


class _Reached(Exception):  # noqa: N818  it is no error
    """The layer is reached: what follows need not be computed."""


def rectifiers(model: Classifier, images: Tensor) -> list[Split]:
    """All ReLU-like layers that run, in the order in which they do, found with the first of the images (B, C, H, W).

    Raises:
        BlindspotsError: the network has none.
    """
    image = model.accept(images[:1])
    found: list[tuple[str, float, int]] = []
    runs: dict[str, int] = {}

    def note(name: str, layer: nn.Module, given: Tensor) -> None:
        runs[name] = runs.get(name, 0) + 1
        slope = layer.negative_slope if isinstance(layer, nn.LeakyReLU) else 0.0
        found.append((name if runs[name] == 1 else f"{name}:{runs[name]}", slope, given[0].numel()))

    handles = [
        layer.register_forward_pre_hook(lambda layer, given, name=name: note(name, layer, given[0]))
        for name, layer in model.module.named_modules()
        if isinstance(layer, KINDS)
    ]
    model.layout(image)
    found.clear()
    runs.clear()
    try:
        with model.session(), torch.no_grad():
            model.forward(image, exact=True)
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise BlindspotsError(
            f"'{model.name}' has no ReLU-like layer to split it at: its ReLUs must be layers of their own (nn.ReLU or "
            "nn.LeakyReLU)"
        )
    with model.session():
        return [
            Split(n, slope, width, _around(model, Split(n, slope, width, True), image)) for n, slope, width in found
        ]


def find_split(model: Classifier, images: Tensor, layer: str | None) -> Split:
    """The layer of that name, or the one in the middle; of an even number, the later one.

    Raises:
        BlindspotsError: there is no such ReLU-like layer; the names that there are stand in the message.
    """
    splits = {split.name: split for split in rectifiers(model, images)}
    if layer is None:
        return list(splits.values())[len(splits) // 2]
    if layer not in splits:
        raise unknown("ReLU-like layer", layer, splits)
    return splits[layer]


def before(model: Classifier, split: Split, images: Tensor) -> Tensor:
    """What the layer gets for images (B, C, H, W), as (B, n); inside a session, after `layout`."""
    reached: list[Tensor] = []

    def stop(given: Tensor) -> None:
        reached.append(given.flatten(1))
        raise _Reached

    with _at(model.module, split, stop, None):
        try:
            model.forward(images, exact=True)
        except _Reached:
            return reached[0]
    raise BlindspotsError(f"layer '{split.name}' does not run for these images: choose another")


def after(model: Classifier, split: Split, hidden: Tensor, images: Tensor) -> Tensor:
    """Logits (B, K) where the layer answers with `hidden` (B, n), whatever it gets for the images (B, C, H, W)."""
    with _at(model.module, split, None, hidden):
        return model.forward(images, exact=True)


def rectify(split: Split, numbers: Tensor) -> Tensor:
    """What the layer answers."""
    return nn.functional.leaky_relu(numbers, split.slope)


@contextmanager
def _at(module: nn.Module, split: Split, get: Any, answer: Tensor | None) -> Iterator[None]:
    name, run = split.place
    layer, runs = module.get_submodule(name), 0

    def look(layer: nn.Module, given: Any) -> None:
        nonlocal runs
        runs += 1
        if get is not None and runs == run:
            get(given[0])

    def replace(layer: nn.Module, given: Any, found: Tensor) -> Tensor | None:
        return answer.reshape(found.shape) if answer is not None and runs == run else None

    handles = [layer.register_forward_pre_hook(look), layer.register_forward_hook(replace)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _around(model: Classifier, split: Split, image: Tensor) -> bool:
    """Whether the logits still depend on the image where the layer's answer is given."""
    with torch.enable_grad():
        free = image.clone().requires_grad_()
        hidden = image.new_zeros(1, split.width).requires_grad_()
        logits = after(model, split, hidden, free)
        (way,) = torch.autograd.grad(logits.sum(), (free,), allow_unused=True)
    return way is not None
