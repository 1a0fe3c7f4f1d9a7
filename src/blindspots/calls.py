"""Model calls: points of the live rows become images, logits, losses and gradients, one fixed-shape batch at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .batching import Chunk, chunks, fill
from .lazy import torch
from .objectives import Point

if TYPE_CHECKING:
    from torch import Tensor

    from .classifiers import Classifier
    from .geometry import Norm
    from .goal import Goal
    from .objectives import Objective
    from .spaces import Space

# A differentiable change of the images (r, C, H, W) of these rows of the live ones.
Change = Callable[["Tensor", slice], "Tensor"]


@dataclass
class Live:
    """The rows of a population that a search goes on with: R of the N images, goals, spaces and noise keys."""

    images: Tensor
    goal: Goal
    space: Space
    keys: Tensor
    rows: Tensor

    def take(self, live: Tensor) -> Live:
        return Live(self.images[live], self.goal.take(live), self.space.narrow(live), self.keys[live], self.rows[live])


@dataclass(frozen=True)
class Ask:
    """What is asked at a point.

    Args:
        backwards: 0 for the objective alone, 1 for its gradient, or one for each boundary that is looked at.
        dual: the dual of the norm in which the nearest boundary is looked for; None for the objective.
        classes: (R, k), the classes on the other side of those boundaries; None for the likeliest ones.
        through: a change of the images before the model sees them.
        exact: in full precision.
    """

    backwards: int = 1
    dual: Norm | None = None
    classes: Tensor | None = None
    through: Change | None = None
    exact: bool = False


class Calls:
    """Asks a classifier, inside a `session`, in full batches of its own size."""

    def __init__(self, classifier: Classifier, images: Tensor) -> None:
        self._classifier, self.shapes = classifier, classifier.layout(images).shapes

    def ask(
        self, live: Live, objective: Objective, theta: Tensor, chunk: Chunk, ask: Ask, wanted: Callable[..., bool]
    ) -> tuple[Tensor, ...]:
        """Objective and logits of a batch, and the gradient and what it belongs to if it is asked for.

        `wanted` is told the logits, and says whether any row still needs a gradient; it is zero otherwise.
        """
        copies = min(chunk.shape // (chunk.stop - chunk.fresh), ask.backwards)
        if ask.dual is not None and copies > 1:
            return self._ask_copies(live, objective, theta, chunk, ask, wanted, copies)
        rows, gradient = chunk.rows, ask.backwards > 0
        goal, clean = live.goal.take(rows), live.images[rows]
        with torch.set_grad_enabled(gradient):
            leaf = theta[rows].detach().requires_grad_(gradient)
            images = live.space.apply(leaf, rows)
            images = images if ask.through is None else ask.through(images, rows)
            logits = self._logits(images, chunk.shape, ask.exact)
            loss = objective(Point(logits, goal, images, clean, leaf, live.rows[rows]))
            if not gradient:
                return loss, logits
            value, slope = loss, None
            if loss.requires_grad and wanted(logits.detach(), goal, rows):
                if ask.dual is None:
                    slope = _gradient(loss, leaf)
                else:
                    rivals = goal.rivals(logits, ask.backwards) if ask.classes is None else ask.classes[rows]
                    value, slope = _nearest(goal.gaps(logits, rivals), leaf, ask.dual)
        slope = torch.zeros_like(leaf, requires_grad=False) if slope is None else slope
        return loss.detach(), logits.detach(), slope, value.detach()

    def _ask_copies(
        self,
        live: Live,
        objective: Objective,
        theta: Tensor,
        chunk: Chunk,
        ask: Ask,
        wanted: Callable[..., bool],
        copies: int,
    ) -> tuple[Tensor, ...]:
        """`ask` for the nearest of k boundaries where few rows are left: the model batch is filled with copies of them.

        Each copy looks at another class in the same backward, so that k / copies of them do. The answer is the same.
        """
        rows, count = chunk.new, chunk.stop - chunk.fresh
        every = torch.arange(chunk.fresh, chunk.stop, device=theta.device).repeat(copies)
        goal = live.goal.take(rows)
        with torch.enable_grad():
            leaf = theta[every].requires_grad_()
            images = live.space.narrow(every).apply(leaf, slice(None))
            logits = self._logits(images, chunk.shape, ask.exact)
            first = logits[:count]
            loss = objective(Point(first, goal, images[:count], live.images[rows], leaf[:count], live.rows[rows]))
            value, slope = loss, None
            if loss.requires_grad and wanted(first.detach(), goal, rows):
                assert ask.dual is not None
                rivals = goal.rivals(first, ask.backwards) if ask.classes is None else ask.classes[rows]
                each = goal.take(torch.arange(count, device=theta.device).repeat(copies))
                value, slope = _nearest(each.gaps(logits, rivals.repeat(copies, 1)), leaf, ask.dual, copies)
        slope = torch.zeros_like(theta[rows]) if slope is None else slope
        before = chunk.fresh - chunk.start
        return tuple(
            torch.cat((part.new_zeros(before, *part.shape[1:]), part)) if before else part
            for part in (loss.detach(), first.detach(), slope, value.detach())
        )

    def points(self, live: Live, objective: Objective, owner: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Objective and logits of points (A, ...), each of a live row (A,), and whether they lie in the set."""
        losses, answers, inside = [], [], []
        for chunk in chunks(len(points), self.shapes):
            mine, part = owner[chunk.rows], points[chunk.rows]
            space, goal = live.space.narrow(mine), live.goal.take(mine)
            with torch.no_grad():
                images = space.apply(part, slice(None))
                logits = self._logits(images, chunk.shape)
                loss = objective(Point(logits, goal, images, live.images[mine], part, live.rows[mine]))
            losses.append(loss[chunk.valid])
            answers.append(logits[chunk.valid])
            inside.append(space.within(part)[chunk.valid])
        return torch.cat(losses).to(live.images.dtype), torch.cat(answers), torch.cat(inside)

    def exact(self, space: Space, theta: Tensor) -> Tensor:
        """Logits of theta in full precision."""
        parts = []
        for chunk in chunks(len(theta), self.shapes):
            with torch.no_grad():
                images = space.apply(theta[chunk.rows], chunk.rows)
                parts.append(self._logits(images, chunk.shape, exact=True)[chunk.valid])
        return torch.cat(parts)

    def _logits(self, images: Tensor, shape: int, exact: bool = False) -> Tensor:
        """Logits of up to `shape` images in one call of that shape."""
        if len(images) == shape:  # a slice of everything would still cost a copy of its gradient
            return self._classifier.forward(images, exact)
        return self._classifier.forward(fill(images, shape), exact)[: len(images)]


