"""Auto-PGD: projected gradient descent that sets its own steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .. import noise
from ..attack import Attack
from ..geometry import BallName
from ..lazy import torch
from ..objectives import LOSSES, LossName, Objective, loss
from ..optimisers import AdaptiveSteps, SparseSteps
from ..optimisers.apgd import checkpoints
from ..record import KEEPS, Keep
from ..settings import at_least, one_of, read_radius
from ..slopes import expected
from ..spaces import Additive, Space

if TYPE_CHECKING:
    from torch import Tensor

    from ..optimisers import State
    from ..oracle import Oracle
    from ..record import Answer

# The first step is as long as the ball is wide. In l1 it is the radius, and the search narrows: this share of the steps
# in each of the wider balls, of so many radii.
FIRST_STEP, SHARE, WIDER = 2.0, 0.3, (3.0, 2.0)


@dataclass(frozen=True)
class APGD(Attack):
    """Auto-PGD: momentum, a first step of twice the radius, and at checkpoints a look at what the steps have brought.

    Where too few steps lowered the loss, or none lowered the lowest, the step is halved and the search goes back to its
    best point; see `optimisers.AdaptiveSteps`. In l1 a step moves the few values of largest gradient, as many as the
    best change so far suggests (`optimisers.SparseSteps`), and the first 60 % of the steps look for a start in balls of
    three and two radii (`narrowing`), where nothing counts as a success.

    Cost: 1 + restarts * (steps + 1) * eot forwards and restarts * steps * eot backwards at most (with `narrowing` two
    forwards a restart more); with keep="first" an image stops at its first success.
    Source: Croce and Hein 2020, arXiv:2003.01690; l1: Croce and Hein 2021, arXiv:2103.01208.
    Differs from the papers: starts are uniform in the ball, not on its sphere (l1: a Gaussian, projected, as theirs);
    projections onto ball and box are exact in l2 too; with `eot` the loss that steers the steps is the mean.
    """

    name: ClassVar[str] = "apgd"
    summary: ClassVar[str] = "projected descent that sets its own steps (Croce and Hein 2020)"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")

    radius: float | str
    """Radius in the norm, in pixel units of [0, 1], such as 0.03 or 8/255."""
    norm: BallName = "linf"
    """Norm of the ball: linf, l2 or l1."""
    steps: int = 100
    """Number of steps of each restart; the checkpoints are shares of it."""
    restarts: int = 1
    """Number of runs, each from its own random start; images that are fooled leave."""
    loss: LossName = "ce"
    """What is decreased or increased: cross entropy, margin or difference of logits ratio."""
    narrowing: bool = True
    """l1 only: begin in wider balls."""
    eot: int = 1
    """Gradients of which each step takes the mean, for randomised models."""
    keep: Keep = "first"
    """first: stop an image at its first success; lowest: run all steps and keep the lowest loss; smallest: run all
    steps and keep the success of smallest size."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        at_least(self, steps=1, restarts=1, eot=1)
        one_of(self, "loss", LOSSES)
        one_of(self, "keep", KEEPS)

    def space(self, images: Tensor) -> Space:
        return Additive(images, self.norm, float(self.radius))

    def objective(self) -> Objective:
        return loss(self.loss)

    def search(self, oracle: Oracle) -> None:
        oracle.judge_clean()
        for restart in range(self.restarts):
            if not oracle.revive():
                return
            auto_pgd(oracle, oracle.keys(restart), float(self.radius), self.norm, self.steps, self.narrowing, self.eot)


@dataclass(frozen=True)
class Patience:
    """When a run is given up: at a checkpoint from half of the steps on, where its smallest gap is out of reach; never
    with a factor of 0.

    That is where the gap, falling `factor` times as fast as since the checkpoint before, would not close in the steps
    that are left. `gap` reads from an answer how far each live row (R,) is from its goal; `note` is shown every answer.
    """

    factor: float
    gap: Callable[[Answer], Tensor]
    note: Callable[[Answer], None]


def auto_pgd(
    oracle: Oracle,
    keys: Tensor,
    radius: float,
    norm: str,
    steps: int,
    narrowing: bool = True,
    eot: int = 1,
    patience: Patience | None = None,
) -> None:
    """One run of Auto-PGD for the live rows of the oracle, from the random starts of their keys (R,)."""
    if norm != "l1":
        optimiser = AdaptiveSteps(norm, FIRST_STEP * radius, steps)
        theta = oracle.space.start(keys)
        _run(oracle, optimiser, theta, optimiser.init(theta), steps, eot, patience=patience)
        return
    wide = min(-(-3 * steps // 10), (steps - 1) // 2) if narrowing else 0
    stages = [*((factor * radius, wide) for factor in WIDER if wide), (radius, steps - len(WIDER) * wide)]
    theta = oracle.images + noise.normal(keys, tuple(oracle.images.shape[1:]), oracle.images.dtype)
    for within, moves in stages:
        oracle.enter(Additive(oracle.images, norm, within))
        theta = oracle.space.project(theta)
        sparse = SparseSteps(within, moves, None if len(stages) > 1 else 0.2)
        best = _run(
            oracle, sparse, theta, sparse.init(theta, clean=oracle.images), moves, eot, within == radius, patience
        )
        if best is None:
            return
        theta = best


def _run(
    oracle: Oracle,
    optimiser: AdaptiveSteps | SparseSteps,
    theta: Tensor,
    state: State,
    steps: int,
    eot: int,
    judged: bool = True,
    patience: Patience | None = None,
) -> Tensor | None:
    """The lowest points (R, ...) of the rows that are live after `steps` moves, None where none is left."""
    for number in range(steps):
        answer = expected(oracle, theta, eot, judged)
        assert answer.gradient is not None
        if patience is not None:
            state = _look(oracle, answer, state, number, steps, patience)
        oracle.step()
        ahead, state = optimiser.update(theta, answer.loss, answer.gradient, state)
        going = oracle.compact()
        if going is not None:
            if not len(going):
                return None
            ahead, state = ahead[going], {name: tensor[going] for name, tensor in state.items()}
        theta = oracle.space.project(ahead)
        if isinstance(optimiser, AdaptiveSteps):
            theta = oracle.space.project(optimiser.blend(theta, state))
    answer = oracle.query(theta, gradient=False, judged=judged)
    if patience is not None:
        patience.note(answer)
    return optimiser.update(theta, answer.loss, torch.zeros_like(theta), state)[1]["best"]


def _look(oracle: Oracle, answer: Answer, state: State, number: int, steps: int, patience: Patience) -> State:
    """Note an answer, and at a checkpoint let the rows rest whose gap is out of reach."""
    patience.note(answer)
    gap, marks = patience.gap(answer), checkpoints(steps)
    least = torch.minimum(state["gap"], gap) if number else gap
    if number not in marks:
        return {**state, "gap": least}
    if patience.factor and 2 * number >= steps:
        before = marks[marks.index(number) - 1]
        pace = (state["gap_before"] - least) / (number - before)
        oracle.rest(least > patience.factor * pace * (steps - number))
    return {**state, "gap": least, "gap_before": least}
