"""The adversarial pool of Szegedy et al.: examples for every layer's output train the layers above it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ...errors import BlindspotsError
from ...lazy import torch
from ...settings import above, at_least
from .method import Method, Part

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..step import Step

# Activations, with the range of their values: a distorted output stays in it.
RANGES = {"Sigmoid": (0.0, 1.0), "ReLU": (0.0, None), "Tanh": (-1.0, 1.0), "GELU": (None, None), "ELU": (None, None)}


@dataclass(frozen=True)
class Pool(Method):
    """Minimise H on the batch and on a part of a pool of (h_l + r, y): the output h_l of a layer l (the image for
    l = 0, the activations above it) with a small distortion r that the layers above get wrong. Layers take turns; the
    loss is the mean over both. Every `every` steps, `fresh` examples of each layer's pool are made anew.

    r is found by normalised gradient steps of RMS `length`, until the answer is wrong.

    Cost: half a batch through the layers above, and each `every` steps at most `steps` forwards and backwards of
    `fresh` examples a layer.
    Source: Szegedy et al. 2014, arXiv:1312.6199, section 4.2. Differs from the paper: r is found by gradient steps
    instead of L-BFGS; sizes of pool and batches are not in the paper.
    """

    name: ClassVar[str] = "pool"
    summary: ClassVar[str] = "a pool of adversarial examples for every layer (Szegedy et al. 2014)"
    fixed: ClassVar[bool] = False

    size: int = 500
    """Examples in the pool of each layer at most."""
    fresh: int = 20
    """Examples of each pool that are made at once."""
    every: int = 50
    """Steps after which some are made anew."""
    share: float = 0.5
    """Images of the pool in a step, as a share of the batch."""
    length: float = 0.02
    """RMS of a step of the distortion, in units of the layer's output."""
    steps: int = 10
    """Steps of a distortion at most."""

    def __post_init__(self) -> None:
        at_least(self, size=1, fresh=1, every=1, steps=1)
        above(self, share=0, length=0)

    def check(self, network: nn.Module, shape: tuple[int, int, int], classes: int) -> None:
        """Refuse networks that are no chain of layers."""
        _chain(network)

    def craft(self, step: Step) -> Tensor | None:
        return None

    def parts(self, step: Step, crafted: Tensor | None) -> Iterator[Part]:
        places = step.cache.setdefault("places", _places(step.network))
        turn = int(step.state.get("turn", torch.zeros((), dtype=torch.int64)))
        if turn % self.every == 0:
            for place in places:
                self._renew(step, place)
        step.state["turn"] = torch.tensor(turn + 1)
        place = places[turn % len(places)]
        held, labels = step.state[f"pool {place}"], step.state[f"labels {place}"]
        chosen = torch.randperm(len(held))[: max(1, round(self.share * len(step.images)))].to(held.device)
        total = len(step.images) + len(chosen)
        above_it = _tail(step, place)(held[chosen])
        yield Part(step.loss(above_it, labels[chosen]) * (len(chosen) / total), None)
        logits = step.logits(step.images)
        yield Part(step.loss(logits) * (len(step.images) / total), logits)

    def _renew(self, step: Step, place: int) -> None:
        """Make `fresh` examples of this layer from the batch; they take the room that is left, and then that of others
        at random."""
        count = min(self.fresh, len(step.images))
        labels = step.labels[:count]
        with step.frozen():
            with torch.no_grad():
                output = _output(step, place, step.images[:count])
            made = self._distorted(_tail(step, place), output, labels, _range(step.network, place))
        held = step.state.get(f"pool {place}", made[:0])
        known = step.state.get(f"labels {place}", labels[:0])
        if len(held) + count > self.size:
            kept = torch.randperm(len(held))[: max(0, self.size - count)].to(held.device)
            held, known = held[kept], known[kept]
        step.state[f"pool {place}"] = torch.cat([held, made])[-self.size :]
        step.state[f"labels {place}"] = torch.cat([known, labels])[-self.size :]

    def _distorted(
        self,
        tail: Callable[[Tensor], Tensor],
        output: Tensor,
        labels: Tensor,
        bounds: tuple[float | None, float | None],
    ) -> Tensor:
        """The outputs (n, ...) of a layer, each moved until what lies above it is wrong."""
        moved, step = output, self.length * output[0].numel() ** 0.5
        for _ in range(self.steps):
            leaf = moved.detach().requires_grad_()
            logits = tail(leaf)
            (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"), leaf)
            flat = gradient.flatten(1)
            unit = flat / torch.linalg.vector_norm(flat, dim=1, keepdim=True).clamp(min=1e-30)
            right = (logits.argmax(1) == labels).view(-1, *[1] * (output.ndim - 1))
            further = leaf.detach() + step * unit.view_as(leaf)
            low, high = bounds
            further = further if low is None and high is None else further.clamp(low, high)
            moved = torch.where(right, further, leaf.detach())
        return moved.detach()


def _chain(network: nn.Module) -> list[nn.Module]:
    """The layers of a network in the order in which they are gone through."""
    if not isinstance(network, torch.nn.Sequential):
        raise BlindspotsError(
            f"the training method pool needs a network that is a chain of layers (nn.Sequential), got "
            f"{type(network).__name__}: choose one such as fc100-100-10 or small-cnn, or another method"
        )
    layers: list[nn.Module] = []
    for part in network:
        layers += _chain(part) if isinstance(part, torch.nn.Sequential) else [part]
    return layers


def _places(network: nn.Module) -> list[int]:
    """The image (0), and the number of layers up to and with each activation."""
    names = [type(layer).__name__ for layer in _chain(network)]
    return [0, *(number for number, name in enumerate(names, 1) if name in RANGES)]


def _range(network: nn.Module, place: int) -> tuple[float | None, float | None]:
    return (0.0, 1.0) if place == 0 else RANGES[type(_chain(network)[place - 1]).__name__]


def _tail(step: Step, place: int) -> Callable[[Tensor], Tensor]:
    """The logits of outputs of the first `place` layers."""
    if place == 0:
        return step.logits
    layers = _chain(step.network)[place:]
    return lambda output: step.through(layers, output)


def _output(step: Step, place: int, images: Tensor) -> Tensor:
    """The output of the first `place` layers; the images themselves for none."""
    if place == 0:
        return images
    caught: list[Tensor] = []
    handle = _chain(step.network)[place - 1].register_forward_hook(lambda module, given, output: caught.append(output))
    try:
        step.logits(images)
    finally:
        handle.remove()
    return caught[0].float()
