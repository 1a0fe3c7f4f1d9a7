"""What `lbfgs` measures, and the other solvers of it: SciPy's L-BFGS-B image by image, and BoTorch's batched port."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from blindspots.batching import Layout
from blindspots.goal import Goal
from blindspots.objectives import Objective, Point
from blindspots.optimisers import LBFGS
from blindspots.spaces import Space

MARKS = (20, 50, 100, 200)
MOST = MARKS[-1]


@dataclass(frozen=True)
class Case:
    """A network, images, targets, and what is minimised over which space."""

    name: str
    module: nn.Module
    layout: Layout
    images: Tensor
    goal: Goal
    space: Space
    objective: Objective
    optimiser: LBFGS

    def ask(self, space: Space, theta: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Values (r,) and gradients of theta (r, ...) of these rows, of which `space` is the part."""
        leaf = theta.detach().requires_grad_()
        images = space.apply(leaf, slice(None))
        loss = self.objective(Point(self.module(images), self.goal.take(rows), images, self.images[rows], leaf))
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        return loss.detach(), gradient


class ChannelsLast(nn.Module):
    """The module, on images whose channels lie side by side."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.module(images.clone(memory_format=torch.channels_last))
        return logits


@dataclass(frozen=True)
class Found:
    """The lowest objective (MOST, N) so far, and how many evaluations of an image that took in all."""

    trace: Tensor
    evaluations: int


def one_by_one(case: Case) -> Found:
    """The same by SciPy, one image after the other."""
    asked, trace = 0, torch.full((MOST, len(case.images)), float("inf"))
    for row in range(len(case.images)):
        rows, values = torch.tensor([row]), []
        space = case.space.narrow(rows)
        zero = space.zero()

        def one(
            x: np.ndarray, space: Space = space, like: Tensor = zero, rows: Tensor = rows, seen: Any = values
        ) -> Any:
            value, gradient = case.ask(space, torch.from_numpy(x).to(like.dtype).view_as(like), rows)
            seen.append(value.item())
            return seen[-1], gradient.flatten().double().numpy()

        start, options = zero.flatten().double().numpy(), {"maxfun": MOST}
        minimize(one, start, jac=True, method="L-BFGS-B", bounds=_box(space), options=options)
        asked += len(values)
        trace[: len(values[:MOST]), row] = torch.tensor(values[:MOST])
    return Found(trace.cummin(0).values, asked)


def batched_port(case: Case, minimise: Callable[..., Any], batch: int) -> Found:
    """The same by BoTorch's port, in model batches of `batch`; it has no limit on evaluations: an exception ends it."""
    asked, trace, zero = 0, torch.full((MOST, len(case.images)), float("inf")), case.space.zero()

    class OverError(Exception):
        pass

    queries = iter(range(MOST + 1))

    def several(x: np.ndarray, batch_indices: list[int]) -> tuple[np.ndarray, np.ndarray]:
        nonlocal asked
        query = next(queries)
        if query == MOST:
            raise OverError
        asked += len(batch_indices)
        rows, theta = torch.tensor(batch_indices), torch.from_numpy(x).to(zero.dtype).view(-1, *zero.shape[1:])
        parts = [
            case.ask(case.space.narrow(part), some, part)
            for part, some in zip(rows.split(batch), theta.split(batch), strict=True)
        ]
        values = torch.cat([value for value, _ in parts])
        trace[query, rows] = values
        return values.double().numpy(), torch.cat([gradient for _, gradient in parts]).flatten(1).double().numpy()

    with suppress(OverError):
        minimise(several, zero.flatten(1).double().numpy(), bounds=_box(case.space), pass_batch_indices=True)
    return Found(trace.cummin(0).values, asked)


def _box(space: Space) -> list[tuple[float, float]] | None:
    """The bounds of the first row's entries, which in the box are those of all rows."""
    bounds = space.bounds()
    if bounds is None:
        return None
    return list(zip(bounds[0][0].flatten().tolist(), bounds[1][0].flatten().tolist(), strict=True))


def find_botorch() -> Callable[..., Any] | None:
    """BoTorch's `fmin_l_bfgs_b_batched`, read from its file: the package itself asks for much that it does not."""
    found = importlib.util.find_spec("botorch")
    if found is None or found.origin is None:
        return None
    name = "benchmarks_botorch"
    package, tools = types.ModuleType(name), types.ModuleType(f"{name}.utils")
    package.__path__ = []
    tools.check_scipy_version_at_least = lambda minor, major=1: True  # type: ignore[attr-defined]
    sys.modules |= {name: package, f"{name}.utils": tools}
    file = Path(found.origin).parent / "optim" / "batched_lbfgs_b.py"
    spec = importlib.util.spec_from_file_location(f"{name}.batched_lbfgs_b", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.fmin_l_bfgs_b_batched
