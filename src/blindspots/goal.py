"""What counts as success: the one place that knows about targets, and the only one that holds signs.

A goal is reached at logits z (untargeted) when argmax z != y, (targeted) when argmax z = t, and all of z is
finite. Every objective is minimised on the way there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import noise
from .errors import BlindspotsError, unknown
from .lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

TARGET_RULES = ("random", "least-likely", "second", "all")


@dataclass(frozen=True)
class Goal:
    """Labels (B,) and, for a targeted goal, targets (B,), both int64.

    >>> import torch
    >>> goal = Goal(torch.tensor([0, 0]))
    >>> goal.reached(torch.tensor([[2.0, 1.0], [1.0, 2.0]])).tolist()
    [False, True]
    """

    labels: Tensor
    targets: Tensor | None = None

    @property
    def targeted(self) -> bool:
        return self.targets is not None

    @property
    def reference(self) -> Tensor:
        """The class (B,) whose logit decides: the target to be reached, or the label to be left."""
        return self.labels if self.targets is None else self.targets

    def reached(self, logits: Tensor) -> Tensor:
        """Per image (B,), bool: is the goal reached at these logits (B, K)? Never where a logit is not finite."""
        prediction = logits.argmax(1)
        hit = prediction != self.labels if self.targets is None else prediction == self.targets
        return hit & torch.isfinite(logits).all(1)

    def toward(self, value: Tensor) -> Tensor:
        """Sign a quantity of the reference class that is small when the class is likely, so that it is minimised."""
        return -value if self.targets is None else value

    def margin(self, logits: Tensor) -> Tensor:
        """Per image (B,): how far the logits are from the goal; negative once it is reached.

        Untargeted: z_y - max_{j != y} z_j. Targeted: max_{j != t} z_j - z_t.
        """
        reference = self.reference.unsqueeze(1)
        own = logits.gather(1, reference).squeeze(1)
        # The class itself is left out with -inf, not with a product, which would go wrong for negative logits.
        others = logits.scatter(1, reference, float("-inf")).amax(1)
        return own - others if self.targets is None else others - own

    def rivals(self, logits: Tensor, count: int) -> Tensor:
        """The `count` likeliest classes (B, count) other than the label, or than the target, likeliest first."""
        others = logits.detach().scatter(1, self.reference.unsqueeze(1), float("-inf"))
        return others.argsort(dim=1, descending=True, stable=True)[:, :count]

    def gaps(self, logits: Tensor, classes: Tensor) -> Tensor:
        """The margins (B, k) with each of these classes (B, k) as the only other one."""
        own, others = logits.gather(1, self.reference.unsqueeze(1)), logits.gather(1, classes)
        return own - others if self.targets is None else others - own

    def take(self, rows: Tensor | slice) -> Goal:
        """The goal of some of the images."""
        return Goal(self.labels[rows], None if self.targets is None else self.targets[rows])


def check_labels(labels: Tensor, count: int, classes: int | None, what: str = "labels") -> None:
    """Refuse labels that cannot belong to `count` images of a classifier with that many classes."""
    if labels.ndim != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
        raise BlindspotsError(
            f"{what} must be a vector of whole numbers, one an image, got {labels.dtype} of shape {tuple(labels.shape)}"
        )
    if len(labels) != count:
        raise BlindspotsError(f"{what} must be one an image: got {len(labels)} for {count} images")
    if count == 0:
        raise BlindspotsError("there are no images: give at least one")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (classes is not None and high >= classes):
        allowed = f"from 0 to {classes - 1}" if classes is not None else "not negative"
        raise BlindspotsError(f"{what} must be {allowed}, the classes of this model; got values from {low} to {high}")


def choose_targets(rule: str, labels: Tensor, logits: Tensor, seed: int, index: Tensor) -> Tensor:
    """Targets (B,) by rule, never the label: `random` (uniform over the other classes), `least-likely`, `second`.

    `logits` (B, K) are those of the clean images; random targets are a function of (seed, image index) alone.
    The rule `all` is a loop over the K - 1 shifts of `shifted` and is laid out by the caller.
    """
    classes = logits.shape[1]
    if rule == "random":
        draw = noise.uniform(noise.key(seed, index, "targets"), (1,), torch.float64).squeeze(1)
        return shifted(labels, 1 + (draw * (classes - 1)).long().clamp_(max=classes - 2), classes)
    own = labels.unsqueeze(1)
    if rule == "least-likely":
        return logits.scatter(1, own, float("inf")).argmin(1)
    if rule == "second":
        return logits.scatter(1, own, float("-inf")).argmax(1)
    raise unknown("target rule", rule, TARGET_RULES)


def shifted(labels: Tensor, shift: Tensor | int, classes: int) -> Tensor:
    """The class (y + shift) mod K: for shift = 1 .. K - 1 each other class once."""
    return (labels + shift) % classes
