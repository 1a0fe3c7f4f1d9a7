"""SimBA: steps along one direction of an orthonormal basis after another, kept when they help."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from .. import noise
from ..attack import Attack
from ..lazy import torch
from ..objectives import LOSSES, LossName, Objective, loss
from ..record import Knowledge
from ..settings import above, at_least, one_of, read_radius
from ..spaces import Additive, Space

if TYPE_CHECKING:
    from torch import Tensor

    from ..oracle import Oracle

Basis = Literal["pixel", "dct"]
# The low frequencies that come first are one in so many of each side; the block then grows by a quarter of itself.
LOW, GROWTH = 8, 4


@dataclass(frozen=True)
class SimBA(Attack):
    """Simple black-box attack: for each direction q of a basis, x' <- x' + a q for the first a in {step, -step} that
    lowers the loss, within the ball.

    `pixel`: q is one value of one channel, in random order. `dct`: q is one cosine of one channel; those of low
    frequency come first (an eighth of each side, then blocks that grow by a quarter of that), in random order within a
    block. After all directions they are tried again. Directions are orthonormal, so k kept steps have an l2 size of at
    most step * sqrt(k).

    Cost: at most `queries` forwards, no backwards; one or two for each direction.
    Source: Guo et al. 2019, arXiv:1905.07121.
    Differs from the paper: the change stays within a radius, and a step that the box [0, 1] swallows is not asked.
    """

    name: ClassVar[str] = "simba"
    summary: ClassVar[str] = "one pixel or cosine after another, kept when it helps (Guo et al. 2019)"
    norms: ClassVar[tuple[str, ...]] = ("l2", "linf")
    knowledge: ClassVar[Knowledge] = "scores"

    radius: float | str
    """Radius in the norm, in pixel units of [0, 1], such as 2.0 or 8/255."""
    norm: Literal["l2", "linf"] = "l2"
    """Norm of the ball: l2 or linf."""
    queries: int = 5000
    """Forwards of an image at most."""
    basis: Basis = "pixel"
    """Directions: pixel, or dct (cosines, low frequencies first)."""
    step_size: float = 0.2
    """Length of a step."""
    loss: LossName = "ce"
    """What must fall: ce (the probability of the label, as in the paper, or of missing the target), margin or dlr."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        at_least(self, queries=3)
        one_of(self, "basis", get_args(Basis))
        above(self, step_size=0)
        one_of(self, "loss", LOSSES)

    def space(self, images: Tensor) -> Space:
        return Additive(images, self.norm, float(self.radius))

    def objective(self) -> Objective:
        return loss(self.loss)

    def search(self, oracle: Oracle) -> None:
        theta = oracle.space.zero()
        lowest = oracle.query(theta, gradient=False).loss
        shape = tuple(theta.shape[1:])
        down, across = (cosines(n, theta) if self.basis == "dct" else torch.eye(n).to(theta) for n in shape[1:])
        rank = _ranks(shape, self.basis, theta.device)
        order = (rank + noise.uniform(oracle.keys(), shape, torch.float64)).flatten(1).argsort(dim=1, stable=True)
        # Try number k of an image is its direction k // 2, forwards if k is even and backwards if it is odd.
        number = torch.zeros(len(theta), dtype=torch.int64, device=theta.device)

        def moved() -> Tensor:
            at = order.gather(1, (number // 2 % order.shape[1]).unsqueeze(1)).squeeze(1)
            channel, pixel = at // (shape[1] * shape[2]), at % (shape[1] * shape[2])
            wave = down[pixel // shape[2]].unsqueeze(2) * across[pixel % shape[2]].unsqueeze(1)
            here = torch.arange(shape[0], device=at.device) == channel.unsqueeze(1)
            step = self.step_size * (1 - 2 * (number % 2)).to(theta.dtype).view(-1, 1, 1, 1)
            return (theta + step * here.view(-1, shape[0], 1, 1) * wave.unsqueeze(1)).clamp(0, 1)

        for _ in range(self.queries - 2):
            going = oracle.compact()
            if going is not None:
                if not len(going):
                    return
                theta, lowest, order, number = theta[going], lowest[going], order[going], number[going]
            # Of the two ways along a pixel the box swallows at most one, so that two skips always suffice for it.
            for _ in range(2):
                number += (moved() == theta).flatten(1).all(1)
            oracle.step()
            trial = oracle.space.project(moved())
            answer = oracle.query(trial, gradient=False).loss
            lower = answer < lowest
            theta, lowest = torch.where(lower.view(-1, 1, 1, 1), trial, theta), torch.where(lower, answer, lowest)
            number = torch.where(lower, number // 2 * 2 + 2, number + 1)


def _ranks(shape: tuple[int, ...], basis: Basis, device: torch.device) -> Tensor:
    """The block (C, H, W) of each direction: blocks are used up one after the other."""
    if basis == "pixel":
        return torch.zeros(shape, dtype=torch.float64, device=device)
    _, height, width = shape
    first = max(1, math.ceil(min(height, width) / LOW))
    further = max(1, first // GROWTH)
    i, j = torch.arange(height, device=device).unsqueeze(1), torch.arange(width, device=device)
    beyond = (torch.maximum(i, j) + 1 - first).clamp(min=0)
    return ((beyond + further - 1) // further).double().expand(shape)


def cosines(n: int, like: Tensor) -> Tensor:
    """The orthonormal cosines (n, n) of the discrete cosine transform, one a row, lowest frequency first."""
    x = torch.arange(n, dtype=torch.float64, device=like.device)
    waves = torch.cos(math.pi * (x + 0.5) * x.unsqueeze(1) / n) * math.sqrt(2 / n)
    waves[0] /= math.sqrt(2)
    return waves.to(like)
