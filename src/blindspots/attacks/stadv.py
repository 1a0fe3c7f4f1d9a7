"""stAdv: spatially transformed adversarial examples, the smoothest flow of the pixels that reaches the goal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from ..attack import Attack
from ..descend import descend
from ..errors import BlindspotsError
from ..flows import FlowKind, FlowLoss, FlowPadding, Neighbours
from ..objectives import Margin, Objective, Weighted
from ..optimisers import LBFGS, Adam, Optimiser, Smoothing
from ..record import Rule
from ..settings import above, at_least, one_of, read_radius
from ..spaces import Flow, Space
from ..spaces.flow import FlowStart

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle

Solver = Literal["lbfgs", "adam"]
Iterate = Literal["best", "final"]
# Step of Adam, and l2 length of the first step of L-BFGS, in pixels: longer ones tear the flow before it has a shape.
RATE, FIRST_STEP = 0.05, 0.1
# How much further than the restart before the next one starts from the unchanged image.
WIDER = 3.0


@dataclass(frozen=True)
class StAdv(Attack):
    """Bend the image instead of changing its values: minimise over flows f (2, H, W), in pixels,

        max(margin(x_f), -kappa) + tau * L_flow(f),        x_f(p) = x(p + f(p)), bilinear,

    with the margin of the logits (targeted: max_{j != t} z_j - z_t; untargeted: z_y - max_{j != y} z_j) and the
    roughness L_flow of the flow. Of all flows that were queried and reach the goal, that of lowest objective is kept:
    at kappa = 0 the one of smallest L_flow. An image that survives tau is attacked anew with half of it, up to
    `halvings` times, and leaves with its first tau that succeeds. One that survives them all goes through them again
    from a random flow, `restarts` times, each wider than the one before: a bilinear image has a kink at every
    whole-numbered flow, where the gradient is that of one side and may not lead down, and what has to change its shape
    (a one into a nought) needs more than a small flow to begin with.

    Cost: at most 1 + n * (steps + 1) forwards and n * steps backwards in n = (1 + restarts) * (1 + halvings) runs;
    L-BFGS ends an image where it gets no further.
    Source: Xiao et al. 2018, "Spatially transformed adversarial examples", arXiv:1801.02612.
    Differs from the paper: kappa is subtracted (the paper prints a plus, with which no image would cross the boundary);
    tau = 0.05 is a start and not the end, since with the roughness summed over the image it is too stiff for many; the
    best iterate is kept, not the last, which lies on the boundary; flows may be limited to `radius`; L-BFGS begins in
    the metric of smooth flows (`smoothing`).
    """

    name: ClassVar[str] = "stadv"
    summary: ClassVar[str] = "the smoothest flow of the pixels that reaches the goal (Xiao et al. 2018)"
    norms: ClassVar[tuple[str, ...]] = ("flow",)

    radius: float | str = 5.0
    """Largest displacement of a pixel, in pixels."""
    tau: float = 0.05
    """Weight of the flow loss against the margin, in logits."""
    halvings: int = 6
    """How often tau is halved for images that survive; 0 keeps it fixed."""
    restarts: int = 3
    """How often an image that survives every tau is attacked again, from another random flow: of width `spread`, and
    three times as wide with each restart where the first start is zero."""
    kappa: float = 0.0
    """Margin asked for beyond the decision boundary, in logits."""
    flow_loss: FlowKind = "sum"
    """Roughness of a flow: sum (equation 4 of the paper), mean, global or squared; see FlowLoss."""
    padding: FlowPadding = "replicate"
    """What lies beyond the border of a flow: replicate (shifts cost nothing) or zero."""
    neighbours: Neighbours = "diagonal"
    """The four neighbours of a pixel: diagonal or von_neumann."""
    start: FlowStart = "zero"
    """First flow: zero, gaussian or uniform."""
    spread: float = 0.1
    """Width of a random start, in pixels."""
    solver: Solver = "lbfgs"
    """lbfgs or adam (step 0.05 pixels)."""
    steps: int = 200
    """Queries of each run, one for each tau."""
    iterate: Iterate = "best"
    """Which flow counts: best (lowest objective of those that reach the goal) or final (lowest of all, as a solver
    returns it: at kappa = 0 it lies on the boundary, and succeeds by chance)."""
    smoothing: float = 1.0
    """L-BFGS moves neighbours together: its first guess of the inverse Hessian is that of a flow which is smooth over
    this many image sides (see Smoothing); 0 is the identity, where every pixel goes its own way at first."""
    tolerance: float = 1e-5
    """L-BFGS ends an image where no entry of the gradient exceeds it, in logits per pixel."""

    def __post_init__(self) -> None:
        read_radius(self, "flow")
        above(self, tau=0)
        if self.kappa < 0:
            raise BlindspotsError(
                "StAdv.kappa must not be negative: it enters as max(margin, -kappa), so that larger values ask for "
                f"more, got {self.kappa}"
            )
        at_least(self, kappa=0, halvings=0, restarts=0, spread=0, steps=1, smoothing=0, tolerance=0)
        one_of(self, "flow_loss", get_args(FlowKind))
        one_of(self, "padding", get_args(FlowPadding))
        one_of(self, "neighbours", get_args(Neighbours))
        one_of(self, "start", get_args(FlowStart))
        one_of(self, "solver", get_args(Solver))
        one_of(self, "iterate", get_args(Iterate))

    @property
    def rule(self) -> Rule:
        return "lowest" if self.iterate == "best" else "final"

    def space(self, images: Tensor) -> Space:
        return Flow(images, self.start, self.spread, float(self.radius))

    def objective(self) -> Objective:
        return self._weighted(self.tau)

    def search(self, oracle: Oracle) -> None:
        oracle.judge_clean()
        solvers: dict[Solver, Optimiser] = {
            "lbfgs": LBFGS(
                first_step=FIRST_STEP,
                tolerance_gradient=self.tolerance,
                metric=Smoothing(self.smoothing) if self.smoothing else None,
            ),
            "adam": Adam(RATE),
        }
        for run in range((1 + self.restarts) * (1 + self.halvings)):
            restart, halving = divmod(run, 1 + self.halvings)
            if not oracle.revive():
                return
            oracle.pursue(self._weighted(self.tau / 2**halving))
            if self.iterate == "final":  # of this run alone: the unchanged image may have a lower objective
                oracle.record.loss.fill_(float("inf"))
            descend(oracle, self._begin(oracle, restart), solvers[self.solver], self.steps)
            oracle.settle(oracle.record.success)

    def _begin(self, oracle: Oracle, restart: int) -> Tensor:
        space = oracle.space
        if restart and self.start == "zero":
            space = Flow(oracle.images, "gaussian", self.spread * WIDER ** (restart - 1), float(self.radius))
        return space.start(oracle.keys(restart))

    def _weighted(self, tau: float) -> Objective:
        flow_loss = FlowLoss(self.flow_loss, self.padding, self.neighbours)
        return Weighted(((1.0, self._reach()), (tau, flow_loss)))

    def _reach(self) -> Objective:
        """What pulls towards the goal."""
        return Margin(self.kappa)
