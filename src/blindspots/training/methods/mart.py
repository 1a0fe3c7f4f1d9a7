"""MART: adversarial training with more weight on what is misclassified anyway."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from ...lazy import torch
from ...settings import above, at_least, one_of, read_radius
from .inner import ball_ascent, near, step_size
from .method import Method, Part

if TYPE_CHECKING:
    from torch import Tensor

    from ..step import Step


@dataclass(frozen=True)
class MART(Method):
    """Minimise BCE(p(x'), y) + beta * KL(p(x) || p(x')) * (1 - p_y(x)), the mean over the images, with

        BCE(p, y) = -log p_y - log(1 - max_{j != y} p_j):

    what the network gets wrong without attack weighs more. x' is found as in `pgd`, from x + 0.001 N(0, I).

    Cost: `steps` + 1 forwards and `steps` backwards more than plain training a batch.
    Source: Wang et al. 2020, "Improving adversarial robustness requires revisiting misclassified examples" (ICLR), and
    its code; beta is its lambda. Differs from the paper: no label smoothing applies.
    """

    name: ClassVar[str] = "mart"
    summary: ClassVar[str] = "more weight on what is misclassified without attack (Wang et al. 2020)"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
    steerable: ClassVar[bool] = True

    radius: float | str
    """Radius in the norm, in pixel units of [0, 1], such as 0.3 or 8/255."""
    norm: Literal["linf", "l2"] = "linf"
    """Norm of the ball: linf or l2."""
    steps: int = 10
    """Steps of the inner attack."""
    step_size: float | None = None
    """Size of a step in the norm; 2.5 * radius / steps by default."""
    beta: float = 5.0
    """Weight of the divergence."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        at_least(self, steps=1, beta=0)
        above(self, step_size=0)

    def craft(self, step: Step) -> Tensor:
        size = step_size(self.step_size, self.radius, self.steps) * step.scale
        return ball_ascent(step, self.norm, float(self.radius), self.steps, size, near(step))

    def parts(self, step: Step, crafted: Tensor | None) -> Iterator[Part]:
        assert crafted is not None
        clean, moved = step.logits(step.images), step.logits(crafted)
        labels = step.labels.unsqueeze(1)
        logs, others = moved.log_softmax(1), moved.softmax(1).scatter(1, labels, 0.0)
        # The paper's code has 1.0001 - p, which keeps the logarithm finite.
        binary = -logs.gather(1, labels).squeeze(1) - torch.log(1.0001 - others.amax(1))
        divergence = torch.nn.functional.kl_div(logs, clean.softmax(1), reduction="none").sum(1)
        unsure = 1 - clean.softmax(1).gather(1, labels).squeeze(1)
        yield Part((binary + self.beta * divergence * unsure).mean(), moved)
