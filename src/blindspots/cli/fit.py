"""`blindspots fit METHOD`: a perturbation fitted on data: one change for all images, or a network that makes them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union

import tyro

from ..errors import BlindspotsError
from ..generative import GENERATIVE
from ..universal import METHODS, UAP
from .options import Command, DataOptions, ModelOptions

if TYPE_CHECKING:
    from rich.console import Console

    from ..universal import Fitted, Rates

# Every method is a subcommand, its fields are the flags.
if TYPE_CHECKING:
    AnyMethod = Any
else:
    AnyMethod = Union[  # noqa: UP007  the members are known at run time only
        tuple(
            Annotated[kind, tyro.conf.subcommand(name, description=inspect.cleandoc(kind.__doc__ or ""))]
            for name, kind in {**METHODS, **GENERATIVE}.items()
        )
    ]


@dataclass(frozen=True)
class Fit(Command):
    """Fit a perturbation to images, such that changing any image by it fools the model.

    blindspots fit uap --radius 0.1 --model M --data D --split train --out v.safetensors; then
    blindspots evaluate --perturbation v.safetensors --model M --data D evaluates it like an attack.

    Killed at any moment, the same command goes on where it was (all methods but uap).
    """

    method: AnyMethod
    out: str
    """File to write, NAME.safetensors."""
    targets: int | None = None
    """Class that all images are to be taken for. Default: any but the one they are of (uap: are predicted as)."""
    also: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Another model, as --model names one, to be fooled too. May be repeated."""
    transfer: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Another model, that is not fitted to: how well it is fooled is told. May be repeated."""
    seed: int = 0
    """Seed of the images held out, of the order of the others, and of the first weights."""
    model: ModelOptions = field(default_factory=ModelOptions)
    data: DataOptions = field(default_factory=DataOptions)

    def run(self, console: Console) -> None:
        from ..universal.perturbation import checked_path

        path = checked_path(self.out)
        data = self.data.load(self.seed)
        model = self.model.load(data)
        given: dict[str, Any] = {"seed": self.seed, "targets": self.targets}
        with console.status("first pass") as status:
            if isinstance(self.method, UAP):
                if self.also or self.transfer:
                    raise BlindspotsError("uap is fitted to one model: leave out --also and --transfer")
                done = self.method.fit(model, data, progress=status.update, **given)
            else:
                models = [model, *(self.model.wrap(spec) for spec in self.also)]
                done = self.method.fit(
                    models,
                    data,
                    others=[self.model.wrap(spec) for spec in self.transfer],
                    checkpoint=Path(f"{path}.checkpoint"),
                    progress=status.update,
                    **given,
                )
        done.perturbation.save(path)
        _tell(console, done)
        console.print(f"file         {path}", soft_wrap=True)


def _tell(console: Console, done: Fitted) -> None:
    from ..report.words import number

    end = "the rate asked for" if done.reached else "all"
    console.print(f"passes       {done.epochs} ({end})")
    console.print(f"model calls  {done.forwards} images forward, {done.backwards} backward")
    console.print(f"fitted on    {_told(done.fitted_on)}", soft_wrap=True)
    console.print(f"held out     {_told(done.held_out)}", soft_wrap=True)
    for name, rates in done.transfer.items():
        console.print(f"on {name}  {_told(rates)}", soft_wrap=True)
    for name in ("l2", "linf"):
        values = done.sizes[name]
        console.print(
            f"size {name:<8}mean {number(values['mean'])}, from {number(values['least'])} to {number(values['most'])}"
        )
    console.print(f"cost         {number(1e6 * done.seconds)} microseconds an image, no model call")


def _told(rates: Rates) -> str:
    """Fooling rate and robust accuracy with their intervals."""
    from ..report.words import interval, percent

    fooling, robust = rates.fooling, rates.robust
    return (
        f"fooling rate {percent(fooling['value'])} [{interval(fooling)}] of {fooling['of']}, robust accuracy "
        f"{percent(robust['value'])} [{interval(robust)}]"
    ).replace("[", r"\[")
