"""HopSkipJump: steps along the normal of the boundary, which decisions at random points round it reveal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from .. import noise
from ..attack import Attack
from ..decisions import WIDTH, DecisionKeep, along, begin, bisect, normal
from ..geometry import NORMS
from ..lazy import torch
from ..objectives import Decision, Objective
from ..record import Knowledge
from ..settings import above, at_least, one_of, read_radius
from ..spaces import Additive, Space

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle

# The probes of the first estimate have this size, as the start may be anywhere; the step is halved at most this often.
FIRST_PROBE, HALVINGS = 0.1, 20
_TINY = 1e-30


@dataclass(frozen=True)
class HopSkipJump(Attack):
    """From a point at the boundary: estimate its normal, jump along it, and come back to the boundary by bisection.

    The estimate at x_t is v = mean_j (phi_j - mean phi) u_j with phi_j = +1 where x_t + delta u_j reaches the goal and
    -1 where not, u_j random of l2 size 1. The step is along v / ||v||_2 (l2) or sign(v) (linf), of size d_t / sqrt(t),
    halved until it reaches the goal; d_t is the distance. With theta = gamma / n^1.5 (l2) or gamma / n^2 (linf) for n
    values, bisection ends at a share theta of the way, delta = sqrt(n) theta d_t (l2) or n theta d_t (linf), and round
    t asks samples * sqrt(t) directions.

    Cost: at most `queries` forwards, no backwards.
    Source: Chen et al. 2020, arXiv:1904.02144.
    Differs from the paper: the points of the estimate may be the success, too.
    """

    name: ClassVar[str] = "hopskipjump"
    summary: ClassVar[str] = "jumps along the normal of the boundary, from decisions (Chen et al. 2020)"
    norms: ClassVar[tuple[str, ...]] = ("l2", "linf")
    minimum: ClassVar[bool] = True
    knowledge: ClassVar[Knowledge] = "decisions"
    begins_far: ClassVar[bool] = True

    radius: float | str
    """Radius in the norm, in pixel units of [0, 1]: which points count as a success."""
    norm: Literal["l2", "linf"] = "l2"
    """Norm in which the distance is made small: l2 or linf."""
    queries: int = 5000
    """Forwards of an image at most."""
    samples: int = 100
    """Directions of the first estimate."""
    most_samples: int = 10_000
    """Directions of an estimate at most."""
    gamma: float = 1.0
    """How closely the boundary is kept to; smaller is closer."""
    draws: int = 100
    """Noise images tried as a start, where none is given."""
    keep: DecisionKeep = "first"
    """first: stop an image at its first success within the radius; smallest: spend all queries, keep the smallest."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        at_least(self, queries=3, samples=1, most_samples=1, draws=0)
        above(self, gamma=0)
        one_of(self, "keep", get_args(DecisionKeep))

    @property
    def width(self) -> int:
        return WIDTH

    def space(self, images: Tensor) -> Space:
        return Additive(images, self.norm, float(self.radius))

    def objective(self) -> Objective:
        return Decision()

    def search(self, oracle: Oracle) -> None:
        oracle.judge_clean()
        values = oracle.images[0].numel() if len(oracle.images) else 1
        theta = self.gamma / values ** (1.5 if self.norm == "l2" else 2.0)
        bisections = max(1, math.ceil(math.log2(1 / theta)))
        spread = theta * values ** (0.5 if self.norm == "l2" else 1.0)

        def draw(keys: Tensor, count: int) -> Tensor:
            shape, dtype = (count, *oracle.images.shape[1:]), oracle.images.dtype
            u = noise.normal(keys, shape, dtype) if self.norm == "l2" else 2 * noise.uniform(keys, shape, dtype) - 1
            size = torch.linalg.vector_norm(u.flatten(2), dim=2).clamp(min=_TINY)
            unit: Tensor = u / size.view(*u.shape[:2], 1, 1, 1)
            return unit

        far = begin(oracle, self.draws)
        point, t = bisect(oracle, far, self.norm, bisections), 1
        spent = bisections
        while spent < self.queries:
            going = oracle.compact()
            if going is not None:
                far, point = far[going], point[going]
            if not len(oracle.rows):
                return
            oracle.step()
            samples = min(int(self.samples * math.sqrt(t)), self.most_samples)
            distance = NORMS[self.norm].size(far - oracle.images)
            probe = torch.full_like(distance, FIRST_PROBE) if t == 1 else spread * distance
            direction = normal(oracle, point, probe.clamp(min=_TINY), samples, draw, t)
            far = self._jump(oracle, point, self._unit(direction), t)
            point = bisect(oracle, far, self.norm, bisections)
            spent, t = spent + samples + bisections + 1, t + 1

    def _unit(self, direction: Tensor) -> Tensor:
        """A step of size 1 in the norm: of unit l2 size, or of signs in linf."""
        if self.norm == "linf":
            return direction.sign()
        size = torch.linalg.vector_norm(direction.flatten(1), dim=1).clamp(min=_TINY)
        unit: Tensor = direction / size.view(-1, 1, 1, 1)
        return unit

    def _jump(self, oracle: Oracle, point: Tensor, unit: Tensor, t: int) -> Tensor:
        """The first point along the normal that reaches the goal, as the step is halved; else the point itself."""
        step = NORMS[self.norm].size(point - oracle.images) / math.sqrt(t)
        return along(oracle, point, unit, step, 0.5, HALVINGS, point)[0]
