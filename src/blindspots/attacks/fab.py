"""FAB: fast adaptive boundary, projections onto linearised boundaries with a pull back to the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from .. import halfspace
from ..attack import Attack
from ..geometry import NORMS, BallName
from ..judging import rounding
from ..lazy import torch
from ..objectives import Margin, Objective
from ..optimisers.optimiser import per_row
from ..polishing import polish
from ..projection import box
from ..record import Keep
from ..settings import above, at_least, one_of, read_radius
from ..spaces import Free, Space

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle
    from ..record import Answer

FabKeep = Literal["first", "smallest"]


@dataclass(frozen=True)
class FAB(Attack):
    """Fast adaptive boundary: with pi the hyperplane of the nearest linearised boundary at x_i, and projections in the
    norm onto pi and the box, from x_i by d_i and from the image x by d,

        x_{i+1} = box((1 - a) (x_i + eta d_i) + a (x + eta d)),    a = min(||d_i|| / (||d_i|| + ||d||), alpha),

    and where x_{i+1} reaches the goal the walk goes on at x + beta (x_{i+1} - x). Runs after the first start at random.
    With `one_by_one` (FAB-T) run number n looks at the boundary to the n-th likeliest other class alone; of K classes
    there are K - 1 others, so more runs than that are cut, and towards a target there is one.

    Cost: at most restarts * 2 * steps + 1 + polish forwards and restarts * steps * rivals backwards; one_by_one, or
    with a target, restarts * steps.
    Source: Croce and Hein 2020, arXiv:1907.02044; FAB-T: arXiv:2003.01690.
    Differs from the paper: the nearest boundary is looked for among the `rivals` likeliest classes; the final search on
    the line to the image is by secants (`polish`).
    """

    name: ClassVar[str] = "fab"
    summary: ClassVar[str] = "projections onto linearised boundaries, pulled back to the image (Croce and Hein 2020)"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")
    minimum: ClassVar[bool] = True

    radius: float | str
    """Largest perturbation that counts, in pixel units of [0, 1]."""
    norm: BallName = "linf"
    """Norm of the perturbation: linf, l2 or l1."""
    steps: int = 100
    """Number of steps of each run."""
    restarts: int = 1
    """Number of runs: from the image and then at random, or one_by_one a class each."""
    one_by_one: bool = False
    """Each run looks at the boundary to one class, the likeliest first."""
    rivals: int = 5
    """Number of likeliest other classes whose boundaries are looked at, unless one_by_one. At the same cost, more steps
    beside five find smaller changes than fewer beside all nine of ten classes."""
    alpha: float = 0.1
    """Largest weight of the projection of the image itself."""
    beta: float = 0.9
    """How much of a success is kept before the next step."""
    eta: float = 1.05
    """How far projections go, 1 being the hyperplane."""
    polish: int = 3
    """Forwards spent at the end on pulling the smallest success towards the image."""
    keep: FabKeep = "smallest"
    """smallest: make all steps for the smallest success; first: an image leaves with its first within the radius."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        at_least(self, steps=1, restarts=1, rivals=1, alpha=0, eta=1, polish=0)
        above(self, beta=0)
        one_of(self, "keep", get_args(FabKeep))

    @property
    def rule(self) -> Keep:
        # Also where the first success within the radius ends the search: those beyond it come before.
        return "smallest"

    def space(self, images: Tensor) -> Space:
        return Free(images, self.norm, float(self.radius))

    def objective(self) -> Objective:
        return Margin()

    def search(self, oracle: Oracle) -> None:
        oracle.judge_clean()
        logits = oracle.record.clean_logits
        assert logits is not None
        alone = self.one_by_one and not oracle.goal.targeted
        classes = 1 if oracle.goal.targeted else logits.shape[1] - 1
        runs = min(self.restarts, classes) if self.one_by_one else self.restarts
        # Found by any run, counted or not: starts are drawn within it.
        smallest = torch.full_like(oracle.record.loss, float("inf"))
        for run in range(runs):
            if not oracle.revive():
                return
            theta, rivals = oracle.space.zero(), None
            if alone:
                rivals = torch.zeros_like(oracle.record.steps).unsqueeze(1)
                rivals[oracle.rows] = oracle.goal.rivals(logits[oracle.rows], run + 1)[:, run:]
            elif run:
                theta = self._start(oracle, smallest[oracle.rows], run)
            self._walk(oracle, theta, smallest, rivals)
        polish(oracle, self.polish)

    def _walk(self, oracle: Oracle, theta: Tensor, smallest: Tensor, rivals: Tensor | None) -> None:
        """One run from theta; `smallest` (N,) learns of its successes; rivals (N, 1) are the classes looked at."""
        norm = NORMS[self.norm]
        for _ in range(self.steps):
            answer = oracle.nearest(theta, norm, self.rivals if rivals is None else rivals[oracle.rows])
            oracle.step()
            self._leave(oracle)
            theta = self._step(oracle, theta, answer)
            going = oracle.compact()
            if going is not None:
                if not len(going):
                    return
                theta = theta[going]
            logits = oracle.query(theta, gradient=False).logits
            # A step may end on the boundary itself. Which side rounding puts it on must not decide where the walk goes.
            reached = (oracle.goal.margin(logits) < rounding(logits)) & oracle.active
            self._leave(oracle)
            rows, change = oracle.rows, theta - oracle.images
            found = torch.where(reached, norm.size(change), float("inf"))
            smallest[rows] = torch.minimum(smallest[rows], found)
            theta = torch.where(per_row(reached, theta), box(oracle.images + self.beta * change), theta)
            going = oracle.compact()
            if going is not None:
                if not len(going):
                    return
                theta = theta[going]

    def _leave(self, oracle: Oracle) -> None:
        if self.keep == "first":
            oracle.settle(oracle.success & (oracle.record.size <= float(self.radius)))

    def _step(self, oracle: Oracle, theta: Tensor, answer: Answer) -> Tensor:
        assert answer.gradient is not None
        norm, images = NORMS[self.norm], oracle.images
        change = images - theta
        here = halfspace.step(self.norm, answer.gradient, answer.gap, theta)
        # The same hyperplane as seen from the image.
        gap = answer.gap + (answer.gradient * change).flatten(1).sum(1)
        there = halfspace.step(self.norm, answer.gradient, gap, images)
        near, far = norm.size(here), norm.size(there)
        share = per_row((near / (near + far).clamp(min=1e-30)).clamp(max=self.alpha), theta)
        return box(theta + self.eta * here + share * (change + self.eta * (there - here)))

    def _start(self, oracle: Oracle, smallest: Tensor, run: int) -> Tensor:
        """A random point within half of the smallest perturbation so far, or a tenth of the largest that there is."""
        norm, images = NORMS[self.norm], oracle.images
        size = torch.minimum(smallest / 2, norm.size(torch.maximum(images, 1 - images)) / 10)
        return norm.sample(oracle.keys(run), images, size)
