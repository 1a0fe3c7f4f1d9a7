"""Training on the answer expected under Gaussian noise, from a formula rather than from noisy images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ... import noise
from ...errors import BlindspotsError, unknown
from ...lazy import torch
from ...settings import above, at_least
from .method import Method, Part

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..step import Step


@dataclass(frozen=True)
class Expected(Method):
    """Minimise H(y, g(x)) + weight * H(y, E g(x + n)) for n ~ N(0, sigma^2), with the two-stage mean in place of E g.

    At one ReLU-like layer, which gets z for x, the answer max(z, 0) is replaced by its mean m Phi(m/s) + s phi(m/s)
    under the noise, with m = z; what follows is taken as it is. The deviation s of each number is estimated from
    antithetic pairs, s^2 = mean of ((z(x + n) - z(x - n)) / 2)^2, which for a part that is linear within the noise is
    its variance on average; dropout before the layer counts as noise. Gradients go through all of it.

    Cost: 1 + 2 `pairs` forwards, one backward and those of the part before the layer, more than plain training a batch.
    Source: Alfadly, Bibi, Ghanem 2019, "Analytical Moment Regularizer for Gaussian Robust Networks",
    arXiv:1904.11005, as recalled. Differs from the paper: s from pairs of draws, not from a Jacobian, so that any
    network with such a layer can be trained in reasonable time.
    """

    name: ClassVar[str] = "expected"
    summary: ClassVar[str] = "cross-entropy of the answer expected under noise, by its formula (Alfadly et al. 2019)"

    sigma: float = 0.1
    """Standard deviation of the noise, in pixel units of [0, 1]."""
    weight: float = 1.0
    """Weight of the cross-entropy of the expected answer."""
    pairs: int = 2
    """Antithetic pairs of draws from which the deviation before the layer is estimated."""
    layer: str | None = None
    """ReLU-like layer, by name. Default: the one in the middle."""

    def __post_init__(self) -> None:
        above(self, sigma=0)
        at_least(self, weight=0, pairs=1)

    def check(self, network: nn.Module, shape: tuple[int, int, int], classes: int) -> None:
        self._find(network)

    def craft(self, step: Step) -> None:
        return None

    def parts(self, step: Step, crafted: Tensor | None) -> Iterator[Part]:
        from ...analysis.moments.normal import lengths
        from ...analysis.moments.rectified import rectified

        layer = self._find(step.network)
        slope = layer.negative_slope if isinstance(layer, torch.nn.LeakyReLU) else 0.0
        got: list[Tensor] = []
        with _between(layer, got.append, None):
            logits = step.logits(step.images)
        if len(got) != 1:
            raise BlindspotsError(
                f"the layer of the method expected must run once for an image, not {len(got)} times: choose another"
            )
        squares = []
        for pair in range(self.pairs):
            drawn = noise.normal(step.keys(self.name, pair), tuple(step.images.shape[1:]), step.images.dtype)
            ends: list[Tensor] = []
            with _between(layer, ends.append, None):
                for sign in (1, -1):
                    step.logits(step.images + sign * self.sigma * drawn)
            squares.append(((ends[0] - ends[1]) / 2).square())
        mean = got[0]
        of = rectified(mean, lengths(torch.stack(squares).mean(0)))
        answer = slope * mean + (1 - slope) * of.mean
        with _between(layer, None, answer):
            expected = step.logits(step.images)
        yield Part(step.loss(logits) + self.weight * step.loss(expected), logits)

    def _find(self, network: nn.Module) -> nn.Module:
        found = {n: m for n, m in network.named_modules() if isinstance(m, torch.nn.ReLU | torch.nn.LeakyReLU)}
        if not found:
            raise BlindspotsError(
                "the method expected needs a network with a ReLU-like layer (nn.ReLU or nn.LeakyReLU), got none"
            )
        if self.layer is None:
            return list(found.values())[len(found) // 2]
        if self.layer not in found:
            raise unknown("ReLU-like layer", self.layer, found)
        return found[self.layer]


@contextmanager
def _between(layer: nn.Module, get: Callable[[Tensor], None] | None, answer: Tensor | None) -> Iterator[None]:
    """Show what the layer gets, and put an answer in place of its own."""

    def look(layer: nn.Module, given: Any) -> None:
        if get is not None:
            get(given[0].clone())

    handles = [layer.register_forward_pre_hook(look)]
    if answer is not None:
        handles.append(layer.register_forward_hook(lambda layer, given, found: answer.to(found)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
