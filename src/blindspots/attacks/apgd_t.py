"""Targeted Auto-PGD: towards one likely class after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..attack import Attack
from ..descend import toward_rivals
from ..geometry import BallName
from ..objectives import LOSSES, LossName, Objective, loss
from ..settings import at_least, one_of, read_radius
from ..spaces import Additive, Space
from .apgd import auto_pgd

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle


@dataclass(frozen=True)
class APGDT(Attack):
    """Auto-PGD towards each of the likeliest other classes t in turn, by default on the targeted ratio

        (z_y - z_t) / (z_pi1 - (z_pi3 + z_pi4) / 2).

    Any class but the label is a success, and an image leaves with its first one. Of K classes there are K - 1 others,
    so `rivals` larger than that mean all. With targets given, the target is the only rival.

    Cost: 1 + rivals * restarts * (steps + 1) * eot forwards and rivals * restarts * steps * eot backwards at most.
    Source: Croce and Hein 2020, arXiv:2003.01690, section 6.
    Differs from the paper: as `apgd` does; with fewer than four classes the numerator of the ratio stands alone, since
    the paper's spread needs four.
    """

    name: ClassVar[str] = "apgd-t"
    summary: ClassVar[str] = "Auto-PGD towards the likeliest other classes in turn (Croce and Hein 2020)"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")

    radius: float | str
    """Radius in the norm, in pixel units of [0, 1], such as 0.03 or 8/255."""
    norm: BallName = "linf"
    """Norm of the ball: linf, l2 or l1."""
    steps: int = 100
    """Number of steps of each run; the checkpoints are shares of it."""
    rivals: int = 9
    """Number of classes to run towards, the likeliest on the clean image first."""
    restarts: int = 1
    """Number of runs towards each class, each from its own random start."""
    loss: LossName = "dlr"
    """What is decreased, as it is towards the class: difference of logits ratio, cross entropy or margin."""
    narrowing: bool = True
    """l1 only: begin in wider balls."""
    eot: int = 1
    """Gradients of which each step takes the mean, for randomised models."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        at_least(self, steps=1, rivals=1, restarts=1, eot=1)
        one_of(self, "loss", LOSSES)

    def space(self, images: Tensor) -> Space:
        return Additive(images, self.norm, float(self.radius))

    def objective(self) -> Objective:
        return loss(self.loss)

    def search(self, oracle: Oracle) -> None:
        oracle.judge_clean()

        def run(place: int) -> None:
            for restart in range(self.restarts):
                if not oracle.revive():
                    return
                keys = oracle.keys(restart, draw=place)
                auto_pgd(oracle, keys, float(self.radius), self.norm, self.steps, self.narrowing, self.eot)

        toward_rivals(oracle, self.rivals, run)
