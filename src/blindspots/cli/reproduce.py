"""`blindspots reproduce NAME`: the experiments of a classic paper, run again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from .options import Command

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Reproduce(Command):
    """Run the experiments of a classic paper again, and write a page with paper and here side by side.

    gap: generated and universal perturbations (a report of 2017, Poursaeed et al. 2018).
    gap-imagenet: the same of photographs, in --data imagefolder:PATH, for VGG-16.
    stadv: spatially transformed adversarial examples (Xiao et al. 2018), and why reproductions of it fail.
    szegedy-lbfgs: smallest perturbations by box-constrained L-BFGS (Szegedy et al. 2014).
    intriguing: images made for one network shown to others, and single units against directions (the same paper).
    assignment: gradient attacks and adversarial training, the questions of a university course answered.
    defended: stAdv, FGSM and C&W against networks trained on FGSM, on an ensemble, on PGD (Xiao et al. 2018).

    Killed at any moment, the same command goes on where it was.
    """

    study: Positional[Literal["stadv", "szegedy-lbfgs", "intriguing", "assignment", "defended", "gap", "gap-imagenet"]]
    """Which one."""
    full: bool = False
    """The size at which the numbers mean something: hours on one core. Otherwise minutes, to see it work."""
    data: str = "mnist"
    """Small images: mnist, fashion-mnist, or other data by name (blindspots list data)."""
    data_dir: str | None = None
    """Folder that holds the data (default: BLINDSPOTS_DATA)."""
    seed: int = 0
    """Seed of training, choices and attacks."""
    device: str = "auto"
    """auto, cpu, cuda."""
    out: str | None = None
    """Folder of the study. Default: runs/NAME-DATA-SIZE."""

    def run(self, console: Console) -> None:
        from ..studies import reproduce
        from ..studies.page import print_page

        with console.status("reading the data") as status:
            done = reproduce(
                self.study,
                full=self.full,
                data=self.data,
                data_dir=self.data_dir,
                seed=self.seed,
                device=self.device,
                out=self.out,
                progress=status.update,
            )
        print_page(done.blocks, console)
        console.print(f"page    {done.page}", soft_wrap=True)
        console.print(f"text    {done.text}", soft_wrap=True)
