"""The interface of a space, bound to the images of a population."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from torch import Tensor


class Space(ABC):
    """A set of allowed changes of given images, parametrised by theta (R, ...), one row an image.

    A space holds what it needs of its images and can be narrowed to some of its rows; it holds no settings of a search.
    """

    @abstractmethod
    def zero(self) -> Tensor:
        """The theta that changes nothing: apply(zero()) is the image, bit for bit."""

    @abstractmethod
    def start(self, keys: Tensor) -> Tensor:
        """A random theta inside the set, from the noise keys (R,)."""

    @abstractmethod
    def apply(self, theta: Tensor, rows: slice) -> Tensor:
        """The images (r, C, H, W) of theta (r, ...), which belongs to these rows of the space; differentiable."""

    @abstractmethod
    def project(self, theta: Tensor) -> Tensor:
        """The nearest theta inside the set; inside points stay as they are."""

    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """The smallest and the largest value of each entry of theta (R, ...); None where there are none, as here."""
        return None

    @abstractmethod
    def size(self, theta: Tensor) -> Tensor:
        """How much of the budget theta uses, (R,)."""

    def measures(self, theta: Tensor) -> dict[str, Tensor]:
        """What else tells how large theta is, by name, (R,) each in float64; the four norms are not among them."""
        return {}

    def flow(self, theta: Tensor) -> Tensor | None:
        """Where the pixels of theta are read, less where they are: (R, 2, H, W) in pixels; None where none moves."""
        return None

    @abstractmethod
    def within(self, theta: Tensor) -> Tensor:
        """Is theta inside the set, (R,) bool, measured in float64 with the tolerance that the space states?"""

    @abstractmethod
    def narrow(self, rows: Tensor) -> Self:
        """The space of some of the rows."""
