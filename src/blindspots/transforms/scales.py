"""SI: scale invariance, the mean gradient over darker copies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..settings import at_least
from .transform import Transform

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Scales(Transform):
    """The copies x / 2^i, i = 0 ... scales - 1, of which the gradient is the mean.

    Source: Lin et al. 2020, "Nesterov accelerated gradient and scale invariance for adversarial attacks",
    arXiv:1908.06281. Differs from the paper: nothing.
    """

    name: ClassVar[str] = "si"
    summary: ClassVar[str] = "scale invariance: the mean over darker copies (Lin et al. 2020)"

    scales: int = 5
    """Number of copies."""

    def __post_init__(self) -> None:
        at_least(self, scales=1)

    @property
    def copies(self) -> int:
        return self.scales

    def change(self, images: Tensor, keys: Tensor, copy: int) -> Tensor:
        return images / float(1 << copy)

    def smooth(self, gradient: Tensor) -> Tensor:
        return gradient
