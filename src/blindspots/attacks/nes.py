"""NES: projected descent along gradients that are estimated with Gaussian differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from .. import noise
from ..attack import Attack
from ..estimate import descend_estimated
from ..objectives import LOSSES, LossName, Objective, loss
from ..optimisers import Momentum
from ..record import Knowledge
from ..settings import above, at_least, one_of, read_radius
from ..spaces import Additive, Space

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle


@dataclass(frozen=True)
class NES(Attack):
    """Natural evolution strategies: projected steepest descent along
    g = sum_j (L(x + sigma u_j) - L(x - sigma u_j)) u_j / (2 sigma pairs), u_j Gaussian.

    Cost: at most `queries` forwards, no backwards; 1 + 2 * pairs for a step, all of which may be the success.
    Source: Ilyas et al. 2018, arXiv:1804.08598.
    Differs from the paper: momentum accumulates estimates of l1 size 1 (as in MI-FGSM; the published code averages them
    as they are), and the rate is not lowered on a plateau.
    """

    name: ClassVar[str] = "nes"
    summary: ClassVar[str] = "descent along gradients estimated with Gaussian differences (Ilyas et al. 2018)"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
    knowledge: ClassVar[Knowledge] = "scores"

    radius: float | str
    """Radius in the norm, in pixel units of [0, 1], such as 0.03 or 8/255."""
    norm: Literal["linf", "l2"] = "linf"
    """Norm of the ball: linf or l2."""
    queries: int = 5000
    """Forwards of an image at most."""
    pairs: int = 25
    """Pairs of opposite points for each estimate."""
    sigma: float = 0.001
    """Standard deviation of the points round the image, in pixel units of [0, 1]."""
    step_size: float | None = None
    """Size of a step in the norm; a fifth of the radius by default."""
    decay: float = 0.9
    """How much of the accumulated direction is kept; 0 is the estimate alone."""
    loss: LossName = "ce"
    """What is decreased or increased: cross entropy, margin or difference of logits ratio."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        at_least(self, queries=3, pairs=1, decay=0)
        above(self, sigma=0, step_size=0)
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
        step = self.step_size if self.step_size is not None else float(self.radius) / 5

        def draw(keys: Tensor) -> Tensor:
            return noise.normal(keys, (self.pairs, *oracle.images.shape[1:]), oracle.images.dtype)

        optimiser = Momentum(self.norm, step, self.decay)
        descend_estimated(oracle, optimiser, draw, self.sigma, -(-self.queries // self.width))
