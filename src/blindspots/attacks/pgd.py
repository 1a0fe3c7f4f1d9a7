"""PGD: projected steepest descent from random starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .. import noise
from ..attack import Attack
from ..descend import Asker, descend, toward_rivals
from ..errors import BlindspotsError
from ..geometry import BallName
from ..objectives import LOSSES, LossName, Objective, loss
from ..optimisers import Steepest
from ..record import KEEPS, Answer, Keep
from ..settings import above, at_least, one_of, read_radius
from ..slopes import expected, transformed
from ..spaces import Additive, Space
from ..transforms import Transform, parse_transforms

if TYPE_CHECKING:
    from torch import Tensor

    from ..optimisers import State
    from ..oracle import Oracle

# Share of the values that an l1 step moves at once: a single one (0) wastes steps, all of them is no l1 direction.
L1_SHARE = 0.05


@dataclass(frozen=True)
class PGD(Attack):
    """Projected gradient descent: x <- project(x + step_size * steepest(g)), from a random point of the ball.

    The steepest step is sign(g) in linf, g / ||g||_2 in l2 and, in l1, the 5 % of values with the largest |g_i| in
    equal parts. The projection is Euclidean, onto the ball and the box [0, 1] together.

    With `rivals` each restart runs towards the likeliest other classes in turn, and images that are fooled leave; any
    class but the label counts.

    Cost: 1 + restarts * (steps + 1) forwards and restarts * steps backwards at most, times `rivals` if there are any;
    with keep="first" an image stops at its first success. Transformations and eot cost copies * eot more a step.
    Source: Madry et al. 2018, arXiv:1706.06083; l1 steps: Tramer and Boneh 2019, arXiv:1904.13000.
    Differs from the paper: the step is 2.5 * radius / steps by default (their rule for CIFAR-10; MNIST there: 0.01 at
    0.3 and 40 steps), and every point is judged, not the last alone.
    """

    name: ClassVar[str] = "pgd"
    summary: ClassVar[str] = "projected steepest descent from random starts (Madry et al. 2018)"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")

    radius: float | str
    """Radius in the norm, in pixel units of [0, 1], such as 0.03 or 8/255."""
    norm: BallName = "linf"
    """Norm of the ball: linf, l2 or l1."""
    steps: int = 40
    """Number of steps of each restart."""
    step_size: float | None = None
    """Size of a step in the norm; 2.5 * radius / steps by default."""
    random_start: bool = True
    """Start from a uniform point of the ball instead of the image itself."""
    restarts: int = 1
    """Number of runs, each from its own random start; images that are fooled leave."""
    loss: LossName = "ce"
    """What is decreased or increased: cross entropy, margin or difference of logits ratio."""
    rivals: int = 0
    """Number of classes to run towards, the likeliest on the clean image first; 0: away from the label."""
    transforms: str = ""
    """Input transformations for the gradient, joined by hyphens: di, ti, si, as in di:0.7-ti:7; see mifgsm."""
    eot: int = 1
    """Gradients of which each step takes the mean, for randomised models."""
    keep: Keep = "first"
    """first: stop an image at its first success; lowest: run all steps and keep the lowest loss; smallest: run all
    steps and keep the success of smallest size."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        at_least(self, steps=1, restarts=1, rivals=0, eot=1)
        above(self, step_size=0)
        one_of(self, "loss", LOSSES)
        one_of(self, "keep", KEEPS)
        parse_transforms(self.transforms)
        if self.restarts > 1 and not self.random_start:
            raise BlindspotsError(
                f"PGD.restarts {self.restarts} without a random start would repeat the same run: set random_start or "
                "restarts=1"
            )

    def space(self, images: Tensor) -> Space:
        return Additive(images, self.norm, float(self.radius))

    def objective(self) -> Objective:
        return loss(self.loss)

    def search(self, oracle: Oracle) -> None:
        step = self.step_size if self.step_size is not None else 2.5 * float(self.radius) / self.steps
        optimiser = Steepest(self.norm, step, L1_SHARE if self.norm == "l1" else 0.0)
        chain = parse_transforms(self.transforms)

        def run(place: int) -> None:
            for restart in range(self.restarts):
                if not oracle.revive():
                    return
                start = oracle.space.start(oracle.keys(restart, place)) if self.random_start else oracle.space.zero()
                descend(oracle, start, optimiser, self.steps, ask=self._asker(oracle, chain, restart, place))

        if not self.random_start and not self.rivals:
            descend(oracle, oracle.space.zero(), optimiser, self.steps, ask=self._asker(oracle, chain, 0, 0))
            return
        oracle.judge_clean()
        if self.rivals:
            toward_rivals(oracle, self.rivals, run)
        else:
            run(0)

    def _asker(self, oracle: Oracle, chain: tuple[Transform, ...], restart: int, place: int) -> Asker | None:
        """How a step asks for its gradient; None for a plain query."""

        def mean(theta: Tensor, state: State, number: int) -> Answer:
            return expected(oracle, theta, self.eot)

        def changed(theta: Tensor, state: State, number: int) -> Answer:
            judged = oracle.query(theta, gradient=False)
            keys = noise.key(0, oracle.keys(restart, place), "step", number)
            return Answer(judged.loss, transformed(oracle, theta, chain, self.eot, keys), judged.logits, judged.loss)

        if chain:
            return changed
        return mean if self.eot > 1 else None
