"""What attacks that know decisions alone share: where to begin, the way back to the boundary, and its normal.

Such an attack walks among points that reach the goal already and are too far away; the radius only says which of them
count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from . import noise
from .geometry import NORMS
from .lazy import torch
from .optimisers.optimiser import per_row

if TYPE_CHECKING:
    from torch import Tensor

    from .oracle import Oracle

DecisionKeep = Literal["first", "smallest"]
# Directions of an estimate that are asked in one query; more of them are asked in turns.
WIDTH = 64


def begin(oracle: Oracle, draws: int, restart: int = 0) -> Tensor:
    """A point (R, ...) for each live row that reaches its goal: the one given, or the first such uniform noise image.

    Images without one are given up as `unstarted`; no rows may be left. A restart draws other noise, and lets those
    without rest.
    """
    oracle.compact()
    theta, asked = oracle.space.zero(), oracle.active
    found = torch.zeros_like(asked)
    if oracle.starts is not None and not restart:
        found = oracle.decisions(oracle.starts.unsqueeze(1)).squeeze(1)
        theta = torch.where(per_row(found, theta), oracle.starts, theta)
    for draw in range(draws):
        if not bool((asked & ~found).any()):
            break
        trial = noise.uniform(oracle.keys(restart, draw), tuple(theta.shape[1:]), theta.dtype)
        hit = oracle.decisions(trial.unsqueeze(1), ~found.unsqueeze(1)).squeeze(1)
        theta, found = torch.where(per_row(hit, theta), trial, theta), found | hit
    (oracle.rest if restart else oracle.unstarted)(asked & ~found)
    going = oracle.compact()
    return theta if going is None else theta[going]


def shrunk(x: Tensor, far: Tensor, share: Tensor, norm: str) -> Tensor:
    """The point (R, ...) with this share (R,) of the distance from x to far; a share of 1 is far itself.

    In l2 it lies on the line between them; in linf it is far, clipped to the smaller ball.
    """
    share = per_row(share, x)
    if norm == "l2":
        return torch.lerp(x, far, share)
    reach = share * per_row(NORMS[norm].size(far - x), x)
    clipped = torch.minimum(torch.maximum(far, x - reach), x + reach)
    return torch.where(share < 1, clipped, far)


def bisect(oracle: Oracle, far: Tensor, norm: str, steps: int, wanted: Tensor | None = None) -> Tensor:
    """Bring points (R, ...) that reach the goal towards the images, to within 2^-steps of the way from the boundary.

    The point returned has been asked itself: it reaches the goal. Rows that are not `wanted` (R,) stay where they are.
    """
    low = torch.zeros(len(far), dtype=far.dtype, device=far.device)
    high = torch.ones_like(low)
    ask = None if wanted is None else wanted.unsqueeze(1)
    for _ in range(steps):
        middle = (low + high) / 2
        hit = oracle.decisions(shrunk(oracle.images, far, middle, norm).unsqueeze(1), ask).squeeze(1)
        low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
    return shrunk(oracle.images, far, high, norm)


def along(
    oracle: Oracle, origin: Tensor, unit: Tensor, length: Tensor, factor: float, most: int, otherwise: Tensor
) -> tuple[Tensor, Tensor]:
    """The first point (R, ...) of the ray origin + length * unit, in the box, that reaches the goal, and who has one.

    The length (R,) is multiplied by `factor` from try to try, `most` times; where none does, `otherwise` stands.
    """
    found, wanted = otherwise, oracle.active
    for _ in range(most):
        trial = (origin + per_row(length, origin) * unit).clamp(0, 1)
        hit = oracle.decisions(trial.unsqueeze(1), wanted.unsqueeze(1)).squeeze(1)
        found, wanted = torch.where(per_row(hit, trial), trial, found), wanted & ~hit
        length = length * factor
    return found, oracle.active & ~wanted


def normal(
    oracle: Oracle, point: Tensor, probe: Tensor, samples: int, draw: Callable[[Tensor, int], Tensor], turn: int
) -> Tensor:
    """An estimate (R, ...) of the direction that leads from points at the boundary into the region of the goal.

    sum_j (phi_j - mean phi) u_j with phi_j = +1 where x + probe u_j reaches the goal and -1 where not; where all agree,
    the mean is not taken off. u_j is what the box [0, 1] has left of the direction drawn.

    Args:
        oracle: answers `samples` decisions for each live row.
        point: points (R, ...) at the boundary.
        probe: how far from them is asked, (R,).
        samples: number of directions.
        draw: directions (R, m, ...) from noise keys (R,) and their number m.
        turn: the number of this estimate, of which its randomness is a function.
    """
    probe = probe.view(-1, *[1] * point.ndim)
    weighted, plain, total = torch.zeros_like(point), torch.zeros_like(point), torch.zeros_like(probe)
    for start in range(0, samples, WIDTH):
        u, here = draw(oracle.keys(turn, start), min(WIDTH, samples - start)), point.unsqueeze(1)
        asked = (here + probe * u).clamp(0, 1)
        u = (asked - here) / probe
        phi = 2 * oracle.decisions(asked).to(u.dtype).view(*u.shape[:2], *[1] * (u.ndim - 2)) - 1
        weighted, plain, total = weighted + (phi * u).sum(1), plain + u.sum(1), total + phi.sum(1, keepdim=True)
    mean = (total / samples).squeeze(1)
    return torch.where(mean.abs() == 1, weighted, weighted - mean * plain)
