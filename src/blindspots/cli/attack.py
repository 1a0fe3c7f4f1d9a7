"""`blindspots attack NAME`: one attack with all its settings as flags."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Union

import tyro

from ..attacks import ATTACKS
from .options import Command, DataOptions, ModelOptions, RunOptions
from .progress import run_evaluation

if TYPE_CHECKING:
    from rich.console import Console

# Every attack is a subcommand, its fields are the flags: nothing about an attack is written twice.
if TYPE_CHECKING:
    AnyAttack = Any
else:
    AnyAttack = Union[  # noqa: UP007  the members are known at run time only
        tuple(
            Annotated[kind, tyro.conf.subcommand(name, description=inspect.cleandoc(kind.__doc__ or ""))]
            for name, kind in ATTACKS.items()
        )
    ]


@dataclass(frozen=True)
class Attack(Command):
    """Run one attack, all its settings being flags: blindspots attack pgd --radius 0.1 --steps 100.

    Writes a run directory and a report like evaluate.
    """

    attack: AnyAttack
    model: ModelOptions = field(default_factory=ModelOptions)
    data: DataOptions = field(default_factory=DataOptions)
    options: RunOptions = field(default_factory=RunOptions)

    def run(self, console: Console) -> None:
        data = self.data.load(self.options.seed)
        run_evaluation(console, self.model.load(data), data, [self.attack], self.options)
