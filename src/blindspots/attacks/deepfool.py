"""DeepFool: steps to the nearest boundary of the linearised classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from .. import halfspace
from ..attack import Attack
from ..errors import BlindspotsError
from ..geometry import NORMS
from ..judging import rounding
from ..lazy import torch
from ..objectives import Margin, Objective
from ..polishing import polish
from ..record import Keep
from ..settings import at_least, one_of, read_radius
from ..spaces import Free, Space

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle


# Share of the way walked below which a step goes all the way; what an overshoot grows by at least, and to at most.
NEAR, LEAST, MOST = 0.3, 1e-4, 0.5


@dataclass(frozen=True)
class DeepFool(Attack):
    """Walk to the nearest boundary of the linearised classifier until the goal is reached: with f_j = z_y - z_j,

        j = argmin |f_j| / ||grad f_j||_q,    d = argmin ||d||_p over f_j + <grad f_j, d> = 0, x + r + d in [0, 1],

    where q is dual to p and j runs over the likeliest `rivals` other classes. While the boundary is far, r grows by
    stride * d; where d is less than a third of r, by (1 + overshoot) * d, in the box, and by what clears the rounding
    of the logits. With a target the one boundary is f = max_{j != t} z_j - z_t. On an affine network whole steps
    (stride = 1) are exact at once.

    Cost: at most steps + 1 + polish forwards and rivals * steps backwards, steps with a target; an image ends its walk
    at its first success, after four steps as a rule.
    Source: Moosavi-Dezfooli et al. 2016, "DeepFool", arXiv:1511.04599.
    Differs from the paper: steps are cut to `stride` while the boundary is far, since the network bends on the way and
    whole steps overshoot the nearest point (1: whole steps, as in the paper); they stay in the box, around bounds that
    are met; the overshoot is one of each step, and doubles until it suffices; the likeliest classes are those at
    the point asked, not at the image; the success is pulled towards the image at the end (`polish`; 0 leaves it where
    the walk ended); targets and a largest radius.
    """

    name: ClassVar[str] = "deepfool"
    summary: ClassVar[str] = "steps to the nearest boundary of the linearised network (Moosavi-Dezfooli et al. 2016)"
    norms: ClassVar[tuple[str, ...]] = ("l2", "linf")
    minimum: ClassVar[bool] = True

    radius: float | str
    """Largest perturbation that counts, in pixel units of [0, 1]."""
    norm: Literal["l2", "linf"] = "l2"
    """Norm of the perturbation: l2 or linf."""
    steps: int = 50
    """Largest number of steps."""
    overshoot: float = 0.02
    """How much further than the boundary to go, as a share of the step."""
    stride: float = 0.5
    """Share of the way to the boundary that a step goes while it is far; 1: all of it."""
    rivals: int = 9
    """Number of likeliest other classes whose boundaries are looked at; with the label the paper's ten."""

    polish: int = 3
    """Forwards spent at the end on pulling the success towards the image."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        at_least(self, steps=1, overshoot=0, rivals=1, polish=0)
        if not 0 < self.stride <= 1:
            raise BlindspotsError(f"DeepFool.stride must be above 0 and at most 1, got {self.stride}")

    @property
    def rule(self) -> Keep:
        return "smallest"

    def space(self, images: Tensor) -> Space:
        return Free(images, self.norm, float(self.radius))

    def objective(self) -> Objective:
        return Margin()

    def search(self, oracle: Oracle) -> None:
        oracle.revive(rest=True)
        norm, theta = NORMS[self.norm], oracle.space.zero()
        dual = NORMS[norm.dual]
        beyond = torch.full((len(theta),), self.overshoot, dtype=theta.dtype, device=theta.device)
        for _ in range(self.steps):
            answer = oracle.nearest(theta, norm, self.rivals)
            assert answer.gradient is not None
            oracle.step()
            gap, slope = answer.gap.clamp(min=0), dual.size(answer.gradient)
            size = norm.size(theta - oracle.images)
            near = gap <= NEAR * size * slope
            # At the boundary itself rounding and curvature hold up a step that is a share of the way alone.
            clear = beyond * LEAST * size * slope + 2 * rounding(answer.logits)
            whole = (1 + beyond) * gap + clear
            far = self.stride * gap if self.stride < 1 else (1 + self.overshoot) * gap + clear
            # What has not sufficed is doubled: at a kink the same step would be tried for ever.
            beyond = torch.where(near, (2 * beyond + LEAST).clamp(max=MOST), beyond)
            way = halfspace.step(self.norm, answer.gradient, torch.where(near, whole, far), theta)
            theta = oracle.space.project(theta + way)
            going = oracle.compact()
            if going is not None:
                if not len(going):
                    break
                theta, beyond = theta[going], beyond[going]
        else:
            oracle.query(theta, gradient=False)
        polish(oracle, self.polish)
