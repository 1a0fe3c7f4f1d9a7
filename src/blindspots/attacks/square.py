"""Square: random search with squares that shrink as the queries go by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .. import noise
from ..attack import Attack
from ..bumps import bumps, placed, signs, tiles, window
from ..geometry import BallName
from ..lazy import torch
from ..objectives import ByGoal, CrossEntropy, Margin, Objective
from ..record import Knowledge
from ..settings import above, at_least, one_of, read_radius
from ..spaces import Additive, Space

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle

# After this many of 10,000 queries the share of the pixels is halved (the published schedule).
HALVED_AFTER, OF = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000), 10_000
_TINY = 1e-30


@dataclass(frozen=True)
class Square(Attack):
    """Random search over the boundary of the ball: x' <- a copy of x' with one square changed, if its loss is lower.

    linf: from stripes of +-radius, one sign a column and channel; a square of share p of the pixels is set to x +-
    radius, one sign a channel, drawn until something changes. l2: from tiles; the budget of one window moves into
    another, in the shape of two bumps of opposite sign, and the whole is scaled to the radius. l1: the same with
    narrower bumps; the window takes what both had and what is left of the radius, once for each channel, and the
    projection onto ball and box then makes the whole sparse. p is halved after 0.1, 0.5, 2, 5, 10, 20, 40, 60 and 80 %
    of the queries. The loss is the margin, or the cross entropy of the target.

    Cost: at most `queries` forwards, no backwards; an image stops at its first success.
    Source: Andriushchenko et al. 2020, arXiv:1912.00049; l1: Croce and Hein 2021, arXiv:2103.01208, appendix.
    Differs from the papers: every image draws its own squares; they may touch the last row and column, which the
    published code leaves out; images of less than 5 pixels have smaller tiles.
    """

    name: ClassVar[str] = "square"
    summary: ClassVar[str] = "random search with shrinking squares (Andriushchenko et al. 2020)"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")
    knowledge: ClassVar[Knowledge] = "scores"

    radius: float | str
    """Radius in the norm, in pixel units of [0, 1], such as 0.03 or 8/255."""
    norm: BallName = "linf"
    """Norm of the ball: linf, l2 or l1."""
    queries: int = 5000
    """Forwards of an image at most."""
    share: float = 0.8
    """Share p of the pixels in the first squares; the paper has 0.05 in linf and 0.1 in l2 on ImageNet."""
    schedule: int = 0
    """Queries in which the squares shrink, of which `queries` may be the first part (AutoAttack has 10000 here and
    queries=5000); 0: as many as `queries`."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        at_least(self, queries=3, schedule=0)
        above(self, share=0)

    def space(self, images: Tensor) -> Space:
        return Additive(images, self.norm, float(self.radius))

    def objective(self) -> Objective:
        return ByGoal(Margin(), CrossEntropy())

    def side(self, step: int, height: int, width: int) -> int:
        """Side of the square of this step, in pixels; odd and from 3 on, where there is room, in l2 and l1."""
        done = OF * step // (self.schedule or self.queries)
        p = self.share / 2 ** sum(done > limit for limit in HALVED_AFTER)
        side = round(math.sqrt(p * height * width))
        if self.norm == "linf":
            return min(max(side, 1), height, width)
        most = (min(height, width) - 1) // 2 * 2 + 1
        return min(max(side // 2 * 2 + 1, 3), most)

    def search(self, oracle: Oracle) -> None:
        oracle.judge_clean()
        if oracle.compact() is not None and not len(oracle.rows):
            return
        theta = self._first(_ball(oracle), oracle.keys())
        loss = oracle.query(theta, gradient=False).loss
        step, last = 0, self.queries - 3
        while step < last:
            going = oracle.compact()
            if going is not None:
                if not len(going):
                    return
                theta, loss = theta[going], loss[going]
            side, count = self.side(step, *theta.shape[2:]), 1
            while count < oracle.room and step + count < last and self.side(step + count, *theta.shape[2:]) == side:
                count += 1
            if count == 1:
                oracle.step()
                trial = self._changed(_ball(oracle), theta, side, oracle.keys(draw=step + 1))
                answer = oracle.query(trial, gradient=False).loss
                lower = answer < loss
                theta, loss = torch.where(lower.view(-1, 1, 1, 1), trial, theta), torch.where(lower, answer, loss)
            else:
                theta, loss = self._ahead(oracle, theta, loss, side, step, count)
            step += count

    def _ahead(
        self, oracle: Oracle, theta: Tensor, loss: Tensor, side: int, step: int, count: int
    ) -> tuple[Tensor, Tensor]:
        """Several steps of few images, taken as if the squares to come would all be refused.

        Where one is accepted, those behind it are painted again on what it has made.
        """
        rows = torch.arange(len(theta), device=theta.device)
        every = rows.repeat_interleave(count)
        ball = _ball(oracle).narrow(every)
        keys = torch.stack([oracle.keys(draw=step + 1 + place) for place in range(count)], 1).flatten()
        waiting = torch.ones(len(rows), count, dtype=torch.bool, device=theta.device)
        while bool((waiting & oracle.active.unsqueeze(1)).any()):
            trials = self._changed(ball, theta[every], side, keys).view(len(rows), count, *theta.shape[1:])
            answers, asked = oracle.turns(trials, loss, waiting)
            waiting = waiting & ~asked
            taken = asked & (answers < loss.unsqueeze(1))
            chosen, lower = taken.long().argmax(1), taken.any(1)
            theta = torch.where(lower.view(-1, 1, 1, 1), trials[rows, chosen], theta)
            loss = torch.where(lower, answers[rows, chosen], loss)
        return theta, loss

    def _first(self, ball: Additive, keys: Tensor) -> Tensor:
        """The first point: stripes in linf, tiles elsewhere."""
        if self.norm != "linf":
            return self._fitted(ball, tiles(keys, ball.images, self.norm))
        low, high = ball.bounds()
        channels, _, width = low.shape[1:]
        draw = noise.uniform(keys, (channels, 1, width), torch.float64)
        return torch.where(draw < 0.5, low, high)

    def _changed(self, ball: Additive, theta: Tensor, side: int, keys: Tensor) -> Tensor:
        """A copy of theta with another square."""
        if self.norm == "linf":
            return _repainted(ball, theta, side, keys)
        return self._shifted(ball, theta, side, keys)

    def _shifted(self, ball: Additive, theta: Tensor, side: int, keys: Tensor) -> Tensor:
        """The budget of one window moved into another and reshaped."""
        channels, height, width = theta.shape[1:]
        power = 2 if self.norm == "l2" else 1
        draw = noise.uniform(keys, (5 + channels,), torch.float64)
        to, top, left = window(draw[:, :2], side, height, width)
        source, _, _ = window(draw[:, 2:4], side, height, width)
        delta = theta - ball.images
        left_over = (float(self.radius) ** power - _mass(delta, power).sum(1, keepdim=True)).clamp(min=0)
        inside = to.to(delta.dtype)
        budget = left_over / channels + _mass(delta * (to | source), power)
        if self.norm == "l1":
            # More than there is: the projection then gives up the small values.
            budget = budget * channels
        shape = placed(bumps(side, delta, self.norm), top, left, draw[:, 4] < 0.5, height, width) * inside
        old = delta * inside
        new = shape * signs(draw[:, 5:], delta.dtype).view(-1, channels, 1, 1)
        new = new + old / (_root(_mass(old, power), power) + 1e-10)
        new = new * _root(budget / _mass(new, power).clamp(min=_TINY), power)
        return self._fitted(ball, torch.where(to, new, torch.where(source, 0, delta)))

    def _fitted(self, ball: Additive, delta: Tensor) -> Tensor:
        """x + delta within ball and box; in l2 it is stretched to the radius first."""
        if self.norm == "l2":
            size = _root(_mass(delta, 2).sum(1, keepdim=True).clamp(min=_TINY), 2)
            delta = delta * (float(self.radius) / size)
        return ball.project(ball.images + delta)


def _ball(oracle: Oracle) -> Additive:
    ball = oracle.space
    assert isinstance(ball, Additive)
    return ball


def _repainted(ball: Additive, theta: Tensor, side: int, keys: Tensor) -> Tensor:
    """A square at its upper or lower bound, one sign a channel."""
    low, high = ball.bounds()
    channels, height, width = theta.shape[1:]
    draw = noise.uniform(keys, (3 + channels,), torch.float64)
    inside, _, _ = window(draw[:, :2], side, height, width)
    up = draw[:, 3:] < 0.5

    def painted(rows: Tensor | slice, up: Tensor) -> Tensor:
        chosen = torch.where(up.view(-1, channels, 1, 1), high[rows], low[rows])
        return torch.where(inside[rows], chosen, theta[rows])

    trial = painted(slice(None), up)
    # At most one choice of signs changes nothing; any of the others is then drawn instead, all equally likely.
    mask = 1 + (draw[:, 2] * (2 ** min(channels, 20) - 1)).long()
    other = up ^ (mask.unsqueeze(1) >> torch.arange(channels, device=mask.device) & 1).bool()
    same = (trial == theta).flatten(1).all(1)
    if same.device.type == "cpu":
        rows = same.nonzero().squeeze(1)
        trial[rows] = painted(rows, other[rows])
        return trial
    return torch.where(same.view(-1, 1, 1, 1), painted(slice(None), other), trial)


def _mass(values: Tensor, power: int) -> Tensor:
    """sum |v|^power of each channel, (R, C, 1, 1)."""
    flat = values.flatten(2)
    return (flat.square() if power == 2 else flat.abs()).sum(2).view(*values.shape[:2], 1, 1)


def _root(values: Tensor, power: int) -> Tensor:
    return values.sqrt() if power == 2 else values
