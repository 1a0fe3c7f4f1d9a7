"""`blindspots train`: training of a network, plain or against attacks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..training import TrainSettings
from .options import Command

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Train(Command):
    """Train a built-in network, plainly or against an attack: checkpoints, best epoch kept, one model file.

    blindspots train --data mnist --method pgd --method-settings radius 0.3 steps 40 (blindspots list methods);
    blindspots train --preset madry-mnist takes everything from a paper, and further flags go over it.

    Killed at any moment, the same command goes on where it was. The model file holds all that is needed to load it:
    blindspots evaluate --model OUT/model.safetensors.
    """

    settings: TrainSettings = field(default_factory=TrainSettings)

    def run(self, console: Console) -> None:
        from ..training import fit, write_learning_page
        from ..training.progress import TrainingBar

        with TrainingBar() as bar:
            trained = fit(self.settings, progress=bar)
        console.print(f"model   {trained.model}", soft_wrap=True)
        console.print(f"curves  {write_learning_page(self.settings.directory)}", soft_wrap=True)


def with_preset(arguments: list[str]) -> tuple[list[str], Train]:
    """The arguments without `--preset NAME`, and the command with the settings of that paper as its defaults."""
    from ..training import preset

    for place, word in enumerate(arguments):
        if word == "--preset" and place + 1 < len(arguments):
            rest = [*arguments[:place], *arguments[place + 2 :]]
            return rest, Train(preset(arguments[place + 1]))
        if word.startswith("--preset="):
            return [*arguments[:place], *arguments[place + 1 :]], Train(preset(word.partition("=")[2]))
    return arguments, Train()
