"""What every way of loading a model returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import BlindspotsError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class LoadedModel:
    """A module in evaluation mode with what is known about it.

    mean, std: its normalisation, one value a channel, None for none. shape: (C, H, W) of the images it was made
    for, None where unknown. trained: False for random weights, None where nobody can know.
    """

    module: nn.Module
    name: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    shape: tuple[int, int, int] | None = None
    classes: int | None = None
    info: dict[str, Any] = field(default_factory=dict)
    trained: bool | None = None


def agree(spec: str, what: str, given: int | None, own: int | None) -> None:
    """Refuse a `classes`, `channels` or `size` that contradicts what the model itself says."""
    if given is not None and own is not None and given != own:
        raise BlindspotsError(f"'{spec}' was made with {what}={own}, got {what}={given}: leave {what} out")


def square(shape: tuple[int, int, int] | None) -> int | None:
    """The size that belongs to a shape: its height where it is square."""
    return shape[1] if shape is not None and shape[1] == shape[2] else None
