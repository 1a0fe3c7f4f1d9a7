"""Bisected PGD: the smallest radius, image by image, at which PGD succeeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..attack import Attack
from ..descend import bracket, descend
from ..geometry import BallName
from ..lazy import torch
from ..objectives import LOSSES, LossName, Objective, loss
from ..optimisers import Steepest
from ..record import Rule
from ..settings import at_least, one_of, read_radius
from ..spaces import Additive, Space
from .pgd import L1_SHARE

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle


@dataclass(frozen=True)
class BisectedPGD(Attack):
    """A minimum-norm attack from a fixed-budget one: bisection of the radius of PGD, each image on its own.

    The first run has the radius given; images that survive it are given up. Then the bracket between the largest radius
    that failed and the smallest that succeeded is halved `rounds` times. The smallest success is kept, so one run
    gives robust accuracy at every radius up to the one given.

    Cost: at most 1 + (1 + rounds) * (steps + 1) forwards; a run ends for an image at its first success.
    Source: the "PGD with binary search" of minimum-norm comparisons such as Rony et al. 2021, arXiv:2011.11857.
    Differs from it: runs start from the image itself, and every success of every run competes for the smallest.
    """

    name: ClassVar[str] = "bisected-pgd"
    summary: ClassVar[str] = "smallest radius at which PGD succeeds, by bisection per image"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")
    minimum: ClassVar[bool] = True

    radius: float | str
    """Largest radius to try, in pixel units of [0, 1]."""
    norm: BallName = "linf"
    """Norm of the ball: linf, l2 or l1."""
    steps: int = 20
    """Number of steps of each run; each has size 2.5 * (its radius) / steps."""
    rounds: int = 8
    """Number of halvings of the bracket."""
    loss: LossName = "ce"
    """What is decreased or increased: cross entropy, margin or difference of logits ratio."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        at_least(self, steps=1, rounds=0)
        one_of(self, "loss", LOSSES)

    @property
    def rule(self) -> Rule:
        return "smallest"

    def space(self, images: Tensor) -> Space:
        return Additive(images, self.norm, float(self.radius))

    def objective(self) -> Objective:
        return loss(self.loss)

    def search(self, oracle: Oracle) -> None:
        oracle.judge_clean()
        optimiser = Steepest(self.norm, 2.5 / self.steps, L1_SHARE if self.norm == "l1" else 0.0)

        def attempt(radius: Tensor) -> Tensor:
            if not oracle.revive(rest=True):
                return torch.zeros_like(radius, dtype=torch.bool)
            own = radius[oracle.rows]
            oracle.enter(Additive(oracle.images, self.norm, own))
            descend(oracle, oracle.space.zero(), optimiser, self.steps, scale=own)
            return oracle.resting.clone()

        widest = torch.full(
            (len(oracle.record.success),), float(self.radius), dtype=torch.float64, device=oracle.rows.device
        )

        def first_then(radius: Tensor) -> Tensor:
            success = attempt(radius)
            if radius is widest:
                oracle.settle(~success)
            return success

        bracket(first_then, torch.zeros_like(widest), widest, self.rounds)
