"""A penalty on the operator norms of all layers: a network whose bound on the growth of changes is smaller."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ... import noise
from ...errors import BlindspotsError
from ...lazy import torch
from ...settings import at_least
from .method import Method, Part

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..step import Step


@dataclass(frozen=True)
class Spectral(Method):
    """Minimise H(y, g(x)) + beta * sum_k ||W_k||_2 over all dense layers and convolutions.

    A convolution's norm is that of the linear map on inputs of the size it gets, padding and stride included. The
    singular vector of each layer is kept from step to step and improved by power iteration, v <- A^T A v, and
    ||W_k|| = |A v| with v held fixed, whose gradient is that of the norm where v is the singular vector.

    Cost: one forward and backward, without a batch, of each layer and iteration.
    Source: Szegedy et al. 2014, arXiv:1312.6199, section 4.3, proposes the penalty; power iteration from step to step
    as in Yoshida and Miyato 2017, arXiv:1705.10941. Differs from the papers: the sum of norms, not of their squares;
    convolutions as maps of images, not as reshaped kernels.
    """

    name: ClassVar[str] = "spectral"
    summary: ClassVar[str] = "penalty on the operator norms of all layers (Szegedy et al. 2014)"

    beta: float = 0.01
    """Weight of the sum of norms."""
    iterations: int = 1
    """Power iterations of each layer in each step."""

    def __post_init__(self) -> None:
        at_least(self, beta=0, iterations=1)

    def check(self, network: nn.Module, shape: tuple[int, int, int], classes: int) -> None:
        if not _layers(network):
            raise BlindspotsError("the method spectral needs a network with dense layers or convolutions, got none")

    def craft(self, step: Step) -> None:
        return None

    def parts(self, step: Step, crafted: Tensor | None) -> Iterator[Part]:
        with _shapes(step):
            logits = step.logits(step.images)
        norms = [
            self._norm(step, name, layer) for name, layer in _layers(step.network).items() if _key(name) in step.state
        ]
        yield Part(step.loss(logits) + self.beta * torch.stack(norms).sum(), logits)

    def _norm(self, step: Step, name: str, layer: Any) -> Tensor:
        linear, v = _map(layer), step.state[_key(name)]
        for _ in range(self.iterations):
            v = v.detach().requires_grad_()
            u = linear(v)
            (v,) = torch.autograd.grad(u, v, u.detach())
            size = v.norm()
            v = torch.where(size > 0, v / torch.where(size > 0, size, 1.0), v)
        step.state[_key(name)] = v.detach()
        found: Tensor = linear(v.detach()).norm()
        return found


def _layers(network: nn.Module) -> dict[str, nn.Module]:
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, kinds)}


def _key(name: str) -> str:
    return f"vector.{name}"


def _map(layer: Any) -> Callable[[Tensor], Tensor]:
    """The layer without its bias."""
    if isinstance(layer, torch.nn.Linear):
        return lambda x: torch.nn.functional.linear(x, layer.weight)
    return lambda x: layer._conv_forward(x, layer.weight, None)


@contextmanager
def _shapes(step: Step) -> Iterator[None]:
    """Begin a vector, of the shape of what the layer gets for one image, for each layer that has none and runs."""
    handles = []
    for name, layer in _layers(step.network).items():
        if _key(name) in step.state:
            continue

        def begin(layer: Any, given: Any, name: str = name) -> None:
            shape, first = tuple(given[0].shape[1:]), torch.zeros(1, dtype=torch.int64, device=given[0].device)
            drawn = noise.normal(noise.key(step.seed, first, "spectral", name), shape, torch.float32)
            step.state[_key(name)] = (drawn / drawn.norm()).to(layer.weight)

        handles.append(layer.register_forward_pre_hook(begin))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
