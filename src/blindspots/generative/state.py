"""What changes while a fit goes on, and the file that carries it over a kill: tensors and plain values, as data."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BlindspotsError
from ..evaluation.plan import differences
from ..training.directory import write

FORMAT = 1
# Adam of the critic, as in the DCGAN that AdvGAN's follows (Radford et al. 2016, arXiv:1511.06434).
CRITIC_RATE, CRITIC_BETAS = 2e-4, (0.5, 0.999)


@dataclass
class State:
    """The maker, its optimiser and the critic; steps done, the weight of the size, and model calls spent.

    `mean` holds the averaged weights and buffers of the maker, once there are any.
    """

    maker: nn.Module
    optimiser: torch.optim.Optimizer
    critic: nn.Module | None = None
    step: int = 0
    epoch: int = 0
    weight: float = 1.0
    forwards: int = 0
    backwards: int = 0
    mean: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Before a file is read, whose rate is that of its step.
        self.peak = [float(group["lr"]) for group in self.optimiser.param_groups]
        self.critic_optimiser = (
            None if self.critic is None else torch.optim.Adam(self.critic.parameters(), CRITIC_RATE, CRITIC_BETAS)
        )

    @torch.no_grad()
    def fold(self, decay: float) -> None:
        """Take the weights into their mean; early steps count less, so that the first weights are soon forgotten."""
        decay = min(decay, (1 + self.step) / (10 + self.step))
        for name, value in self.maker.state_dict().items():
            if name not in self.mean or not value.is_floating_point():
                self.mean[name] = value.detach().clone()
            else:
                self.mean[name].mul_(decay).add_(value, alpha=1 - decay)

    def use_average(self) -> None:
        """Put the mean into the maker."""
        if self.mean:
            self.maker.load_state_dict(self.mean)

    def finite(self) -> bool:
        values = [v for v in self.maker.state_dict().values() if v.is_floating_point()]
        return all(bool(torch.isfinite(v).all()) for v in values)


def save_state(path: Path, state: State, meta: dict[str, Any]) -> None:
    """Write the state, atomically."""
    parts = (state.critic, state.critic_optimiser)
    values = {
        "format": FORMAT,
        "about": json.dumps(meta, sort_keys=True),
        "maker": state.maker.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "critic": [] if state.critic is None else [part.state_dict() for part in parts if part is not None],
        "mean": state.mean,
        **{name: getattr(state, name) for name in _PLAIN},
    }
    content = io.BytesIO()
    torch.save(values, content)
    write(path, content.getvalue())


def load_state(path: Path, state: State, meta: dict[str, Any]) -> None:
    """Bring a fresh state to where the file was written.

    Raises:
        BlindspotsError: a damaged file, or one of another fit.
    """
    try:
        values: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if values["format"] != FORMAT:
            raise ValueError(f"format {FORMAT} expected")
        before = json.loads(values["about"])
        found = differences(before, json.loads(json.dumps(meta)))
    except Exception as error:  # torch.load and pickle raise many kinds for a damaged file, all with the same remedy
        raise _damaged(path, error) from error
    if found:
        raise BlindspotsError(
            f"'{path}' is the checkpoint of another fit ({'; '.join(found[:4])}): repeat its settings, or delete it"
        )
    try:
        state.maker.load_state_dict(values["maker"])
        state.optimiser.load_state_dict(values["optimiser"])
        for part, kept in zip((state.critic, state.critic_optimiser), values["critic"], strict=False):
            assert part is not None
            part.load_state_dict(kept)
        device = next(iter(state.maker.state_dict().values())).device
        state.mean = {name: value.to(device) for name, value in values["mean"].items()}
        for name in _PLAIN:
            setattr(state, name, values[name])
    except Exception as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> BlindspotsError:
    return BlindspotsError(
        f"the checkpoint '{path}' is damaged ({type(error).__name__}): delete it to start this fit over"
    )


_PLAIN = ("step", "epoch", "weight", "forwards", "backwards")
