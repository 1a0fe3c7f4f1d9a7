"""Carlini and Wagner's attacks: the smallest change by Adam on size plus a weighted margin."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from ..attack import Attack
from ..descend import march
from ..geometry import NORMS
from ..lazy import torch
from ..objectives import Margin, Objective
from ..optimisers import Adam
from ..optimisers.optimiser import per_row
from ..polishing import polish, tighten
from ..projection import box
from ..record import Keep
from ..settings import above, at_least, one_of, read_radius
from ..spaces import Free, Space

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle
    from ..record import Answer

# Factor of a weight that was too small, how often a run looks whether it still gets anywhere, and what counts as that.
GROWTH, LOOKS, GAIN = 10.0, 10, 1e-4


@dataclass(frozen=True)
class CW(Attack):
    """Minimise over the box, by Adam, with f = max(margin, 0) and a weight c of each image,

        l2:    ||delta||_2^2 + c f                   c tenfold until f = 0 is reached, then bisected;
        linf:  sum_i max(|delta_i| - tau, 0) + c f   tau a tenth below the smallest success until no run stays below
                                                     tau, then bisected; both doubled while there is none;
        l0:    ||delta||_2^2 + c f on some values    after a success the half of them with least |g_i delta_i| is taken
                                                     out; then their number is bisected, c tenfold after a failure.

    A run starts at the image, in linf and l0 at the smallest success. It ends for an image after `steps`, or where a
    tenth of them have lowered the objective by less than 1e-4 of it; in linf and l0 where its task is done.

    Cost: at most rounds * (steps + 1) + 2 polish + 1 forwards and rounds * steps + polish backwards.
    Source: Carlini and Wagner 2017, arXiv:1608.04644.
    Differs from the paper: the box holds by projection, not by x' = (tanh w + 1) / 2, whose gradient vanishes at the
    bounds where most pixels of a digit are; the first c is twice, and the first tau once, what would do if the network
    were linear; steps are at most a tenth of the linf distance of that network and fall to a hundredth along a cosine;
    tau is bisected, and the number of values in l0; no confidence kappa; the smallest success is brought to the nearest
    point of the boundary at the end (`polish`, not in l0).
    """

    name: ClassVar[str] = "cw"
    summary: ClassVar[str] = "the smallest change by Adam on size plus margin (Carlini and Wagner 2017)"
    norms: ClassVar[tuple[str, ...]] = ("l2", "linf", "l0")
    minimum: ClassVar[bool] = True

    radius: float | str
    """Largest perturbation that counts, in pixel units of [0, 1]; l0: a number of values."""
    norm: Literal["l2", "linf", "l0"] = "l2"
    """Norm of the perturbation: l2, linf or l0."""
    steps: int = 100
    """Steps of each run."""
    rounds: int = 9
    """Number of runs, each with weight and bound of its own for each image."""
    rate: float | None = None
    """Largest step of Adam, in pixel units of [0, 1]; 0.01 by default, in l0, whose changes are large, 0.1."""
    weight: float | None = None
    """First weight c; by default the one that would do if the network were linear."""
    polish: int = 3
    """Steps made at the end to the nearest point of the boundary, then forwards on the line to the image."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        at_least(self, steps=1, rounds=1, polish=0)
        above(self, rate=0, weight=0)

    @property
    def rule(self) -> Keep:
        return "smallest"

    def space(self, images: Tensor) -> Space:
        return Free(images, self.norm, float(self.radius))

    def objective(self) -> Objective:
        return Margin()

    def search(self, oracle: Oracle) -> None:
        trade = Trade(oracle, self.norm, self.weight, self.rate or (0.1 if self.norm == "l0" else 0.01))
        for number in range(self.rounds):
            if not oracle.revive():
                return
            self._run(oracle, trade, number)
            trade.learn(oracle)
        if self.norm != "l0":
            tighten(oracle, self.norm, self.polish)
            polish(oracle, self.polish)

    def _run(self, oracle: Oracle, trade: Trade, run: int) -> None:
        """Adam at the weights and bounds of `trade`, which is told of every point asked."""
        adam, every = Adam(1.0), max(1, self.steps // LOOKS)

        def move(
            number: int, theta: Tensor, answer: Answer, state: dict[str, Tensor]
        ) -> tuple[Tensor, dict[str, Tensor]]:
            assert answer.gradient is not None
            if run == 0 and number == 0:
                trade.begin(oracle, answer)
            value, gradient = trade.weigh(oracle, theta, answer)
            before, lowest = state.pop("before"), torch.minimum(state.pop("lowest"), value)
            if number % every == 0:
                oracle.rest(lowest > before * (1 - GAIN))
                before = lowest
            fall = 0.01 + 0.99 * (1 + math.cos(math.pi * number / self.steps)) / 2
            theta, state = adam.update(theta, value, gradient, {**state, "scale": fall * trade.step[oracle.rows]})
            return box(theta), {**state, "before": before, "lowest": lowest}

        theta = trade.start(oracle) if run else oracle.space.zero()
        before = torch.full_like(oracle.record.loss[oracle.rows], float("inf"))
        march(oracle, theta, {**adam.init(theta), "before": before, "lowest": before}, self.steps, move)


class Trade:
    """What each image of a population (N,) pays for size and margin, and what its runs have shown so far.

    Attributes:
        weight: c.
        step: first step of a run.
        low, high: bracket of c in l2, of tau in linf; in l0 `low` is the largest number of values that failed.
        done: did the run reach what it was for?
        rank, count: l0 only: the places (N, n) of the values of the last success by what they gain, largest first, and
            how many they were, 0 before the first.
    """

    def __init__(self, oracle: Oracle, norm: str, weight: float | None, rate: float) -> None:
        like = oracle.record.loss
        self.step = torch.full_like(like, rate)
        self.norm, self.given = norm, weight
        self.weight, self.low = torch.ones_like(like), torch.zeros_like(like)
        self.high, self.tau = torch.full_like(like, float("inf")), torch.ones_like(like)
        self.done = torch.zeros_like(like, dtype=torch.bool)
        self.count = torch.zeros_like(like, dtype=torch.int64)
        self.rank = torch.zeros_like(oracle.images.flatten(1) if norm == "l0" else like, dtype=torch.int64)

    def begin(self, oracle: Oracle, answer: Answer) -> None:
        """From the clean images: weight and bound that would do if the network were linear."""
        assert answer.gradient is not None
        rows = oracle.rows
        slope, square = (NORMS[name].size(answer.gradient).clamp(min=1e-12) for name in ("l1", "l2"))
        if self.norm == "linf":
            self.tau[rows] = answer.loss / slope
            # Small, so that few values go beyond tau; inside nothing stands against them.
            first = 0.1 * answer.gradient[0].numel() / slope
        else:
            # In l0 success is all that a run is for.
            first = 4 * answer.loss / square.square() * (100 if self.norm == "l0" else 1)
        if self.norm != "l0":
            self.step[rows] = torch.minimum(self.step[rows], answer.loss / slope / 10)
        self.weight[rows] = first if self.given is None else torch.full_like(first, self.given)

    def start(self, oracle: Oracle) -> Tensor:
        """The first point of a run."""
        if self.norm == "l2":
            return oracle.space.zero()
        found, theta = oracle.record.success[oracle.rows].view(-1, 1, 1, 1), oracle.record.theta[oracle.rows]
        return torch.where(found & self._free(oracle), theta, oracle.images)

    def weigh(self, oracle: Oracle, theta: Tensor, answer: Answer) -> tuple[Tensor, Tensor]:
        """The objective (R,) and its gradient at theta; images whose task is done may rest."""
        assert answer.gradient is not None
        rows, delta = oracle.rows, theta - oracle.images
        weight, reached = self.weight[rows], oracle.goal.reached(answer.logits) & oracle.active
        # The margin is cut off here, not in the objective: a gradient of 0 would look like one that has vanished.
        margin, gradient = answer.loss.clamp(min=0), answer.gradient * per_row(answer.loss > 0, delta)
        if self.norm == "linf":
            beyond = (delta.abs() - per_row(self.tau[rows], delta)).clamp(min=0)
            value, slope = beyond.flatten(1).sum(1), delta.sign() * (beyond > 0)
            reached &= NORMS["linf"].size(delta) <= self.tau[rows] * 1.01
        else:
            value, slope = delta.flatten(1).square().sum(1), 2 * delta
        slope = slope + per_row(weight, delta) * gradient
        if self.norm == "l0":
            slope = torch.where(self._free(oracle), slope, 0)
            gain = torch.where(delta == 0, -1, (answer.gradient * delta).abs()).flatten(1)
            rank = gain.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
            self.rank[rows] = torch.where(reached.unsqueeze(1), rank, self.rank[rows])
            self.count[rows] = torch.where(reached, (delta != 0).flatten(1).sum(1), self.count[rows])
        if self.norm != "l2":
            oracle.rest(reached)
        self.done[rows] |= reached
        return value + weight * margin, slope

    def learn(self, oracle: Oracle) -> None:
        """New weights and bounds from what the run has shown."""
        done, weight = self.done, self.weight
        if self.norm == "l2":
            self.low = torch.where(done, self.low, torch.maximum(self.low, weight))
            self.high = torch.where(done, torch.minimum(self.high, weight), self.high)
            self.weight = torch.where(torch.isinf(self.high), weight * GROWTH, (self.low + self.high) / 2)
        elif self.norm == "linf":
            self.high = oracle.record.size
            self.low = torch.minimum(torch.where(done, self.low, torch.maximum(self.low, self.tau)), self.high)
            self.weight = torch.where(torch.isinf(self.high), weight * 2, weight)
            closer = torch.where(self.low > 0, (self.low + self.high) / 2, 0.9 * self.high)
            self.tau = torch.where(torch.isinf(self.high), self.tau * 2, closer)
            # From a success a run has this far to go; longer steps would only lead it astray at first.
            self.step = torch.minimum(self.step, (self.high - self.tau).clamp(min=1e-6))
        else:
            self.weight = torch.where(done, weight, weight * GROWTH)
            self.low = torch.where(done | (self.count == 0), self.low, ((self.low + self.count) / 2).floor())
            oracle.settle((self.count > 0) & (self.count - self.low <= 1))
        self.done = torch.zeros_like(done)

    def _free(self, oracle: Oracle) -> Tensor:
        """Which values (R, C, H, W) of the live rows may change: all, or in l0 the best of the last success."""
        if self.norm != "l0":
            return torch.ones_like(oracle.images, dtype=torch.bool)
        rows = oracle.rows
        count = self.count[rows]
        left = ((self.low[rows] + count) / 2).floor()
        return ((self.rank[rows] < left.unsqueeze(1)) | (count == 0).unsqueeze(1)).view_as(oracle.images)
