"""Lattice-aware rounding: a search among the 8-bit images of the ball for one that fools the model again.

Rounding is a small, blind change; which way each value is rounded is free. The margin's gradient says which way helps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..batching import chunks, fill
from ..classifiers import Classifier
from ..goal import Goal
from .lattice import Ball, in_levels, pixels


def repair(model: Classifier, goal: Goal, around: Ball, images: Tensor, gradients: int = 20) -> tuple[Tensor, Tensor]:
    """8-bit images in the ball, near the given ones, that reach the goal; found for most.

    Minimise the margin of the goal over the levels in the ball. The start rounds every value up or down, whichever
    lowers the margin to first order at the image asked for, and goes back into the ball where that costs least.
    Then each step goes from the best image so far against its gradient: the `count` values of largest gradient move by
    `stride` levels. The stride starts at a quarter of the radius in linf and at one level in the other norms, the count
    at all values. A step that brings nothing halves the stride, or, once that is one level, the count; one that does
    doubles the count.

    Args:
        model: inside a `session`; called in full precision and in fixed-shape batches.
        goal: of the images, B rows.
        around: the balls, B rows; where one holds no 8-bit image there is no search.
        images: (B, C, H, W) in [0, 1], what should be rounded.
        gradients: at most so many per image, each one forward and one backward.

    Returns:
        levels (B, n) of the best image found, and which (B,) reached the goal.

    Differs from other rounding of adversarial images: nothing is trained and no logit is inverted; it is the greedy
    solution of the linear problem over the lattice, repeated.
    """
    shape = tuple(images.shape[1:])
    found = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    best = around.nearest(images)
    rows = around.possible.nonzero().squeeze(1)
    if not len(rows) or gradients < 1:
        return best, found
    around, goal = around.take(rows), goal.take(rows)
    wanted = in_levels(images[rows])
    _, slope, _ = _ask(model, goal, images[rows])
    point = _directed(around, wanted, slope)
    here, lowest = point, torch.full((len(rows),), float("inf"), dtype=torch.float64, device=images.device)
    count = torch.full_like(lowest, wanted.shape[1])
    stride = torch.full_like(lowest, max(1.0, around.radius // 4) if around.norm == "linf" else 1.0)
    for _ in range(gradients - 1):
        margin, fresh, reached = _ask(model, goal, pixels(point, shape))
        better = (margin < lowest) | reached
        lowest = torch.where(better, margin, lowest)
        here = torch.where(better.unsqueeze(1), point, here)
        slope = torch.where(better.unsqueeze(1), fresh, slope)
        count = torch.where(better, count * 2, torch.where(stride > 1, count, count / 2)).clamp(1, wanted.shape[1])
        stride = torch.where(better, stride, stride.div(2).floor().clamp(min=1))
        best[rows], found[rows] = here, reached
        live = (~reached).nonzero().squeeze(1)
        if not len(live):
            break
        rows, around, goal = rows[live], around.take(live), goal.take(live)
        here, slope, lowest, count, stride = here[live], slope[live], lowest[live], count[live], stride[live]
        point = _stepped(around, here, slope, count, stride)
    return best, found


def _ask(model: Classifier, goal: Goal, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Margin (B,) and its gradient (B, n), float64, and which images reach the goal."""
    images = images.to(model.device, model.dtype)
    shapes = model.layout(images).shapes
    margins, slopes, hits = [], [], []
    for chunk in chunks(len(images), shapes):
        leaf, part = images[chunk.rows].detach().requires_grad_(), goal.take(chunk.rows)
        with torch.enable_grad():
            logits = model.forward(fill(leaf, chunk.shape), exact=True)[: len(leaf)]
            margin = part.margin(logits)
            slope = torch.autograd.grad(margin.sum(), leaf)[0] if margin.requires_grad else torch.zeros_like(leaf)
        margins.append(margin.detach()[chunk.valid])
        slopes.append(slope.flatten(1)[chunk.valid])
        hits.append(part.reached(logits.detach())[chunk.valid])
    finite = torch.nan_to_num(torch.cat(slopes).double(), nan=0.0, posinf=0.0, neginf=0.0)
    return torch.nan_to_num(torch.cat(margins).double(), nan=float("inf")), finite, torch.cat(hits)


def _directed(around: Ball, wanted: Tensor, slope: Tensor) -> Tensor:
    """Every value rounded down where the margin grows with it, up where it falls, to nearest where it does neither."""
    levels = torch.where(slope > 0, wanted.floor(), torch.where(slope < 0, wanted.ceil(), wanted.round()))
    return around.pull(levels, lambda here, there: slope * (there - here))


def _stepped(around: Ball, here: Tensor, slope: Tensor, count: Tensor, stride: Tensor) -> Tensor:
    """`stride` levels against the gradient for the `count` (B,) values of largest gradient, then into the ball."""
    ahead = here - slope.sign() * stride.unsqueeze(1)
    ahead = torch.minimum(torch.maximum(ahead, around.low), around.high)
    if around.norm == "l0":
        # A value that is as the clean one may not start to change: the number of changes is the size.
        ahead = torch.where(here == around.clean, here, ahead)
    gain = torch.where(ahead != here, slope.abs(), -1.0)
    rank = gain.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    moves = (rank < count.unsqueeze(1)) & (gain > 0)
    return around.pull(torch.where(moves, ahead, here), lambda here, there: slope * (there - here))
