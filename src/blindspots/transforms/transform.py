"""The interface of an input transformation: what a gradient is taken through, so that it fits other models too."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Transform(ABC):
    """A change of the images that guide a search, of the gradients that come back, or both.

    Success is judged on the images as they are. No row depends on another, and what is random is a function of the
    keys.
    """

    name: ClassVar[str]
    summary: ClassVar[str]

    @property
    @abstractmethod
    def copies(self) -> int:
        """How many changed copies of an image a gradient is the mean of."""

    @abstractmethod
    def change(self, images: Tensor, keys: Tensor, copy: int) -> Tensor:
        """Copy number `copy` of the images (R, C, H, W), of the same shape, differentiable; noise keys (R,)."""

    @abstractmethod
    def smooth(self, gradient: Tensor) -> Tensor:
        """The gradient (R, C, H, W) that the search is to follow."""
