"""Training on bent images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ...flows import FlowLoss
from ...optimisers import Steepest
from ...settings import at_least, read_radius
from ...spaces import Flow
from .inner import ascend, step_size
from .method import Method, Part
from .mixtures import Mixture, check_mixture, mixed

if TYPE_CHECKING:
    from torch import Tensor

    from ..step import Step

# Width in pixels of the random flow from which the search starts.
SPREAD = 0.1


@dataclass(frozen=True)
class StAdvTraining(Method):
    """Minimise the loss on images bent by a flow f of displacements of at most `radius` pixels that maximises

        H(y, g(x_f)) - tau * L_flow(f),       L_flow the roughness of the flow, per pixel,

    climbed by `steps` sign steps of the flow from a small random one.

    Cost: `steps` forwards and backwards more than plain training a batch.
    Source: the flows and L_flow are those of Xiao et al. 2018, arXiv:1801.02612, who attack trained networks and train
    none; the inner search is that of Madry et al. 2018, arXiv:1706.06083, in another space.
    """

    name: ClassVar[str] = "stadv"
    summary: ClassVar[str] = "images bent by smooth flows (after Xiao et al. 2018)"
    steerable: ClassVar[bool] = True

    radius: float | str = 1.0
    """Largest displacement of a pixel, in pixels."""
    tau: float = 0.05
    """Weight of the roughness, the mean over the pixels, against the cross-entropy."""
    steps: int = 5
    """Steps of the inner attack."""
    step_size: float | None = None
    """Size of a step in each coordinate of the flow, in pixels; 2.5 * radius / steps by default."""
    mixture: Mixture = "only"
    """How clean and crafted images are mixed: only, accumulate, average or concatenate."""

    def __post_init__(self) -> None:
        read_radius(self, "flow")
        at_least(self, tau=0, steps=1)
        check_mixture(self)

    def craft(self, step: Step) -> Tensor:
        space = Flow(step.images, "gaussian", SPREAD, float(self.radius))
        size = step_size(self.step_size, self.radius, self.steps) * step.scale
        rough = FlowLoss("mean")

        def penalty(flow: Tensor) -> Tensor:
            return self.tau * rough.of(flow).sum()

        start = space.start(step.keys("start"))
        return ascend(step, space, start, Steepest("linf", size), self.steps, penalty=penalty)

    def parts(self, step: Step, crafted: Tensor | None) -> Iterator[Part]:
        return mixed(step, crafted, self.mixture)
