"""Free adversarial training: each batch is replayed, and one backward moves both weights and perturbation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from ...lazy import torch
from ...settings import above, at_least, read_radius
from .method import Method, Part

if TYPE_CHECKING:
    from torch import Tensor

    from ..step import Step


@dataclass(frozen=True)
class Free(Method):
    """`replays` times a batch: one gradient of the loss at clip(x + d), of the weights to descend, of d to ascend,

        d <- clip(d + step_size * sign(grad_d H), -radius, radius),

    with d kept from batch to batch, place by place. The network is in training mode throughout.

    Cost: `replays` forwards and backwards a batch, with as many updates of the weights; the paper divides the epochs by
    the replays.
    Source: Shafahi et al. 2019, "Adversarial training for free!", arXiv:1904.12843. Differs from the paper: nothing.
    """

    name: ClassVar[str] = "free"
    summary: ClassVar[str] = "batches replayed, one gradient for weights and perturbation (Shafahi et al. 2019)"
    norm: ClassVar[Literal["linf"]] = "linf"
    steerable: ClassVar[bool] = True
    fixed: ClassVar[bool] = False

    radius: float | str
    """linf radius in pixel units of [0, 1], such as 0.3 or 8/255."""
    replays: int = 8
    """How often each batch is gone through, m of the paper."""
    step_size: float | None = None
    """Size of a step of d; the radius by default, as in the paper."""

    def __post_init__(self) -> None:
        read_radius(self, "linf")
        at_least(self, replays=1)
        above(self, step_size=0)

    def craft(self, step: Step) -> Tensor | None:
        return None

    def parts(self, step: Step, crafted: Tensor | None) -> Iterator[Part]:
        radius, count = float(self.radius), len(step.images)
        size = (radius if self.step_size is None else self.step_size) * step.scale
        kept = step.state.get("delta", step.images[:0])
        if len(kept) < count:
            kept = torch.cat([kept, torch.zeros_like(step.images[len(kept) :])])
        for _ in range(self.replays):
            delta = kept[:count].clone().requires_grad_()
            logits = step.logits((step.images + delta).clamp(0, 1))
            yield Part(step.loss(logits), logits, update=True)
            assert delta.grad is not None
            moved = (delta.detach() + size * delta.grad.sign()).clamp_(-radius, radius)
            kept = torch.cat([moved, kept[count:]])
            step.state["delta"] = kept
