"""Brendel-Bethge: from a point that reaches the goal along the boundary to the one nearest to the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..attack import Attack
from ..decisions import begin, bisect
from ..descend import march
from ..errors import BlindspotsError
from ..geometry import NORMS, BallName
from ..lazy import torch
from ..objectives import Margin, Objective
from ..optimisers.optimiser import per_row
from ..polishing import CLEAR, polish
from ..projection import box
from ..record import Keep
from ..settings import above, at_least, one_of, read_radius
from ..spaces import Free, Space
from ..trust_region import smallest

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle
    from ..record import Answer

# Weight of what a point lacks of the goal, in distances to first order: above 1, or lacking it would pay.
PRICE = 2.0
# A gain that is smaller than this share of the distance is none, and an image whose steps are shorter rests.
CONVERGED = 1e-6
# How far a step may lead from the boundary, as a share of the margin that the image itself lacks: further away the
# plane says nothing of it any more.
ASTRAY = 0.01


@dataclass(frozen=True)
class BrendelBethge(Attack):
    """Begin where the goal is reached, at the boundary, and walk along it: from x + y with the margin f, the mean g of
    its gradients on the way, of which the last has the share 1 - momentum, and the reach r of the image,

        z = argmin ||z||_p  subject to  f + <g, z - y> <= 0,  ||z - y||_2 <= r,  0 <= x + z <= 1.

    x + z is where the next step begins if it has less of ||z||_p + 2 max(f, 0) / ||g||_q, with q dual to p. If it has
    less by half of what the plane promised, r becomes at least twice the length of the step, and at most half of it if
    not. A step further than a hundredth of the image's own margin to the wrong side of the boundary is taken back. The
    boundary has many points that are nearer than their neighbours: `restarts` begin at other noise images.

    Cost: at most 1 + (1 + restarts) * (draws + bisections + steps + 1) + polish forwards and (1 + restarts) * steps
    backwards; an image rests once r is a millionth of its distance.
    Source: Brendel et al. 2019, arXiv:1907.01003.
    Differs from the paper: r follows the success of each image, not a schedule for all; steps that make it worse are
    taken back; the smallest success is pulled towards the image at the end (`polish`); no l0.
    """

    name: ClassVar[str] = "brendel-bethge"
    summary: ClassVar[str] = "along the boundary by trust regions, from far away (Brendel et al. 2019)"
    norms: ClassVar[tuple[str, ...]] = ("l2", "linf", "l1")
    minimum: ClassVar[bool] = True
    begins_far: ClassVar[bool] = True

    radius: float | str
    """Largest perturbation that counts, in pixel units of [0, 1]."""
    norm: BallName = "l2"
    """Norm of the perturbation: l2, linf or l1."""
    steps: int = 100
    """Largest number of steps."""
    reach: float = 0.1
    """Length of the first step in l2, as a share of the distance."""
    draws: int = 100
    """Noise images tried as a start, where none is given."""
    bisections: int = 10
    """Halvings of the way from the start to the boundary."""
    momentum: float = 0.5
    """Share that earlier gradients keep in the normal of the boundary: the last alone knows one side of a kink."""
    restarts: int = 0
    """How often it begins anew, from another noise image; the smallest success of all counts."""
    polish: int = 3
    """Forwards spent at the end on pulling the smallest success towards the image."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        at_least(self, steps=1, draws=0, bisections=0, restarts=0, polish=0, momentum=0)
        above(self, reach=0)
        if not self.momentum < 1:
            raise BlindspotsError(f"BrendelBethge.momentum must lie in [0, 1), got {self.momentum}")

    @property
    def rule(self) -> Keep:
        return "smallest"

    def space(self, images: Tensor) -> Space:
        return Free(images, self.norm, float(self.radius))

    def objective(self) -> Objective:
        return Margin()

    def search(self, oracle: Oracle) -> None:
        oracle.judge_clean()
        for restart in range(1 + self.restarts):
            if restart and not oracle.revive():
                break
            self._walk(oracle, restart)
        # An image whose own walk has ended is polished too, whether others walk on or not.
        polish(oracle, self.polish)

    def _walk(self, oracle: Oracle, restart: int) -> None:
        theta = begin(oracle, self.draws, restart)
        if not len(theta):
            return
        theta = bisect(oracle, theta, "linf" if self.norm == "linf" else "l2", self.bisections)
        going = oracle.compact()
        if going is not None:
            if not len(going):
                return
            theta = theta[going]
        distance = NORMS["l2"].size(theta - oracle.images)
        state = {
            "base": theta,
            "slope": torch.zeros_like(theta),
            "gap": torch.full_like(distance, float("inf")),
            "reach": self.reach * distance,
        }

        def move(
            number: int, theta: Tensor, answer: Answer, state: dict[str, Tensor]
        ) -> tuple[Tensor, dict[str, Tensor]]:
            assert answer.gradient is not None
            taken, reach = self._weigh(oracle, theta, answer.loss, state)
            chosen, first = per_row(taken, theta), per_row(torch.isinf(state["gap"]), theta)
            mean = torch.where(first, answer.gradient, torch.lerp(answer.gradient, state["slope"], self.momentum))
            base, slope = torch.where(chosen, theta, state["base"]), torch.where(chosen, mean, state["slope"])
            gap = torch.where(taken, answer.loss, state["gap"])
            y = base - oracle.images
            # What is to be made up for, and a little more.
            lacking = _lacking(gap, slope, y)
            z = smallest(self.norm, oracle.images, y, slope, -lacking - CLEAR * lacking.abs(), reach)
            oracle.rest(reach < CONVERGED * NORMS["l2"].size(y))
            return box(oracle.images + z), {"base": base, "slope": slope, "gap": gap, "reach": reach}

        march(oracle, theta, state, self.steps, move)

    def _weigh(self, oracle: Oracle, theta: Tensor, gap: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Is theta better than where the step to it began, (R,) bool, and the reach (R,) of the next one?"""
        norm, first = NORMS[self.norm], torch.isinf(state["gap"])
        price = PRICE / NORMS[norm.dual].size(state["slope"]).clamp(min=1e-12)
        before = norm.size(state["base"] - oracle.images) + price * state["gap"].clamp(min=0)
        now = before - norm.size(theta - oracle.images)
        # What the plane promises, which may be out of reach.
        foreseen = state["gap"] + (state["slope"] * (theta - state["base"])).flatten(1).sum(1)
        hoped, gained = now - price * foreseen.clamp(min=0), now - price * gap.clamp(min=0)
        lacking = _lacking(state["gap"], state["slope"], state["base"] - oracle.images).abs()
        near = gap <= torch.maximum(ASTRAY * lacking, state["gap"])
        length = NORMS["l2"].size(theta - state["base"])
        longer, shorter = torch.maximum(state["reach"], 2 * length), torch.minimum(state["reach"], length) / 2
        # A gain that is rounding would be none in another model batch.
        taken = (gained > CONVERGED * before) & near
        reach = torch.where(taken & (gained > hoped / 2), longer, shorter)
        return first | taken, torch.where(first, state["reach"], reach)


def _lacking(gap: Tensor, slope: Tensor, y: Tensor) -> Tensor:
    """The margin (R,) of the image itself, were the boundary flat: from that at a change y (R, ...) and its slope."""
    return gap - (slope * y).flatten(1).sum(1)
