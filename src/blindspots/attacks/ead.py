"""EAD: elastic-net attacks, the smallest change in l1 by shrinking steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..attack import Attack
from ..descend import march
from ..geometry import NORMS
from ..lazy import torch
from ..objectives import Margin, Objective
from ..optimisers.optimiser import per_row
from ..polishing import polish, tighten
from ..projection import box
from ..record import Keep
from ..settings import above, at_least, read_radius
from ..spaces import Free, Space

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle
    from ..record import Answer

# Factor of a weight that was too small.
GROWTH = 10.0


@dataclass(frozen=True)
class EAD(Attack):
    """Elastic-net attack: minimise c f + ||delta||_2^2 + (beta / rate) ||delta||_1 over the box, f = max(margin, 0):

        x <- shrink(y - alpha * grad(c f + ||delta||_2^2)(y)),    y <- x' + k / (k + 3) (x' - x),

    where shrink takes every change towards 0 by beta, and alpha falls from `rate` as sqrt(1 - k / steps). The weight c
    of each image grows tenfold until a run reaches the goal, and is then bisected. Of all points asked the smallest
    success in l1 is kept.

    Cost: at most rounds * (steps + 1) + 2 polish + 1 forwards and rounds * steps + polish backwards.
    Source: Chen et al. 2018, arXiv:1709.04114.
    Differs from the paper: what is judged are the points y at which gradients are taken, at no forward more; the first
    c is one that would do if the network were linear; the smallest success is brought to the nearest point of the
    boundary at the end (`polish`), which ||delta||_2^2 keeps a search for l1 from.
    """

    name: ClassVar[str] = "ead"
    summary: ClassVar[str] = "the smallest change in l1 by shrinking steps (Chen et al. 2018)"
    norms: ClassVar[tuple[str, ...]] = ("l1",)
    minimum: ClassVar[bool] = True

    radius: float | str
    """Largest perturbation in l1 that counts, in pixel units of [0, 1]."""
    steps: int = 100
    """Steps of each run."""
    rounds: int = 9
    """Number of runs, each with a weight of its own for each image."""
    rate: float = 0.01
    """First step alpha."""
    beta: float = 0.01
    """What each step takes off every change, in pixel units of [0, 1]."""
    weight: float | None = None
    """First weight c; by default one that would do if the network were linear."""
    polish: int = 3
    """Steps made at the end to the nearest point of the boundary, then forwards on the line to the image."""

    def __post_init__(self) -> None:
        read_radius(self, "l1")
        at_least(self, steps=1, rounds=1, beta=0, polish=0)
        above(self, rate=0, weight=0)

    @property
    def rule(self) -> Keep:
        return "smallest"

    def space(self, images: Tensor) -> Space:
        return Free(images, "l1", float(self.radius))

    def objective(self) -> Objective:
        return Margin()

    def search(self, oracle: Oracle) -> None:
        weight = torch.ones_like(oracle.record.loss)
        low, high = torch.zeros_like(weight), torch.full_like(weight, float("inf"))
        for number in range(self.rounds):
            if not oracle.revive():
                return
            done = self._run(oracle, weight, number == 0)
            low = torch.where(done, low, torch.maximum(low, weight))
            high = torch.where(done, torch.minimum(high, weight), high)
            weight = torch.where(torch.isinf(high), weight * GROWTH, (low + high) / 2)
        tighten(oracle, "l1", self.polish)
        polish(oracle, self.polish)

    def _run(self, oracle: Oracle, weight: Tensor, first: bool) -> Tensor:
        """One run at these weights (N,), which the first one sets: which images reached the goal, (N,) bool."""
        done = torch.zeros_like(weight, dtype=torch.bool)

        def move(
            number: int, theta: Tensor, answer: Answer, state: dict[str, Tensor]
        ) -> tuple[Tensor, dict[str, Tensor]]:
            assert answer.gradient is not None
            rows, delta = oracle.rows, theta - oracle.images
            if first and number == 0:
                weight[rows] = self._first(answer)
            done[rows] |= oracle.goal.reached(answer.logits) & oracle.active
            pull = per_row(weight[rows] * (answer.loss > 0), delta)
            alpha = self.rate * (1 - number / self.steps) ** 0.5
            asked = delta - alpha * (pull * answer.gradient + 2 * delta)
            shrunk = asked.sign() * (asked.abs() - self.beta).clamp(min=0)
            point = box(oracle.images + shrunk)
            return box(point + number / (number + 3) * (point - state["point"])), {"point": point}

        clean = oracle.space.zero()
        march(oracle, clean, {"point": clean}, self.steps, move)
        return done

    def _first(self, answer: Answer) -> Tensor:
        """The weight that balances ||delta||_2^2 at the boundary, and the one that moves the steepest value at all."""
        assert answer.gradient is not None
        if self.weight is not None:
            return torch.full_like(answer.loss, self.weight)
        square = NORMS["l2"].size(answer.gradient).square().clamp(min=1e-12)
        steepest = NORMS["linf"].size(answer.gradient).clamp(min=1e-12)
        return torch.maximum(2 * answer.loss / square, 2 * self.beta / (self.rate * steepest))
