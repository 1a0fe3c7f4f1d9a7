"""`blindspots analyze WHAT`: why a network answers as it does."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Union

import tyro

from .analyses.blind import Blind
from .analyses.distributional import Distributional
from .analyses.layers import Layers
from .analyses.maps import Maps
from .analyses.moments import Moments
from .analyses.slices import Slices
from .analyses.spectrum import Spectrum
from .analyses.transfer import Transfer
from .analyses.units import Units
from .options import Command

if TYPE_CHECKING:
    from rich.console import Console

ANALYSES: dict[str, type[Command]] = {
    "layers": Layers,
    "maps": Maps,
    "slices": Slices,
    "spectrum": Spectrum,
    "moments": Moments,
    "distributional": Distributional,
    "blind": Blind,
    "transfer": Transfer,
    "units": Units,
}

if TYPE_CHECKING:
    AnyAnalysis = Any
else:
    AnyAnalysis = Union[  # noqa: UP007  the members are known at run time only
        tuple(
            Annotated[kind, tyro.conf.subcommand(name, description=inspect.cleandoc(kind.__doc__ or ""))]
            for name, kind in ANALYSES.items()
        )
    ]


@dataclass(frozen=True)
class Analyze(Command):
    """Look into a network: blindspots analyze layers --model M --data D.

    Every analysis writes a page and its values as JSON into --out.
    """

    what: AnyAnalysis

    def run(self, console: Console) -> None:
        self.what.run(console)
