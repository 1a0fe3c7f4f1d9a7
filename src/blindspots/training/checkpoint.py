"""The state of a run between two steps, and the file that carries it over a kill.

The file holds tensors and plain values only and is loaded as data (`weights_only=True`): it can run no code. Learning
rate, order and random draws are functions of the position, so the position is all that is stored of them.
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BlindspotsError
from .directory import write
from .events import EpochRecord

FORMAT = 2


@dataclass
class State:
    """Everything that changes while a run goes on.

    `epoch` epochs are finished and `step` steps of the next one; the sums are over these steps. `average` is the moving
    average of the network, where there is one. `best` holds the weights of the best epoch so far, on the CPU. `own` are
    the tensors of the method, `scaler` is the loss scaling of 16 bit, `scale` the factor of the inner attack's step;
    `stopped` ends the run before its last epoch.
    """

    network: nn.Module
    optimiser: torch.optim.Optimizer
    average: nn.Module | None = None
    epoch: int = 0
    step: int = 0
    images: int = 0
    correct: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    history: list[EpochRecord] = field(default_factory=list)
    epoch_seconds: list[float] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    own: dict[str, Tensor] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)
    scale: float = 1.0
    stopped: bool = False

    @property
    def shown(self) -> nn.Module:
        """The network that is measured and kept: the moving average, where there is one."""
        return self.network if self.average is None else self.average

    def finite(self) -> bool:
        """Whether every weight and buffer is a number."""
        values = [value for value in self.network.state_dict().values() if value.is_floating_point()]
        return bool(torch.stack([torch.isfinite(value).all() for value in values]).all()) if values else True


def save_checkpoint(path: Path, state: State) -> None:
    """Write the state, atomically. The weights must be finite, see `State.finite`."""
    values = {
        "format": FORMAT,
        "network": state.network.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "history": [asdict(record) for record in state.history],
        "epoch_seconds": state.epoch_seconds,
        "best": state.best,
        "average": None if state.average is None else state.average.state_dict(),
        "own": state.own,
        "scaler": state.scaler,
        **{name: getattr(state, name) for name in _PLAIN},
    }
    content = io.BytesIO()
    torch.save(values, content)
    write(path, content.getvalue())


def load_checkpoint(path: Path, state: State) -> None:
    """Bring a fresh state to where the file was written.

    Raises `BlindspotsError` where the file is damaged or is of another network.
    """
    try:
        values: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if values["format"] != FORMAT:
            raise ValueError(f"format {FORMAT} expected, found {values['format']}")
        history = [EpochRecord(**record) for record in values["history"]]
        weights, device = values["network"], next(state.network.parameters()).device
        _same_network(path, state.network, weights)
        state.network.load_state_dict(weights)
        state.optimiser.load_state_dict(values["optimiser"])
        if state.average is not None:
            state.average.load_state_dict(values["average"])
        for name in _PLAIN:
            setattr(state, name, values[name])
        state.history, state.epoch_seconds, state.best = history, values["epoch_seconds"], values["best"]
        state.own = {name: value.to(device) for name, value in values["own"].items()}
        state.scaler = values["scaler"]
    except BlindspotsError:
        raise
    except Exception as error:  # torch.load and pickle raise many kinds for a damaged file, all with the same remedy
        raise BlindspotsError(
            f"the checkpoint {path} is damaged ({type(error).__name__}): delete it to start this training over"
        ) from error


def _same_network(path: Path, network: nn.Module, weights: dict[str, Tensor]) -> None:
    here = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    there = {name: tuple(value.shape) for name, value in weights.items()}
    if here != there:
        name = sorted(name for name in here | there if here.get(name) != there.get(name))[0]
        raise BlindspotsError(
            f"the checkpoint {path} is of another network (its '{name}' is {there.get(name, 'absent')}, here "
            f"{here.get(name, 'absent')}): give the network it was made with, or delete it to start over"
        )


_PLAIN = ("epoch", "step", "images", "correct", "loss", "seconds", "scale", "stopped")
