"""`blindspots analyze transfer`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ...config import make_attacks, parse_attack
from ..options import Command, DataOptions, ModelOptions
from .shown import show

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Transfer(Command):
    """Judge the images that were made for one model by others, as table and heat map.

    blindspots analyze transfer --source a.safetensors --source b.safetensors --attack szegedy --radius 28 --data mnist
    """

    source: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A model that images are made for, named as by --model. May be repeated."""
    judge: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A model that judges. May be repeated. Default: the sources, and --model where it is given."""
    attack: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """An attack with its settings, as pgd or pgd:steps=100. May be repeated."""
    perturbation: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """File of a fitted perturbation (blindspots fit): a row of its own. May be repeated."""
    radius: str | None = None
    """Radius of attacks that do not name their own, in pixel units of [0, 1]."""
    norm: Literal["linf", "l2", "l1"] | None = None
    """Norm of the radius, for attacks that have a choice."""
    targets: str | None = None
    """A class number, or random, least-likely or second. Default: untargeted."""
    of: Literal["fooled", "both", "all"] = "fooled"
    """Images that are counted: those that fooled the source, those that source and judge got right before, or all."""
    amplify: float | None = None
    """Show also every change amplified to this distortion (root of the mean square, in pixel units)."""
    control: bool = True
    """Show also Gaussian noise of the same distortion, image by image."""
    noise: tuple[float, ...] = ()
    """Show also Gaussian noise of these distortions."""
    seed: int = 0
    """Seed of the subset of images, the attacks and the noise."""
    out: str = "runs/transfer"
    """Folder to write page and JSON into."""
    model: ModelOptions = field(default_factory=ModelOptions)
    data: DataOptions = field(default_factory=DataOptions)

    def run(self, console: Console) -> None:
        from ... import analysis
        from ...universal import Perturbation

        radii = () if self.radius is None else (self.radius,)
        attacks = make_attacks([parse_attack(text) for text in self.attack], self.norm, radii)
        settings = analysis.Transfer(tuple(attacks), self.of, self.amplify, self.control, self.noise)
        for path in self.perturbation:
            Perturbation.load(path)  # a mistake is told before anything is loaded
        data = self.data.load(self.seed)
        # The weights go with --model; others are files or names that bring their own.
        others = replace(self.model, weights=None)
        own = [self.model.load(data)] if self.model.model or not (self.source or self.judge) else []
        sources = [others.wrap(spec) for spec in self.source] or (own if attacks else [])
        judges = [others.wrap(spec) for spec in self.judge]
        number = (self.targets or "").lstrip("-").isdigit()
        done = settings(
            sources,
            data,
            judges=judges or [*(sources if self.source else []), *own],
            perturbations=self.perturbation,
            targets=int(self.targets) if number and self.targets else self.targets,
            seed=self.seed,
            out=self.out,
        )
        show(done, console)