def _gradient(value: Tensor, leaf: Tensor, again: bool = False) -> Tensor | None:
    return torch.autograd.grad(value.sum(), leaf, retain_graph=again, allow_unused=True)[0]


def _nearest(gaps: Tensor, leaf: Tensor, dual: Norm, copies: int = 1) -> tuple[Tensor, Tensor | None]:
    """Of the gaps (copies * r, k) the one (r,) whose zero is nearest to first order, and its gradient; row by row.

    All copies of a row are alike, and one backward gives the gradient of another gap for each. The first gap is taken
    where none has a finite gradient other than zero.
    """
    many = gaps.shape[1]
    parts = gaps.view(copies, -1, many)
    gap, least = parts[0, :, 0], torch.full_like(parts[0, :, 0], float("inf"), requires_grad=False)
    slope: Tensor | None = None
    for begin in range(0, many, copies):
        values = [parts[copy, :, number] for copy, number in enumerate(range(begin, min(begin + copies, many)))]
        found = _gradient(torch.cat(values), leaf, again=begin + copies < many)
        if found is None:
            continue
        slopes = found.view(copies, -1, *found.shape[1:])
        slope = slopes[0] if begin == 0 else slope
        if slope is None:
            continue
        for value, new in zip(values, slopes, strict=False):
            size = dual.size(new)
            distance = torch.where(torch.isfinite(size), value.detach().abs() / size, float("nan"))
            nearer = distance < least
            least, gap = torch.where(nearer, distance, least), torch.where(nearer, value, gap)
            slope = torch.where(nearer.view(-1, *[1] * (leaf.ndim - 1)), new, slope)
    return gap, slope
