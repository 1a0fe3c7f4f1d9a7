"""Training against a generator, a network that makes a change of each image and learns beside the classifier."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from ...generative.forms import Form
from ...lazy import torch
from ...settings import above, at_least, one_of, read_radius
from .method import Method, Part
from .mixtures import Mixture, check_mixture, mixed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..step import Step


@dataclass(frozen=True)
class GeneratorTraining(Method):
    """min_w max_G E (H(y, g_w(x)) + H(y, g_w(x'))) / 2, with x' = clamp(x + d) and d made of x by a U-Net G within the
    radius, as `Thresholded` holds it: with each batch `steps` steps of G by Adam, and then one of the weights.

    Cost: `steps` forwards and backwards of classifier and generator more than plain training a batch, and one pass of
    the generator.
    Source: the joint training that a report of 2017, which preceded Poursaeed et al. 2018 (arXiv:1712.02328), leaves
    to the future.
    Differs from it: nothing is said there but the alternation; G moves first, against the network in evaluation mode.
    """

    name: ClassVar[str] = "generator"
    summary: ClassVar[str] = "a network that makes perturbations, learnt beside the classifier (joint training)"

    radius: float | str
    """Radius in the norm, in pixel units of [0, 1]."""
    norm: Literal["linf", "l2"] = "linf"
    """Norm of the ball: linf or l2."""
    steps: int = 1
    """Steps of the generator for each batch."""
    rate: float = 1e-3
    """Learning rate of the generator."""
    width: int = 16
    """Width of the U-Net."""
    mixture: Mixture = "average"
    """How clean and changed images are mixed: only, accumulate, average or concatenate."""

    def __post_init__(self) -> None:
        one_of(self, "norm", ("linf", "l2"))
        read_radius(self, self.norm)
        at_least(self, steps=1, width=1)
        above(self, rate=0)
        check_mixture(self)

    def craft(self, step: Step) -> Tensor:
        maker, adam = self._generator(step)
        with step.frozen():
            for _ in range(self.steps):
                loss = -step.cross_entropy(step.logits(maker(step.images))) / len(step.images)
                adam.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                for weight in maker.parameters():
                    if weight.grad is not None:
                        step.team.sum(weight.grad)
                adam.step()
        # The tensors themselves: a checkpoint reads what they are then.
        step.state.update(_flat(maker, adam))
        with torch.no_grad():
            crafted: Tensor = maker(step.images)
        return crafted

    def parts(self, step: Step, crafted: Tensor | None) -> Iterator[Part]:
        return mixed(step, crafted, self.mixture)

    def _generator(self, step: Step) -> tuple[nn.Module, torch.optim.Optimizer]:
        """The generator of the run with its optimiser: as it is, as the checkpoint has it, or new."""
        if "generator" not in step.cache:
            from ...generative.makers import FromImage
            from ...models.generators import build_generator
            from ..order import key

            shape = step.images.shape
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(key(step.seed, "generator"))
                network = build_generator("unet", channels=shape[1], size=min(shape[2:]), width=self.width, norm="none")
            maker = FromImage(network, Form("tanh", self.norm, float(self.radius))).to(step.images)
            adam = torch.optim.Adam(maker.parameters(), self.rate, (0.5, 0.999))
            _restore(maker, adam, step.state)
            step.cache["generator"] = maker, adam
        made: tuple[nn.Module, torch.optim.Optimizer] = step.cache["generator"]
        return made


def _flat(maker: nn.Module, adam: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights and moments, each a tensor by name."""
    flat = {f"generator.{name}": value for name, value in maker.state_dict().items()}
    for number, weight in enumerate(maker.parameters()):
        flat |= {f"adam.{number}.{name}": value for name, value in adam.state[weight].items()}
    return flat


def _restore(maker: nn.Module, adam: torch.optim.Optimizer, kept: dict[str, Tensor]) -> None:
    """Put what a checkpoint kept into the generator and its optimiser, if it kept anything."""
    weights = {name.removeprefix("generator."): value for name, value in kept.items() if name.startswith("generator.")}
    if not weights:
        return
    maker.load_state_dict(weights)
    for number, weight in enumerate(maker.parameters()):
        start = f"adam.{number}."
        moments = {name.removeprefix(start): value for name, value in kept.items() if name.startswith(start)}
        # The counter of steps stays on the CPU, as Adam has it.
        adam.state[weight] = {k: v.cpu() if k == "step" else v.to(weight) for k, v in moments.items()}
