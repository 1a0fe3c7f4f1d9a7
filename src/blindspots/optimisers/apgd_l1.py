"""The steps of Auto-PGD in l1: few values at once, as many as each image's best change says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..lazy import torch
from ..settings import at_least
from .optimiser import Bounds, Optimiser, State, moved, per_row

if TYPE_CHECKING:
    from torch import Tensor

# The least share of values that is called sparser, the divisor of the share, that of the step, and that of the
# smallest step.
SPARSER, FEWER, SHORTER, LEAST = 0.95, 1.5, 1.5, 10.0


@dataclass(frozen=True)
class SparseSteps(Optimiser):
    """theta <- theta + step * sign(g) / k on the k values with the largest |g_i|, and 0 elsewhere.

    At every checkpoint k becomes 1 / 1.5 of the number of values that the lowest point so far changes. Where that
    number has fallen below 0.95 of what it was, the step is the first one again and the image goes back to its lowest
    point; elsewhere the step is divided by 1.5, down to a tenth of the first.

    Source: Croce and Hein 2021, "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers",
    arXiv:2103.01208, algorithm 1, with the authors' checkpoints: every 4 % of the steps. No momentum.

    Args:
        step: the l1 size of the first step, in units of [0, 1].
        steps: the number of moves.
        share: the share of values of the first steps; None takes it from what the first point changes.
    """

    step: float
    steps: int
    share: float | None = 0.2

    def __post_init__(self) -> None:
        at_least(self, step=0, steps=1)

    def init(
        self, theta: Tensor, scale: Tensor | None = None, bounds: Bounds | None = None, clean: Tensor | None = None
    ) -> State:
        """`clean` are the unchanged images; by default theta itself."""
        count, device = len(theta), theta.device
        clean = theta if clean is None else clean
        changed = _changed(theta, clean)
        first = torch.full((count,), self.step, dtype=torch.float64, device=device)
        first = first if scale is None else first * scale
        values = theta[0].numel()
        return {
            "first": first,
            "step": first,
            "count": torch.zeros(count, dtype=torch.int64, device=device),
            "share": changed / (FEWER * values) if self.share is None else torch.full_like(changed, self.share),
            "changed": changed if self.share is None else torch.full_like(changed, values),
            "lowest": torch.full((count,), float("inf"), dtype=theta.dtype, device=device),
            "best": theta,
            "best_gradient": torch.zeros_like(theta),
            "clean": clean,
        }

    def update(self, theta: Tensor, loss: Tensor, gradient: Tensor, state: State) -> tuple[Tensor, State]:
        count, lower = state["count"], loss < state["lowest"]
        better = per_row(lower, theta)
        best = torch.where(better, theta, state["best"])
        best_gradient = torch.where(better, gradient, state["best_gradient"])

        check = (count > 0) & (count % max(self.steps * 4 // 100, 1) == 0)
        now = _changed(best, state["clean"])
        sparser = check & (now < SPARSER * state["changed"])
        share = torch.where(check, now / (FEWER * theta[0].numel()), state["share"])
        shorter = torch.maximum(state["step"] / SHORTER, state["first"] / LEAST)
        step = torch.where(check, torch.where(sparser, state["first"], shorter), state["step"])
        back = per_row(sparser, theta)
        direction = _sparse(torch.where(back, best_gradient, gradient), share)
        return moved(torch.where(back, best, theta), direction, 1.0, {"scale": step}), {
            **state,
            "step": step,
            "count": count + 1,
            "share": share,
            "changed": torch.where(check, now, state["changed"]),
            "lowest": torch.where(lower, loss, state["lowest"]),
            "best": best,
            "best_gradient": best_gradient,
        }


def _changed(theta: Tensor, clean: Tensor) -> Tensor:
    """How many values differ (R,), in float64."""
    return (theta != clean).flatten(1).sum(1).double()


def _sparse(gradient: Tensor, share: Tensor) -> Tensor:
    """Steepest descent (R, ...) on that share (R,) of the values, at least one, in equal parts."""
    flat = gradient.flatten(1)
    values, size = flat.shape[1], flat.abs()
    kept = values - ((1 - share) * values).long().clamp(0, values - 1)
    least = size.sort(1, descending=True).values.gather(1, (kept - 1).unsqueeze(1))
    steps = torch.where(size >= least, -flat.sign(), 0)
    return (steps / (steps != 0).sum(1, keepdim=True).clamp(min=1)).view_as(gradient)
