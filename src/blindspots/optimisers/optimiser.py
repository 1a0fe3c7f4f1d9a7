"""The interface of an optimiser: `init` and `update`, with the state of each image in rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from ..lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, "Tensor"]
Bounds = tuple["Tensor", "Tensor"]


class Optimiser(ABC):
    """Moves theta (R, ...) downhill. No row may depend on another: no reduction runs over the first axis."""

    @abstractmethod
    def init(self, theta: Tensor, scale: Tensor | None = None, bounds: Bounds | None = None) -> State:
        """The state before the first step; every tensor in it has R rows.

        `scale` (R,) multiplies each image's step, for searches in which every image has a radius of its own. `bounds`
        are the smallest and the largest theta, of its shape or broadcast to it, for optimisers that make use of them.
        """

    @abstractmethod
    def update(self, theta: Tensor, loss: Tensor, gradient: Tensor, state: State) -> tuple[Tensor, State]:
        """The next theta and state, given the objective (R,) and its gradient (R, ...) at theta, which stays as it is.

        The state given is used up. An entry `done` (R,), bool, says which rows have ended and need no more queries.
        """


def start_state(scale: Tensor | None, **tensors: Tensor) -> State:
    """The state from these tensors, with the scale of each image's step where one was given."""
    return tensors if scale is None else {"scale": scale, **tensors}


def moved(theta: Tensor, direction: Tensor, step: float, state: State) -> Tensor:
    """theta + step * scale * direction."""
    if "scale" not in state:
        return torch.add(theta, direction, alpha=step)
    return torch.addcmul(theta, direction, per_row(state["scale"], theta), value=step)


def per_row(value: Tensor, like: Tensor) -> Tensor:
    """One number or flag an image (R,), shaped to go with a tensor (R, ...)."""
    value = value if value.dtype == torch.bool else value.to(like.dtype)
    return value.view(-1, *[1] * (like.ndim - 1))
