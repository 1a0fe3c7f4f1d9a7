"""What an oracle counts and answers: budgets, answers to queries, and the record of the best points."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from .errors import BlindspotsError

if TYPE_CHECKING:
    from torch import Tensor

Keep = Literal["first", "smallest", "lowest"]
Rule = Literal[Keep, "final"]
KEEPS: tuple[str, ...] = ("first", "smallest", "lowest")
# What an attack may learn of a model: each includes what follows it.
Knowledge = Literal["gradients", "scores", "decisions"]
KNOWLEDGE: tuple[str, ...] = ("gradients", "scores", "decisions")


@dataclass(frozen=True)
class Budget:
    """Model calls allowed per image; None is no limit. The forward that verifies a success is among the forwards."""

    forwards: int | None = None
    backwards: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("forwards", 2), ("backwards", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise BlindspotsError(f"Budget.{name} must be at least {least}, got {value}")


@dataclass(frozen=True)
class Answer:
    """What the oracle says to a query: the objective (R,), the gradient like theta or None, the logits (R, K).

    `gap` (R,) is what the gradient belongs to: the objective, or the gap to the nearest rival class.
    """

    loss: Tensor
    gradient: Tensor | None
    logits: Tensor
    gap: Tensor


@dataclass
class Record:
    """The best point of every image so far, and what was spent on it; row i belongs to image i of the population."""

    theta: Tensor
    loss: Tensor
    size: Tensor
    success: Tensor
    logits: Tensor | None
    clean_logits: Tensor | None
    forwards: Tensor
    backwards: Tensor
    steps: Tensor
    zero_gradients: Tensor
    bad_gradients: Tensor
    unstarted: Tensor
    trace: list[dict[str, Tensor]] = field(default_factory=list)
