"""What an attack is called with, checked and laid out image by image: labels, targets, budgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import BlindspotsError
from .goal import TARGET_RULES, check_labels, choose_targets, shifted
from .lazy import torch
from .record import Budget

if TYPE_CHECKING:
    from torch import Tensor

    from .classifiers import Classifier


@dataclass(frozen=True)
class Case:
    """The images to attack, as positions into those given, with label, target and stable index of each.

    `spent` forwards were made for each of them; `limits` (n, 2) are the forwards and backwards it may cost, if any.
    """

    image: Tensor
    labels: Tensor
    targets: Tensor | None
    index: Tensor
    spent: int
    limits: Tensor | None

    def take(self, rows: Tensor) -> Case:
        targets = None if self.targets is None else self.targets[rows]
        limits = None if self.limits is None else self.limits[rows]
        return Case(self.image[rows], self.labels[rows], targets, self.index[rows], self.spent, limits)


def tighter(budget: Budget | None, allowance: int | None) -> Budget | None:
    """The budget of the call, with no more forwards than the attack's own settings allow."""
    if allowance is None:
        return budget
    given = budget or Budget()
    forwards = allowance if given.forwards is None else min(given.forwards, allowance)
    return Budget(forwards, given.backwards)


def check_budget(budget: Budget | None, least: int) -> None:
    if budget is not None and budget.forwards is not None and budget.forwards < least:
        raise BlindspotsError(
            f"Budget.forwards must be at least {least} here, to label or target, judge and verify an image; got "
            f"{budget.forwards}"
        )


def default_population(images: Tensor, batch: int, width: int = 1) -> int:
    """As many images as about 64 MiB hold, at least one model batch and at most 4096, in whole model batches.

    With `width` points of each image asked at once, the points are what must fit, not the images.
    """
    fit = (64 << 20) // (images[0].numel() * images.element_size() * width)
    batch = -(-batch // width)
    return max(batch, min(4096, fit) // batch * batch)


def accept_outputs(outputs: Tensor | None, images: Tensor, wrapped: Classifier) -> Tensor | None:
    """The known logits of the images on their device, if there are any."""
    if outputs is None:
        return None
    shape = (len(images), wrapped.count(images))
    if outputs.shape != shape or not outputs.is_floating_point():
        raise BlindspotsError(
            f"clean_outputs must be the model's logits of the images, floats of shape {shape}, got {outputs.dtype} of "
            f"shape {tuple(outputs.shape)}: pass Result.clean_outputs, or leave them out"
        )
    return outputs.to(images.device)


def prepare(
    wrapped: Classifier,
    images: Tensor,
    labels: Tensor | str,
    targets: Tensor | int | str | None,
    index: Tensor | None,
    seed: int,
    limits: Tensor | None,
) -> Case:
    """Check labels and index, turn a target rule into targets, and lay the limits out beside them."""
    count, device = len(images), images.device
    classes = wrapped.count(images)
    logits: Tensor | None = None
    if isinstance(labels, str):
        if labels != "predicted":
            raise BlindspotsError(f"labels must be a tensor or the word 'predicted', got '{labels}'")
        logits = wrapped.logits(images)
        labels = logits.argmax(1)
    elif not isinstance(labels, torch.Tensor):
        raise BlindspotsError(
            f"labels must be a tensor (B,) of classes or the word 'predicted', got {type(labels).__name__}"
        )
    check_labels(labels, count, classes)
    # Copies, since tensors made in inference mode could not take part in gradients.
    labels = labels.to(device, torch.int64, copy=True)
    if index is None:
        index = torch.arange(count)
    elif not isinstance(index, torch.Tensor):
        raise BlindspotsError(f"index must be a tensor (B,) of whole numbers, got {type(index).__name__}")
    elif index.shape != (count,) or index.is_floating_point():
        raise BlindspotsError(
            f"index must hold one whole number an image, got {index.dtype} of shape {tuple(index.shape)}"
        )
    index = index.to(device, torch.int64)
    if limits is not None:
        if limits.shape != (count, 2) or int(limits[:, 0].min()) < 2 or int(limits[:, 1].min()) < 0:
            raise BlindspotsError(
                f"limits must hold for each image at least 2 forwards and 0 backwards, ({count}, 2), got shape "
                f"{tuple(limits.shape)} with values from {int(limits.min())}"
            )
        limits = limits.to(device, torch.int64)
    position = torch.arange(count, device=device)
    if targets == "all":
        shift = torch.arange(1, classes, device=device).repeat(count)
        position = position.repeat_interleave(classes - 1)
        labels, index = labels[position], index[position]
        limits = None if limits is None else limits[position]
        return Case(
            position, labels, shifted(labels, shift, classes), index, spent=int(logits is not None), limits=limits
        )
    if isinstance(targets, str):
        if targets not in TARGET_RULES:
            choose_targets(targets, labels, labels.unsqueeze(1), seed, index)
        if logits is None and targets != "random":
            logits = wrapped.logits(images)
        shape = logits if logits is not None else torch.empty(count, classes, device=device)
        chosen: Tensor | None = choose_targets(targets, labels, shape, seed, index)
    elif isinstance(targets, int):
        chosen = torch.full_like(labels, targets)
    elif targets is None or isinstance(targets, torch.Tensor):
        chosen = targets
    else:
        raise BlindspotsError(
            f"targets must be a tensor (B,) of classes, one class, or one of {', '.join(TARGET_RULES)}, got "
            f"{type(targets).__name__}"
        )
    if chosen is not None:
        check_labels(chosen, count, classes, "targets")
        chosen = chosen.to(device, torch.int64, copy=True)
        same = int((chosen == labels).sum())
        if same:
            raise BlindspotsError(
                f"targets must differ from the labels, but {same} of {count} are equal: leave those images out or "
                "choose other targets"
            )
    return Case(position, labels, chosen, index, spent=int(logits is not None), limits=limits)
