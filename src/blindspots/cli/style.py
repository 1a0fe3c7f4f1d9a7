"""`blindspots style train` and `blindspots style apply`: images in the style of others."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Union

import tyro
from tyro.conf import Positional

from ..style.settings import StyleSettings
from .options import Command, DataOptions

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class StyleTrain(Command):
    """Train a network that gives any image the style of any other. Killed at any moment, the same command goes on.

    blindspots style train --content imagefolder:photos --size 64 --out runs/style. The file OUT/style.safetensors is
    what apply and the attack take: blindspots evaluate --attack style:path=OUT/style.safetensors.
    """

    settings: StyleSettings = field(default_factory=StyleSettings)

    def run(self, console: Console) -> None:
        from ..report.words import number, spread
        from ..studies.page import Table, print_page
        from ..style import train

        with console.status("reading the images") as status:
            done = train(
                self.settings,
                progress=lambda step, steps, loss: status.update(f"step {step} of {steps}, objective {loss:.4g}"),
            )
        rows = [
            (name, *(number(terms[t]["value"]) for t in ("content", "style", "variation")), spread(terms["total"]))
            for name, terms in done.values.items()
        ]
        columns = ("image", "content", "style", "variation", "objective [95 %]")
        print_page([Table("Mean objective of held-out pairs", columns, rows)], console)
        console.print(f"features  {done.features}", soft_wrap=True)
        console.print(f"style     {done.model}", soft_wrap=True)


@dataclass(frozen=True)
class StyleApply(Command):
    """Draw images in styles: one PNG an image and style, and a page of all of them.

    Styles are those kept in the file, or other data.
    """

    path: Positional[str]
    """File of the style transfer."""
    out: str = "runs/style-applied"
    """Folder for the images and the page."""
    styles: int = 4
    """Number of styles."""
    style_data: str | None = None
    """Data that the styles are taken from. Default: the style images in the file."""
    count: int = 6
    """Number of images."""
    seed: int = 0
    """Seed of the subset of images."""
    data: DataOptions = field(default_factory=DataOptions)

    def run(self, console: Console) -> None:
        from ..style.applied import apply

        page = apply(self.path, self.data.load(self.seed), self.out, count=self.count, styles=self.styles,
                     style_data=self._styles())  # fmt: skip
        console.print(f"page    {page}", soft_wrap=True)

    def _styles(self) -> Any:
        from dataclasses import replace

        return None if self.style_data is None else replace(self.data, data=self.style_data).load(self.seed)


PARTS: dict[str, type[Command]] = {"train": StyleTrain, "apply": StyleApply}

if TYPE_CHECKING:
    AnyPart = Any
else:
    AnyPart = Union[  # noqa: UP007  the members are known at run time only
        tuple(
            Annotated[kind, tyro.conf.subcommand(name, description=inspect.cleandoc(kind.__doc__ or ""))]
            for name, kind in PARTS.items()
        )
    ]


@dataclass(frozen=True)
class Style(Command):
    """Style transfer: train a network for it, or apply one to images."""

    what: AnyPart

    def run(self, console: Console) -> None:
        self.what.run(console)
