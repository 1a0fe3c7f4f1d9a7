"""Objectives: one number per image that an attack minimises.

Each is a frozen dataclass called with a `Point` and returns (B,). Signs come from the goal, so the same objective
serves targeted and untargeted attacks. Sums and weights of objectives are objectives (`Weighted`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from .errors import BlindspotsError, unknown
from .goal import Goal
from .lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Point:
    """What is known at a queried parameter: logits (B, K), the goal, the images (B, C, H, W) and the clean ones.

    `rows` (B,) says which images of the oracle's population these are, for objectives with a number an image.
    """

    logits: Tensor
    goal: Goal
    images: Tensor
    clean: Tensor
    theta: Tensor
    rows: Tensor | None = None


class Objective(ABC):
    """A number per image, minimised."""

    @abstractmethod
    def __call__(self, point: Point) -> Tensor:
        """The value (B,) at the point."""


@dataclass(frozen=True)
class CrossEntropy(Objective):
    """Cross entropy H of the logits: minimise H(t) towards a target, or -H(y) away from the label.

    H(c) = log sum_j exp(z_j) - z_c, in a form that keeps its gradient where p_c rounds to 1.
    Bounded on one side, so it still saturates when the logits are very large.
    """

    def __call__(self, point: Point) -> Tensor:
        from .entropy import cross_entropy

        return point.goal.toward(cross_entropy(point.logits, point.goal.reference))


@dataclass(frozen=True)
class Margin(Objective):
    """max(margin, -kappa), the margin of `Goal.margin`: positive until the goal is reached.

    kappa (in units of logits) asks for a confident success; it enters with a minus sign (Carlini and Wagner 2017,
    arXiv:1608.04644). With kappa = None the margin is not cut and keeps pulling after the success.
    """

    kappa: float | None = None

    def __post_init__(self) -> None:
        if self.kappa is not None and self.kappa < 0:
            raise BlindspotsError(
                f"Margin.kappa must not be negative (it enters as max(margin, -kappa)), got {self.kappa}"
            )

    def __call__(self, point: Point) -> Tensor:
        margin = point.goal.margin(point.logits)
        return margin if self.kappa is None else margin.clamp(min=-self.kappa)


@dataclass(frozen=True)
class DLR(Objective):
    """Difference of logits ratio, the margin over a spread of the sorted logits pi (Croce and Hein 2020,
    arXiv:2003.01690).

    Untargeted: (z_y - max_{j != y} z_j) / (z_pi1 - z_pi3). Targeted: (z_y - z_t) / (z_pi1 - (z_pi3 + z_pi4) / 2).
    Unchanged when the logits are shifted or scaled.
    Differs from the paper: the spread needs three classes (four when targeted). With fewer the numerator stands alone:
    any spread of so few logits can equal it, and a constant ratio has no gradient. Equal logits give 0.
    """

    def __call__(self, point: Point) -> Tensor:
        logits, goal = point.logits, point.goal
        if goal.targets is None:
            needed, gap = 3, goal.margin(logits)
        else:
            chosen = logits.gather(1, torch.stack((goal.labels, goal.targets), 1))
            needed, gap = 4, chosen[:, 0] - chosen[:, 1]
        if logits.shape[1] < needed:
            return gap
        ordered = logits.topk(needed, dim=1).values
        low = ordered[:, 2] if needed == 3 else (ordered[:, 2] + ordered[:, 3]) / 2
        return gap / (ordered[:, 0] - low).clamp(min=1e-12)


@dataclass(frozen=True)
class Decision(Objective):
    """1 until the goal is reached, and 0 there: all that an attack which knows decisions alone can tell apart."""

    def __call__(self, point: Point) -> Tensor:
        return (~point.goal.reached(point.logits)).to(point.logits.dtype)


@dataclass(frozen=True)
class ByGoal(Objective):
    """One objective for untargeted goals and another for targeted ones."""

    untargeted: Objective
    targeted: Objective

    def __call__(self, point: Point) -> Tensor:
        return self.targeted(point) if point.goal.targeted else self.untargeted(point)


@dataclass(frozen=True)
class SquaredSize(Objective):
    """||x' - x||_2^2, the squared l2 size of the change."""

    def __call__(self, point: Point) -> Tensor:
        return (point.images - point.clean).flatten(1).square().sum(1)


@dataclass(frozen=True)
class Weighted(Objective):
    """sum_i w_i L_i: a weighted sum of objectives."""

    terms: tuple[tuple[float, Objective], ...]

    def __post_init__(self) -> None:
        if not self.terms:
            raise BlindspotsError("Weighted.terms must hold at least one (weight, objective)")

    def __call__(self, point: Point) -> Tensor:
        return torch.stack([weight * term(point) for weight, term in self.terms]).sum(0)


@dataclass(frozen=True)
class Toward(Objective):
    """An objective as it is towards one class (N,) for each image of the population, whatever the goal is.

    Any class but the label reaches an untargeted goal; searches towards one class after another find what a search
    away from the label misses.
    """

    objective: Objective
    classes: Tensor

    def __call__(self, point: Point) -> Tensor:
        return self.objective(replace(point, goal=Goal(point.goal.labels, self.classes[point.rows])))


LossName = Literal["ce", "margin", "dlr"]
LOSSES: dict[str, Objective] = {"ce": CrossEntropy(), "margin": Margin(), "dlr": DLR()}


def loss(name: str) -> Objective:
    """The classification loss of that name: `ce`, `margin` or `dlr`."""
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    return LOSSES[name]
