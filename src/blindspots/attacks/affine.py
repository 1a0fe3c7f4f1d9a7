"""Affine: the rotation, shift and zoom that reaches the goal, over a grid, by random draws or along the gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from .. import spaces
from ..attack import Attack
from ..descend import descend
from ..lazy import torch
from ..objectives import LOSSES, LossName, Objective, loss
from ..optimisers import Steepest
from ..record import KEEPS, Keep
from ..settings import above, at_least, one_of, read_radius
from ..spaces.affine import Fill

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle

Solver = Literal["grid", "random", "gradient"]


@dataclass(frozen=True)
class Affine(Attack):
    """Turn, shift and zoom the image about its centre: theta = (angle, down, right, log of the zoom), each as a share
    of its limit, with |theta_i| <= radius.

    `grid`: every theta of an even grid, the smallest change first, so that with keep="first" the smallest of the grid
    that reaches the goal is kept; keep="lowest" is the worst of the grid. `random`: uniform draws. `gradient`:
    theta <- project(theta - step_size * sign(g)), from a uniform theta.

    Cost: grid: 1 + rotations * shifts^2 * zooms forwards at most, and no backwards; random: 1 + steps forwards;
    gradient: 1 + restarts * (steps + 1) forwards and restarts * steps backwards.
    Source: Engstrom et al. 2019, "Exploring the landscape of spatial robustness", arXiv:1712.02779: 30 degrees and a
    tenth of the image, a grid of 31 x 5 x 5, or the worst of 10 draws. They find that the gradient does worse than
    either.
    Differs from the paper: an image leaves the grid at its first success; zooms; `radius` shrinks or widens all limits
    together.
    """

    name: ClassVar[str] = "affine"
    summary: ClassVar[str] = "rotation, shift and zoom, over a grid or along the gradient (Engstrom et al. 2019)"
    norms: ClassVar[tuple[str, ...]] = ("affine",)

    radius: float | str = 1.0
    """Share of the limits below that may be used; 1 is all of them."""
    rotation: float = 30.0
    """Largest angle to either side, in degrees; 0 turns nothing."""
    shift: float | None = None
    """Largest shift in each direction, in pixels; by default a tenth of the image's shorter side."""
    zoom: float = 1.0
    """Largest zoom, at least 1 (none); the smallest is 1 / zoom."""
    fill: Fill = "constant"
    """What comes in from beyond the border: constant (black) or border (the border's own pixels)."""
    solver: Solver = "grid"
    """grid, random or gradient."""
    rotations: int = 31
    """Angles of the grid."""
    shifts: int = 5
    """Shifts of the grid in each of the two directions."""
    zooms: int = 5
    """Zooms of the grid."""
    steps: int = 40
    """Draws of random; steps of each restart of gradient."""
    step_size: float | None = None
    """Size of a step of gradient, in shares of the limits; 2.5 * radius / steps by default."""
    restarts: int = 1
    """Runs of gradient, each from its own random start."""
    loss: LossName = "margin"
    """What is decreased or increased: cross entropy, margin or difference of logits ratio."""
    keep: Keep = "first"
    """first: stop an image at its first success; lowest: try everything and keep the lowest loss; smallest: try
    everything and keep the success that uses the least of its limits."""

    def __post_init__(self) -> None:
        read_radius(self, "affine")
        at_least(self, rotation=0, shift=0, zoom=1, rotations=1, shifts=1, zooms=1, steps=1, restarts=1)
        above(self, step_size=0)
        one_of(self, "fill", get_args(Fill))
        one_of(self, "solver", get_args(Solver))
        one_of(self, "loss", LOSSES)
        one_of(self, "keep", KEEPS)

    def space(self, images: Tensor) -> spaces.Affine:
        shift = self.shift if self.shift is not None else round(0.1 * min(images.shape[-2:]))
        return spaces.Affine(images, self.rotation, shift, self.zoom, self.fill, radius=float(self.radius))

    def objective(self) -> Objective:
        return loss(self.loss)

    def search(self, oracle: Oracle) -> None:
        oracle.judge_clean()
        if self.solver == "gradient":
            step = self.step_size if self.step_size is not None else 2.5 * float(self.radius) / self.steps
            for restart in range(self.restarts):
                if not oracle.revive():
                    return
                descend(oracle, oracle.space.start(oracle.keys(restart)), Steepest("linf", step), self.steps)
            return
        oracle.revive()
        grid = self._grid(oracle.images) if self.solver == "grid" else None
        for draw in range(self.steps if grid is None else len(grid)):
            if not len(oracle.rows):
                return
            theta = (
                oracle.space.start(oracle.keys(draw=draw)) if grid is None else grid[draw].expand(len(oracle.rows), 4)
            )
            oracle.query(theta, gradient=False)
            oracle.step()
            oracle.compact()

    def _grid(self, images: Tensor) -> Tensor:
        """Every theta (G, 4) of the grid but the one that changes nothing, the smallest share of the limits first."""
        grid = self.space(images[:1]).grid(self.rotations, self.shifts, self.zooms)
        # Equal shares differ in rounding; among them the smaller sum comes first, and then the order of the grid.
        keys = torch.stack((grid.abs().amax(1), grid.abs().sum(1)), 1).mul(1e6).round()
        order = keys[:, 1].argsort(stable=True)
        order = order[keys[order, 0].argsort(stable=True)]
        return grid[order[keys[order, 0] > 0]]
