"""The folder of a style training: its files, its lock, and what happens when it already holds a training.

settings.json        what decides the result, written first; the same command goes on, another is refused
checkpoint.pt        everything needed to go on; removed when the training is finished
style.safetensors    the style transfer
result.json          what was measured, written last: the training is finished
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..errors import BlindspotsError
from ..evaluation.plan import differences
from ..files import lock, remove_leftovers
from ..training.directory import BUSY, write
from .network import StyleNetwork

FORMAT = 1


@dataclass
class State:
    """Everything that changes while a training goes on."""

    network: StyleNetwork
    optimiser: torch.optim.Adam
    step: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)


class Folder:
    """Paths of a training's folder, and what is done with them; entered, it keeps every other process out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings, self.checkpoint = path / "settings.json", path / "checkpoint.pt"
        self.model, self.result = path / "style.safetensors", path / "result.json"

    def __enter__(self) -> Folder:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._held = lock(self.path / ".lock", BUSY.format(self.path))
        except OSError as error:
            raise BlindspotsError(f"cannot write {self.path} ({error.strerror}): choose another out") from error
        remove_leftovers(self.path)
        return self

    def __exit__(self, *_: object) -> None:
        self._held.lock.release()

    def claim(self, told: dict[str, Any]) -> None:
        """Write the settings, or refuse a folder of others."""
        told = json.loads(json.dumps(told))
        if not self.settings.exists():
            write(self.settings, json.dumps(told, indent=1).encode())
            return
        found = differences(json.loads(self.settings.read_text(encoding="utf-8")), told)
        if found:
            raise BlindspotsError(
                f"{self.path} holds a training with other settings ({'; '.join(found[:4])}): repeat them, choose "
                "another out, or delete the folder"
            )

    def save(self, state: State) -> None:
        """Write a checkpoint."""
        content = io.BytesIO()
        values = {"format": FORMAT, "step": state.step, "seconds": state.seconds, "losses": state.losses}
        weights = {"network": state.network.state_dict(), "optimiser": state.optimiser.state_dict()}
        torch.save(values | weights, content)
        write(self.checkpoint, content.getvalue())

    def resume(self, state: State) -> None:
        """Bring a fresh state to where the checkpoint was written, if there is one."""
        if not self.checkpoint.exists():
            return
        try:
            values = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            if values["format"] != FORMAT:
                raise ValueError(f"format {values['format']}")
            state.network.load_state_dict(values["network"])
            state.optimiser.load_state_dict(values["optimiser"])
            state.step, state.seconds, state.losses = values["step"], values["seconds"], values["losses"]
        except Exception as error:  # torch.load raises many kinds for a damaged file, all with the same remedy
            raise BlindspotsError(
                f"the checkpoint {self.checkpoint} is damaged ({type(error).__name__}): delete it to start over"
            ) from error
