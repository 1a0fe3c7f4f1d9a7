"""Auto-PGD that lets each image choose the class it runs towards, and gives up runs that are hopeless."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..attack import Attack
from ..geometry import BallName
from ..lazy import torch
from ..objectives import DLR, CrossEntropy, Margin, Objective, Toward
from ..settings import at_least, one_of, read_radius
from ..spaces import Additive, Space
from .apgd import Patience, auto_pgd

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle
    from ..record import Answer


@dataclass(frozen=True)
class APGDNearest(Attack):
    """Short runs of Auto-PGD, each image choosing the next for itself by what it has shown, and given up when hopeless.

    The cheapest run comes first: away from the label on the cross entropy, with `opening` steps. Then the image runs
    towards the class t whose gap z_y - z_t was smallest at any point that it has been asked at, on the targeted ratio,
    and so on, `rivals` classes in all. So the run that is likeliest to succeed for its cost comes next, image by image,
    and no choice depends on the company.

    Early exit: from the second class on, a run ends at a checkpoint k >= steps / 2 of Auto-PGD (those of
    `optimisers.AdaptiveSteps`, in l1 too) where the smallest gap of its class g_k is out of reach,

        g_k > patience * (g_j - g_k) / (k - j) * (steps - k),

    with j the checkpoint before: falling `patience` times as fast as it did last, the gap would not close. Earlier the
    gap tells little: it stands still while the steps are too long, and falls when they have been halved.

    Cost: 2 + opening + rivals * (steps + 1) forwards and opening + rivals * steps backwards at most.
    Source: none; its parts are those of Croce and Hein 2020, arXiv:2003.01690.
    """

    name: ClassVar[str] = "apgd-nearest"
    summary: ClassVar[str] = "short runs of Auto-PGD towards the class that is nearest, with early exit"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")

    radius: float | str
    """Radius in the norm, in pixel units of [0, 1], such as 0.03 or 8/255."""
    norm: BallName = "linf"
    """Norm of the ball: linf, l2 or l1."""
    opening: int = 20
    """Steps of the first run, away from the label."""
    steps: int = 100
    """Steps of each run towards a class."""
    rivals: int = 3
    """Number of classes to run towards."""
    patience: float = 2.0
    """How much faster than before a gap may have to fall before its run is given up; 0: never given up."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        at_least(self, opening=1, steps=1, rivals=0, patience=0)

    def space(self, images: Tensor) -> Space:
        return Additive(images, self.norm, float(self.radius))

    def objective(self) -> Objective:
        return CrossEntropy()

    def search(self, oracle: Oracle) -> None:
        oracle.judge_clean()
        logits = oracle.record.clean_logits
        assert logits is not None
        rivals, everyone = oracle.rivals(), torch.arange(len(logits), device=logits.device)
        labels = oracle.goal.labels
        gaps = _gaps(logits, labels)  # (N, K), the smallest so far

        def note(answer: Answer) -> None:
            # Rows whose run has ended may still be asked beside others: they are not to learn from it.
            rows, asked = oracle.rows, oracle.active.unsqueeze(1)
            seen = torch.minimum(gaps[rows], _gaps(answer.logits, oracle.goal.labels))
            gaps[rows] = torch.where(asked, seen, gaps[rows])

        def margin(answer: Answer) -> Tensor:
            return oracle.goal.margin(answer.logits)

        if not oracle.revive():
            return
        self._run(oracle, 0, self.opening, Patience(0.0, margin, note))
        tried = torch.ones_like(gaps, dtype=torch.bool).scatter(1, rivals, False)
        for place in range(min(self.rivals, rivals.shape[1])):
            if not oracle.revive():
                return
            nearest = gaps.masked_fill(tried, float("inf")).argmin(1)
            tried[everyone, nearest] = True

            def gap(answer: Answer, nearest: Tensor = nearest) -> Tensor:
                # The margin stands still while the class of this run is behind another one: its own gap tells the pace.
                if oracle.goal.targeted:
                    return margin(answer)
                chosen = nearest[oracle.rows].unsqueeze(1)
                return _gaps(answer.logits, oracle.goal.labels).gather(1, chosen).squeeze(1)

            oracle.pursue(Toward(DLR(), nearest))
            self._run(oracle, 1 + place, self.steps, Patience(self.patience if place else 0.0, gap, note))
        oracle.pursue(Margin())

    def _run(self, oracle: Oracle, number: int, steps: int, patience: Patience) -> None:
        keys = oracle.keys(number)
        auto_pgd(oracle, keys, float(self.radius), self.norm, steps, narrowing=False, patience=patience)


def _gaps(logits: Tensor, labels: Tensor) -> Tensor:
    """How far the logit of the label is above each (R, K)."""
    return logits.gather(1, labels.unsqueeze(1)) - logits
