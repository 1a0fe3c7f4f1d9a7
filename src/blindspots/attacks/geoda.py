"""GeoDA: straight from the image along the normal of the boundary, which is taken for flat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from .. import noise
from ..attack import Attack
from ..decisions import WIDTH, DecisionKeep, along, begin, bisect, normal
from ..errors import BlindspotsError
from ..geometry import NORMS
from ..lazy import torch
from ..objectives import Decision, Objective
from ..record import Knowledge
from ..settings import above, at_least, one_of, read_radius
from ..spaces import Additive, Space
from .simba import cosines

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle

BISECTIONS = 12
# Where the boundary bends away, the way along the normal is lengthened by this factor, at most this often.
FURTHER, LENGTHENINGS = 1.2, 8


@dataclass(frozen=True)
class GeoDA(Attack):
    """Geometric decision-based attack: where the boundary is flat, its nearest point lies along its normal.

    From a point x_t at the boundary: w = sum_j (phi_j - mean phi) u_j with phi_j = +1 where x_t + sigma u_j reaches the
    goal and -1 where not, u_j Gaussian among the cosines of low frequency; then x_{t+1} is the first point of the other
    side on the ray x + r v, v = w / ||w||_2 (l2) or sign(w) (linf), found by bisection, if it is nearer. The optimal
    number of directions grows by lambda^(-2/3) from round to round.

    Cost: at most `queries` forwards, no backwards.
    Source: Rahmati et al. 2020, arXiv:2003.06468.
    Differs from the paper: rounds go on, each larger than the one before, until the queries are spent, instead of
    dividing a given number between given rounds; the mean decision is taken off; a point that is not nearer is dropped.
    """

    name: ClassVar[str] = "geoda"
    summary: ClassVar[str] = "straight along the normal of a flat boundary, from decisions (Rahmati et al. 2020)"
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
    samples: int = 30
    """Directions of the first estimate."""
    decay: float = 0.6
    """lambda of the paper, above 0 and at most 1: round t asks samples * lambda^(-2 t / 3) directions."""
    sigma: float = 0.002
    """Standard deviation of the points round the boundary, in pixel units of [0, 1]."""
    share: float = 1 / 3
    """Share of the frequencies of each side that directions are made of, from the lowest; the paper has 75 of 224."""
    draws: int = 100
    """Noise images tried as a start, where none is given."""
    keep: DecisionKeep = "first"
    """first: stop an image at its first success within the radius; smallest: spend all queries, keep the smallest."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        at_least(self, queries=3, samples=1, draws=0)
        above(self, decay=0, sigma=0, share=0)
        for field in ("decay", "share"):
            if getattr(self, field) > 1:
                raise BlindspotsError(f"GeoDA.{field} must be at most 1, got {getattr(self, field)}")
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
        point = bisect(oracle, begin(oracle, self.draws), "l2", BISECTIONS)
        spent, t = BISECTIONS, 0

        def draw(keys: Tensor, count: int) -> Tensor:
            return self._waves(keys, count, oracle.images)

        while spent < self.queries:
            going = oracle.compact()
            if going is not None:
                point = point[going]
            if not len(oracle.rows):
                return
            oracle.step()
            samples = min(int(self.samples * self.decay ** (-2 * t / 3)), self.queries)
            probe = torch.full((len(point),), self.sigma, dtype=point.dtype, device=point.device)
            direction = normal(oracle, point, probe, samples, draw, 1 + t)
            point = self._along(oracle, point, direction)
            spent, t = spent + samples + BISECTIONS + 1, t + 1

    def _along(self, oracle: Oracle, point: Tensor, direction: Tensor) -> Tensor:
        """The boundary (R, ...) along the direction from the images, where it is nearer than the point."""
        norm, x = NORMS[self.norm], oracle.images
        unit = -norm.steepest(direction)
        far, hit = along(oracle, x, unit, norm.size(point - x), FURTHER, LENGTHENINGS, point)
        found = bisect(oracle, far, "l2", BISECTIONS, hit)
        nearer = norm.size(found - x) < norm.size(point - x)
        return torch.where(nearer.view(-1, 1, 1, 1), found, point)

    def _waves(self, keys: Tensor, count: int, images: Tensor) -> Tensor:
        """Gaussian sums (R, count, C, H, W) of the cosines of low frequency."""
        channels, height, width = images.shape[1:]
        down, across = (cosines(n, images)[: math.ceil(n * self.share)] for n in (height, width))
        weight = noise.normal(keys, (count, channels, len(down), len(across)), images.dtype)
        # Sums by hand: a matrix product may round otherwise for another number of rows.
        rows = sum((weight[..., j : j + 1] * across[j] for j in range(len(across))), start=weight.new_zeros(()))
        waves: Tensor = sum(
            (rows[..., i : i + 1, :] * down[i].unsqueeze(1) for i in range(len(down))), start=weight.new_zeros(())
        )
        return waves
