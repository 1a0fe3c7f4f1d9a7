"""Boundary: a random walk along the decision boundary, towards the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from .. import noise
from ..attack import Attack
from ..decisions import DecisionKeep, begin, bisect
from ..lazy import torch
from ..objectives import Decision, Objective
from ..record import Knowledge
from ..settings import above, at_least, one_of, read_radius
from ..spaces import Additive, Space

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle

# Shares of successes between which a step size stays as it is, and after how many steps the share is looked at.
SIDEWAYS, SIDEWAYS_AFTER = (0.2, 0.5), 10
INWARDS, INWARDS_AFTER = (0.1, 0.25), 30
# A way inwards shorter than this share of the distance brings nothing more: the image rests.
CONVERGED = 1e-7
FIRST_BISECTIONS = 12
_TINY = 1e-30


@dataclass(frozen=True)
class Boundary(Attack):
    """A random walk among points that reach the goal, each nearer to the image than the one before.

    At distance d a step goes sideways by `sideways * d` in a Gaussian direction, back onto the sphere round the image,
    and then inwards by `inwards * d`. The point is taken if it still reaches the goal. Both lengths adapt for each
    image: sideways so that 20 to 50 % of the points on the sphere reach the goal (every `probe`-th step asks that
    point, too), inwards so that 10 to 25 % of the steps are taken.

    Cost: at most `queries` forwards, no backwards; 1 + 1 / probe for a step.
    Source: Brendel et al. 2018, arXiv:1712.04248.
    Differs from the paper: the walk begins at the boundary, to which the start is brought by bisection, and lengths
    adapt after 10 probes and 30 steps.
    """

    name: ClassVar[str] = "boundary"
    summary: ClassVar[str] = "random walk along the decision boundary (Brendel et al. 2018)"
    norms: ClassVar[tuple[str, ...]] = ("l2",)
    minimum: ClassVar[bool] = True
    knowledge: ClassVar[Knowledge] = "decisions"
    begins_far: ClassVar[bool] = True

    radius: float | str
    """Radius in l2, in pixel units of [0, 1]: which points count as a success."""
    norm: Literal["l2"] = "l2"
    """Norm of the ball: l2."""
    queries: int = 5000
    """Forwards of an image at most."""
    sideways: float = 0.01
    """First length of the way along the sphere, as a share of the distance."""
    inwards: float = 0.01
    """First length of the way towards the image, as a share of the distance."""
    adaptation: float = 1.5
    """Factor by which lengths grow and shrink."""
    probe: int = 10
    """Every so many steps the point on the sphere is asked, too."""
    draws: int = 100
    """Noise images tried as a start, where none is given."""
    keep: DecisionKeep = "first"
    """first: stop an image at its first success within the radius; smallest: spend all queries, keep the smallest."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        at_least(self, queries=3, probe=1, draws=0)
        above(self, sideways=0, inwards=0, adaptation=1)
        one_of(self, "keep", get_args(DecisionKeep))

    def space(self, images: Tensor) -> Space:
        return Additive(images, self.norm, float(self.radius))

    def objective(self) -> Objective:
        return Decision()

    def search(self, oracle: Oracle) -> None:
        oracle.judge_clean()
        theta = bisect(oracle, begin(oracle, self.draws), self.norm, FIRST_BISECTIONS)
        state = {
            "sideways": torch.full((len(theta),), self.sideways, dtype=theta.dtype, device=theta.device),
            "inwards": torch.full((len(theta),), self.inwards, dtype=theta.dtype, device=theta.device),
        }
        state |= {name: torch.zeros_like(state["inwards"]) for name in ("probes", "held", "tries", "taken")}
        for step in range(self.queries):
            going = oracle.compact()
            if going is not None:
                theta, state = theta[going], {name: tensor[going] for name, tensor in state.items()}
            if not len(oracle.rows):
                return
            oracle.step()
            sphere, nearer = self._proposals(oracle, theta, state, step)
            probed = torch.zeros(len(theta), 2, dtype=torch.bool, device=theta.device)
            probed[:, 0], probed[:, 1] = True, step % self.probe == 0
            reached = oracle.decisions(torch.stack((nearer, sphere), 1), probed)
            closer = _distance(nearer, oracle.images) < _distance(theta, oracle.images)
            taken = reached[:, 0] & closer
            theta = torch.where(taken.view(-1, 1, 1, 1), nearer, theta)
            self._adapt(state, taken, reached[:, 1], step % self.probe == 0)
            oracle.rest(state["inwards"] < CONVERGED)

    def _proposals(self, oracle: Oracle, theta: Tensor, state: dict[str, Tensor], step: int) -> tuple[Tensor, Tensor]:
        """A point beside theta on the sphere round the image, and the one nearer to it that is to be taken."""
        x = oracle.images
        out = theta - x
        distance = _distance(theta, x).view(-1, 1, 1, 1)
        unit = out / distance
        eta = noise.normal(oracle.keys(1, step), tuple(x.shape[1:]), x.dtype)
        eta = eta - unit * (eta * unit).flatten(1).sum(1).view(-1, 1, 1, 1)
        eta = eta / _distance(eta, torch.zeros_like(eta)).view(-1, 1, 1, 1)
        side, length = state["sideways"].view(-1, 1, 1, 1), state["inwards"].view(-1, 1, 1, 1)
        sphere = (x + distance * (unit + side * eta) / (1 + side.square()).sqrt()).clamp(0, 1)
        # The box may have shortened the way already.
        remaining = _distance(sphere, x).view(-1, 1, 1, 1)
        target = torch.minimum(remaining, distance * (1 - length).clamp(min=0))
        return sphere, (x + (sphere - x) * (target / remaining)).clamp(0, 1)

    def _adapt(self, state: dict[str, Tensor], taken: Tensor, held: Tensor, probed: bool) -> None:
        state["tries"] += 1
        state["taken"] += taken
        self._scale(state, "inwards", "tries", "taken", INWARDS, INWARDS_AFTER)
        if not probed:
            return
        state["probes"] += 1
        state["held"] += held
        factor = self._scale(state, "sideways", "probes", "held", SIDEWAYS, SIDEWAYS_AFTER)
        # What the sphere allows is a measure of how far the boundary lets one go inwards, too.
        state["inwards"] *= factor

    def _scale(
        self, state: dict[str, Tensor], length: str, count: str, good: str, bounds: tuple[float, float], after: int
    ) -> Tensor:
        """Adapt a length where `after` tries have been counted, begin to count anew there; the factors (R,)."""
        full = state[count] >= after
        share = state[good] / after
        factor = torch.ones_like(share)
        factor = torch.where(full & (share > bounds[1]), self.adaptation, factor)
        factor = torch.where(full & (share < bounds[0]), 1 / self.adaptation, factor)
        state[length] *= factor
        for name in (count, good):
            state[name] = torch.where(full, 0, state[name])
        return factor


def _distance(a: Tensor, b: Tensor) -> Tensor:
    size: Tensor = torch.linalg.vector_norm((a - b).flatten(1), dim=1)
    return size.clamp(min=_TINY)
