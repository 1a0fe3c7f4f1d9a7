"""Flow and ball: bend the image a little and change its values a little, both at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..attack import Attack
from ..descend import descend
from ..errors import BlindspotsError
from ..flows import FlowLoss
from ..objectives import LOSSES, LossName, Objective, Weighted, loss
from ..optimisers import Steepest
from ..record import KEEPS, Keep
from ..settings import above, at_least, one_of, read_radius
from ..spaces import Combined, Flow, Space

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle


@dataclass(frozen=True)
class FlowBall(Attack):
    """Projected sign steps on a flow f and an additive change delta together:

        minimise loss(x') + tau * L_flow(f),  x' = clip(x_f + delta),  |delta|_inf <= radius,  |f(p)| <= bend * radius,

    with x_f(p) = x(p + f(p)). A step moves values by step_size and the flow by bend * step_size pixels, so that both
    have gone equally far through their sets. Starts from a uniform point of the ball and no flow.

    Cost: 1 + restarts * (steps + 1) forwards and restarts * steps backwards at most; with keep="first" an image stops
    at its first success.
    Source: Jordan et al. 2019, "Quantifying perceptual distortion of adversarial examples", arXiv:1902.10265, who
    combine additive changes and flows, and find them stronger together than either alone.
    Differs from the paper: one radius scales both parts; sign steps for both (the paper: Adam); the length of each
    displacement is bounded, where they bound its coordinates.
    """

    name: ClassVar[str] = "flow-ball"
    summary: ClassVar[str] = "a flow and an additive change together, by sign steps (Jordan et al. 2019)"
    norms: ClassVar[tuple[str, ...]] = ("flow-linf",)

    radius: float | str
    """Radius of the additive change in linf, in pixel units of [0, 1], such as 0.03 or 8/255."""
    bend: float = 10.0
    """Largest displacement of a pixel, in pixels for each unit of the radius: at 8/255, 10 allows 0.31 pixels."""
    tau: float = 0.001
    """Weight of the flow loss (sum) against the loss; 0 lets neighbours move apart."""
    steps: int = 40
    """Number of steps of each restart."""
    step_size: float | None = None
    """Size of a step in the values; 2.5 * radius / steps by default."""
    random_start: bool = True
    """Start from a uniform point of the ball instead of the image itself."""
    restarts: int = 1
    """Number of runs, each from its own random start; images that are fooled leave."""
    loss: LossName = "margin"
    """What is decreased or increased: cross entropy, margin or difference of logits ratio."""
    keep: Keep = "first"
    """first: stop an image at its first success; lowest: run all steps and keep the lowest objective; smallest: run all
    steps and keep the success of smallest linf size."""

    def __post_init__(self) -> None:
        read_radius(self, "linf")
        above(self, bend=0, step_size=0)
        at_least(self, tau=0, steps=1, restarts=1)
        one_of(self, "loss", LOSSES)
        one_of(self, "keep", KEEPS)
        if self.restarts > 1 and not self.random_start:
            raise BlindspotsError(
                f"FlowBall.restarts {self.restarts} without a random start would repeat the same run: set random_start "
                "or restarts=1"
            )

    def space(self, images: Tensor) -> Space:
        radius = float(self.radius)
        return Combined(images, Flow(images, limit=self.bend * radius), "linf", radius, unit=self.bend)

    def objective(self) -> Objective:
        # The flow stands in theta over the unit, and the flow loss is of first degree: this is that of the flow itself.
        rough = FlowLoss(epsilon=1e-8 / self.bend**2)
        return Weighted(((1.0, loss(self.loss)), (self.tau * self.bend, rough)))

    def search(self, oracle: Oracle) -> None:
        step = self.step_size if self.step_size is not None else 2.5 * float(self.radius) / self.steps
        if not self.random_start:
            descend(oracle, oracle.space.zero(), Steepest("linf", step), self.steps)
            return
        oracle.judge_clean()
        for restart in range(self.restarts):
            if not oracle.revive():
                return
            descend(oracle, oracle.space.start(oracle.keys(restart)), Steepest("linf", step), self.steps)
