"""TRADES: the error on clean images, and apart from it how far an answer moves within the ball."""

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
class TRADES(Method):
    """Minimise H(y, g(x)) + beta * max_{||x' - x|| <= radius} KL(p(x) || p(x')), p the softmax of g.

    The inner maximum is climbed from x + 0.001 N(0, I) with p(x) held fixed; the outer gradient goes through both.

    Cost: `steps` + 2 forwards and `steps` backwards more than plain training a batch.
    Source: Zhang et al. 2019, arXiv:1901.08573, and its code; beta = 6 there is 1 / lambda. Differs from the paper:
    nothing.
    """

    name: ClassVar[str] = "trades"
    summary: ClassVar[str] = "clean error plus divergence within the ball (Zhang et al. 2019)"
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
    beta: float = 6.0
    """Weight of the divergence."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        at_least(self, steps=1, beta=0)
        above(self, step_size=0)

    def craft(self, step: Step) -> Tensor:
        with step.frozen(), torch.no_grad():
            clean = step.logits(step.images).softmax(1)

        def gain(logits: Tensor) -> Tensor:
            return torch.nn.functional.kl_div(logits.log_softmax(1), clean, reduction="sum")

        size = step_size(self.step_size, self.radius, self.steps) * step.scale
        return ball_ascent(step, self.norm, float(self.radius), self.steps, size, near(step), gain)

    def parts(self, step: Step, crafted: Tensor | None) -> Iterator[Part]:
        assert crafted is not None
        clean, moved = step.logits(step.images), step.logits(crafted)
        divergence = torch.nn.functional.kl_div(moved.log_softmax(1), clean.softmax(1), reduction="batchmean")
        yield Part(step.loss(clean) + self.beta * divergence, moved)
