"""The networks a method is fitted against, and what their answers are worth: one number for a batch, to descend."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal

from ..errors import BlindspotsError
from ..goal import Goal
from ..layouts import runs
from ..lazy import torch
from ..objectives import CrossEntropy, Margin, Point

if TYPE_CHECKING:
    from torch import Tensor

    from ..classifiers import Classifier

Loss = Literal["margin", "sigmoid", "log-ce", "least-likely"]
# Inside the logarithm, so that a cross entropy of 0 has one (papers' code).
_FLOOR = 1e-8


class Victims:
    """Several classifiers with the weights of their losses, which are asked in batches of one shape in a session.

    Raises:
        BlindspotsError: no classifier, weights that do not fit, or classifiers of different classes or devices.
    """

    def __init__(self, models: Sequence[Classifier], weights: Sequence[float] | None, batch: int) -> None:
        if not models:
            raise BlindspotsError("there is no classifier to fit against: give at least one")
        if weights is not None and (len(weights) != len(models) or not all(w > 0 for w in weights)):
            raise BlindspotsError(
                f"weights must be one number above 0 for each of {len(models)} classifiers, got {weights}"
            )
        self.models = [copy.copy(model) for model in models]
        for model in self.models:
            model.batch, model._depth = batch, 0
        self.weights = list(weights or [1.0] * len(models))
        self.device = models[0].device
        if any(model.device != self.device for model in models):
            raise BlindspotsError("the classifiers of a fit must be on one device: give them the same device")

    @contextmanager
    def session(self) -> Iterator[None]:
        """All of them in eval mode, frozen, and put back afterwards."""
        with ExitStack() as stack:
            for model in self.models:
                stack.enter_context(model.session())
            yield

    def check(self, images: Tensor) -> int:
        """The number of classes they all have; refuses probabilities. Chooses the memory format where it is open."""
        counts = set()
        for model in self.models:
            if model.channels_last is None:
                # Faster for most; which is faster here would be a matter of the clock, on which no fit may depend.
                model.channels_last = runs(model._answer, images.to(model.dtype), True)
            with torch.no_grad():
                logits = model.forward(images.to(model.dtype), exact=True)
            counts.add(logits.shape[1])
            flat = logits.transpose(0, 1).flatten(1)
            if model.outputs == "logits" and bool((flat >= 0).all()) and bool(((flat.sum(0) - 1).abs() < 1e-4).all()):
                raise BlindspotsError(
                    f"'{model.name}' answers with probabilities, whose gradients vanish: leave out its softmax, or say "
                    "outputs='probabilities'"
                )
        if len(counts) > 1:
            raise BlindspotsError(
                f"the classifiers have different numbers of classes, {sorted(counts)}: give like ones"
            )
        return counts.pop()

    def predictions(self, images: Tensor) -> Tensor:
        """What the first of them takes the images for, (B,) or (B, H, W)."""
        return self._logits(0, images).argmax(1)

    def value(self, images: Tensor, changed: Tensor, goal: Goal, loss: Loss, kappa: float) -> tuple[Tensor, Tensor]:
        """The loss (), summed over the classifiers with their weights, and which images reach the goal with the first.

        margin: the mean of max(margin, -kappa). sigmoid: that of sigmoid(margin / kappa), a smooth count of the images
        that do not reach the goal. log-ce: with H the mean cross entropy, log H(t) towards targets,
        -log H(y) away from labels. least-likely: log H(argmin_j z_j(x)), of the unchanged images' logits z(x).
        """
        terms = []
        for number, weight in enumerate(self.weights):
            logits, aim = self._logits(number, changed, gradient=True), goal
            if loss == "least-likely" and not goal.targeted:
                aim = Goal(goal.labels, self._logits(number, images).argmin(1))
            point = Point(logits, aim, changed, images, changed)
            if loss == "margin":
                terms.append(weight * Margin(kappa)(point).mean())
            elif loss == "sigmoid":
                terms.append(weight * (Margin()(point) / kappa).sigmoid().mean())
            else:
                entropy = aim.toward(CrossEntropy()(point)).mean()
                terms.append(weight * aim.toward((entropy + _FLOOR).log()))
            if not number:
                reached = (
                    goal.reached(logits.detach()).flatten(1).double().mean(1)
                    if logits.ndim > 2
                    else goal.reached(logits)
                )
        return torch.stack(terms).sum(), reached

    def _logits(self, number: int, images: Tensor, gradient: bool = False) -> Tensor:
        model = self.models[number]
        with torch.set_grad_enabled(gradient):
            return model.forward(images.to(model.dtype), exact=True)


def aims(targets: Any, count: int, classes: int) -> Tensor | None:
    """Targets as given for `count` images: one class, one an image (N,), or per pixel one map (H, W) or (N, H, W).

    Raises:
        BlindspotsError: what is no class, or another number of them.
    """
    if targets is None:
        return None
    given = targets if isinstance(targets, torch.Tensor) else torch.tensor(targets)
    if given.is_floating_point() or given.dtype == torch.bool:
        raise BlindspotsError(f"targets must be whole numbers from 0 to {classes - 1}, got {given.dtype}")
    low, high = int(given.min()), int(given.max())
    if low < 0 or high >= classes:
        raise BlindspotsError(f"targets must be classes from 0 to {classes - 1}, got values from {low} to {high}")
    if given.ndim in (1, 3) and len(given) != count:
        raise BlindspotsError(f"targets must be one class, or one for each of the {count} images: got {len(given)}")
    return given.to(torch.int64)
