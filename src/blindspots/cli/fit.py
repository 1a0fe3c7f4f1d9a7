"""`blindspots fit METHOD`: one perturbation for all images, fitted on data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from ..universal import UAP
from .options import Command, DataOptions, ModelOptions

if TYPE_CHECKING:
    from rich.console import Console

    from ..universal import Rates


@dataclass(frozen=True)
class Fit(Command):
    """Fit one perturbation to images, such that adding it to any image fools the model.

    blindspots fit uap --radius 0.1 --model M --data D --split train --out v.safetensors; then
    blindspots evaluate --perturbation v.safetensors --model M --data D evaluates it like an attack.
    """

    method: Positional[Literal["uap"]]
    """uap: the smallest steps that fool image after image, added up (Moosavi-Dezfooli et al. 2017)."""
    settings: UAP
    out: str
    """File to write, NAME.safetensors."""
    targets: int | None = None
    """Class that all images are to be taken for. Default: any but the one predicted."""
    seed: int = 0
    """Seed of the images held out and of the order of the others."""
    model: ModelOptions = field(default_factory=ModelOptions)
    data: DataOptions = field(default_factory=DataOptions)

    def run(self, console: Console) -> None:
        from ..universal.perturbation import checked_path

        path = checked_path(self.out)
        data = self.data.load(self.seed)
        model = self.model.load(data)
        with console.status("first pass") as status:
            done = self.settings.fit(model, data, seed=self.seed, targets=self.targets, progress=status.update)
        done.perturbation.save(path)
        end = "the rate asked for" if done.reached else "all"
        console.print(f"passes       {done.epochs} ({end})")
        console.print(f"model calls  {done.forwards} images forward, {done.backwards} backward")
        console.print(f"fitted on    {_told(done.fitted_on)}", soft_wrap=True)
        console.print(f"held out     {_told(done.held_out)}", soft_wrap=True)
        console.print(f"file         {path}", soft_wrap=True)


def _told(rates: Rates) -> str:
    """Fooling rate and robust accuracy with their intervals."""
    from ..report.words import interval, percent

    fooling, robust = rates.fooling, rates.robust
    return (
        f"fooling rate {percent(fooling['value'])} [{interval(fooling)}] of {fooling['of']}, robust accuracy "
        f"{percent(robust['value'])} [{interval(robust)}]"
    ).replace("[", r"\[")
