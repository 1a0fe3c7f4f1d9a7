"""`transfer`: what adversarial images that were made for one classifier do to another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..classifiers import Classifier
from ..errors import BlindspotsError
from ..goal import Goal
from ..lazy import torch
from ..wrapping import classifier

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..result import Result


def transfer(result: Result, images: Tensor, model: Classifier | nn.Module) -> Result:
    """The result of an attack, judged anew by another classifier: the same images, its verdicts.

    With the bare model attacked and the defended one judging, this is the oblivious attack on a defence:
    `transfer(attack(bare, images, labels), images, defend(bare, "mean-blur"))`.

    Args:
        result: of an attack on some model; its images, labels and targets are taken as they are.
        images: the clean images (B, C, H, W) that were attacked, for what the classifier says before the attack.
        model: the classifier that judges.

    Returns:
        The result with success, prediction, confidence and margin (and those of the clean images) of `model`. Each
        image costs one forward more; the rest tells of the attack as it was made.

    Raises:
        BlindspotsError: clean images that are not those of the result, or a model of fewer classes.
    """
    if not isinstance(images, torch.Tensor) or images.shape != result.images.shape:
        raise BlindspotsError(
            f"the clean images must have the shape of the result's, {tuple(result.images.shape)}, got "
            f"{tuple(images.shape) if isinstance(images, torch.Tensor) else type(images).__name__}"
        )
    judge, home = classifier(model), result.images.device
    after, before = judge.logits(result.images).to(home), judge.logits(images).to(home)
    goal = Goal(result.labels, result.targets)
    if int(goal.reference.max()) >= after.shape[1]:
        raise BlindspotsError(
            f"the model answers with {after.shape[1]} classes, but the result has class {int(goal.reference.max())}"
        )
    return replace(
        result,
        success=goal.reached(after),
        prediction=after.argmax(1),
        confidence=after.softmax(1).amax(1),
        margin=goal.margin(after),
        clean_prediction=before.argmax(1),
        clean_confidence=before.softmax(1).amax(1),
        clean_outputs=before,
        forwards=result.forwards + 1,
    )
