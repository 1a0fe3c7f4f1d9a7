"""SPSA: Adam along gradients that are estimated with differences towards random corners."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from .. import noise
from ..attack import Attack
from ..estimate import descend_estimated
from ..lazy import torch
from ..objectives import LOSSES, LossName, Objective, loss
from ..optimisers import Adam
from ..record import Knowledge
from ..settings import above, at_least, one_of, read_radius
from ..spaces import Additive, Space

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle


@dataclass(frozen=True)
class SPSA(Attack):
    """Simultaneous perturbation stochastic approximation: projected Adam along
    g = sum_j (L(x + delta v_j) - L(x - delta v_j)) v_j / (2 delta pairs), v_j with entries of +-1.

    Cost: at most `queries` forwards, no backwards; 1 + 2 * pairs for a step, all of which may be the success.
    Source: Uesato et al. 2018, arXiv:1802.05666.
    Differs from the paper: 32 pairs by default for its thousands of points, since queries are limited here.
    """

    name: ClassVar[str] = "spsa"
    summary: ClassVar[str] = "Adam along gradients estimated with differences to corners (Uesato et al. 2018)"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
    knowledge: ClassVar[Knowledge] = "scores"

    radius: float | str
    """Radius in the norm, in pixel units of [0, 1], such as 0.03 or 8/255."""
    norm: Literal["linf", "l2"] = "linf"
    """Norm of the ball: linf or l2."""
    queries: int = 5000
    """Forwards of an image at most."""
    pairs: int = 32
    """Pairs of opposite points for each estimate."""
    delta: float = 0.01
    """Distance of the points from the image in each value, in pixel units of [0, 1]."""
    rate: float = 0.01
    """Rate of Adam, about the change of a value in a step, in pixel units of [0, 1]."""
    loss: LossName = "margin"
    """What is decreased or increased: margin, cross entropy or difference of logits ratio."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        at_least(self, queries=3, pairs=1)
        above(self, delta=0, rate=0)
        one_of(self, "loss", LOSSES)

    @property
    def width(self) -> int:
        return 1 + 2 * self.pairs

    def space(self, images: Tensor) -> Space:
        return Additive(images, self.norm, float(self.radius))

    def objective(self) -> Objective:
        return loss(self.loss)

    def search(self, oracle: Oracle) -> None:
        oracle.judge_clean()

        def draw(keys: Tensor) -> Tensor:
            uniform = noise.uniform(keys, (self.pairs, *oracle.images.shape[1:]), oracle.images.dtype)
            return torch.where(uniform < 0.5, -1.0, 1.0).to(uniform.dtype)

        descend_estimated(oracle, Adam(self.rate), draw, self.delta, -(-self.queries // self.width))
