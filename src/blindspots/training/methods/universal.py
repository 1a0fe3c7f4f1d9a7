"""Training against one perturbation of all images, which learns beside the network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from ...geometry import NORMS
from ...lazy import torch
from ...settings import above, one_of, read_radius
from .method import Method, Part
from .mixtures import Mixture, check_mixture, mixed

if TYPE_CHECKING:
    from torch import Tensor

    from ..step import Step


@dataclass(frozen=True)
class UniversalTraining(Method):
    """min_w max_{||d|| <= radius} E H(y, g_w(clip(x + d))), one d for all images: with each batch one step of each,

        d <- project(d + step_size * steepest(grad_d sum_i H_i)),

    and then one of the weights at clip(x + d).

    Cost: a forward and a backward more than plain training a batch.
    Source: Shafahi et al. 2020, "Universal adversarial training", arXiv:1811.11304. Differs from the paper: d moves
    first, in evaluation mode, by a gradient of its own; the loss is not cut off.
    """

    name: ClassVar[str] = "universal"
    summary: ClassVar[str] = "one perturbation of all images, learnt beside the network (Shafahi et al. 2020)"
    steerable: ClassVar[bool] = True

    radius: float | str
    """Radius in the norm, in pixel units of [0, 1]."""
    norm: Literal["linf", "l2"] = "linf"
    """Norm of the ball: linf or l2."""
    step_size: float | None = None
    """Size of a step of the perturbation in the norm; a tenth of the radius by default."""
    mixture: Mixture = "only"
    """How clean and perturbed images are mixed: only, accumulate, average or concatenate."""

    def __post_init__(self) -> None:
        one_of(self, "norm", ("linf", "l2"))
        read_radius(self, self.norm)
        above(self, step_size=0)
        check_mixture(self)

    @property
    def ball(self) -> None:
        """None: it trains against one change for all, and not against any change in the ball."""
        return

    def craft(self, step: Step) -> Tensor:
        from ...universal.perturbation import onto_ball

        radius = float(self.radius)
        size = (self.step_size if self.step_size is not None else 0.1 * radius) * step.scale
        delta = step.state.get("universal", torch.zeros_like(step.images[0])).clone().requires_grad_()
        with step.frozen():
            loss = -step.cross_entropy(step.logits((step.images + delta).clamp(0, 1)))
            (gradient,) = torch.autograd.grad(loss, delta)
        step.team.sum(gradient)
        moved = delta.detach() + size * NORMS[self.norm].steepest(gradient.unsqueeze(0))[0]
        step.state["universal"] = moved = onto_ball(moved, self.norm, radius)
        return (step.images + moved).clamp(0, 1)

    def parts(self, step: Step, crafted: Tensor | None) -> Iterator[Part]:
        return mixed(step, crafted, self.mixture)
