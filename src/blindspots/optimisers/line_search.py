"""Line searches that are asked one trial at a time, each image on its own clock.

The searches of all images lie side by side in the state of the optimiser. For a batch of trials they answer which are
accepted, which searches have failed, and where the others try next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from .optimiser import State

LineSearchName = Literal["backtracking", "strong-wolfe"]
LINE_SEARCHES: tuple[str, ...] = ("backtracking", "strong-wolfe")

# Armijo and curvature constants of Nocedal and Wright 2006, "Numerical Optimization", section 3.1.
ARMIJO, CURVATURE = 1e-4, 0.9


@dataclass(frozen=True)
class Trial:
    """A trial x of each image against its base x0; all (R,), in float64.

    Attributes:
        value, usable: f(x), and whether it and its gradient are finite.
        fall: g0'(x - x0), what the slope at the base promises; on a projected path not step * slope.
        rise: g'(x - x0), the same with the gradient at the trial.
        noise: what rounding may add to f(x0).
    """

    value: Tensor
    usable: Tensor
    fall: Tensor
    rise: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Verdict:
    """Which trials are accepted, which searches have failed (R,), and the state of those that go on."""

    accepted: Tensor
    failed: Tensor
    state: State


def begin(state: State, renewed: Tensor, step: Tensor, slope: Tensor) -> State:
    """The state with new searches for the rows in `renewed`, which try `step` first; `slope` is that at the base."""
    fresh = {
        "step": step,
        "slope": slope,
        "trials": torch.zeros_like(state["trials"]),
        "low": torch.zeros_like(step),
        "low_value": state["value"],
        "low_slope": slope,
        "high": torch.full_like(step, float("nan")),
        "high_value": torch.full_like(step, float("inf")),
        "settling": torch.zeros_like(state["settling"]),
    }
    return {**state, **{name: torch.where(renewed, fresh[name], state[name]) for name in fresh}}


def backtracking(trial: Trial, state: State, most: int) -> Verdict:
    """Accept f(x) <= f(x0) + 1e-4 * g0'(x - x0), else go back to the minimiser of a parabola, to .1 to .5 of the step.

    The displacement in the condition is the actual one, so that x may be projected onto bounds (Bertsekas 1976, "On
    the Goldstein-Levitin-Polyak gradient projection method"). Values that are not finite halve the step. At the limit
    of rounding the slope at the trial decides (Hager and Zhang 2005, "A new conjugate gradient method with guaranteed
    descent and an efficient line search").
    """
    accepted = trial.usable & _falls(trial, state["value"])
    curve = trial.value - state["value"] - trial.fall
    factor = torch.where(curve > 0, -trial.fall / (2 * curve), 0.5).clamp(0.1, 0.5)
    step = state["step"] * torch.where(trial.usable, factor, 0.5)
    trials = state["trials"] + 1
    lost = trial.usable & (trial.fall.abs() <= trial.noise)
    failed = ~accepted & ((trials >= most) | lost)
    return Verdict(accepted, failed, {**state, "step": step, "trials": trials})


def strong_wolfe(trial: Trial, state: State, most: int, longest: Tensor, slope: Tensor) -> Verdict:
    """Accept where besides |g'd| <= .9 |g0'd|: widen until a minimum is bracketed, then narrow the bracket.

    Args:
        trial: the trials, on a straight line from the base.
        state: that of the searches.
        most: trials of one search; then its best point so far is taken, or it has failed.
        longest: the largest step allowed (R,).
        slope: g'd at the trial (R,).

    Source: Nocedal and Wright 2006, algorithms 3.5 and 3.6, with quadratic interpolation.
    """
    step, low, high = state["step"], state["low"], state["high"]
    trials = state["trials"] + 1
    zooming = ~torch.isnan(high)
    falls = trial.usable & _falls(trial, state["value"])
    better = falls & ((trial.value < state["low_value"]) | (low == 0))
    flat = slope.abs() <= CURVATURE * state["slope"].abs()
    accepted = (better & (flat | (~zooming & (slope < 0) & (step >= longest)))) | (state["settling"] & trial.usable)

    # Where the trial is the new low end, the old one is the high end if the minimum lies between them.
    behind = better & torch.where(zooming, slope * (high - low) >= 0, slope >= 0)
    new_high = torch.where(better, torch.where(behind, low, high), step)
    new_high_value = torch.where(
        better,
        torch.where(behind, state["low_value"], state["high_value"]),
        torch.where(trial.usable, trial.value, float("inf")),
    )
    new_low = torch.where(better, step, low)
    low_value = torch.where(better, trial.value, state["low_value"])
    low_slope = torch.where(better, slope, state["low_slope"])

    # Outwards the next step is where the slope would vanish, in it where a parabola has its minimum.
    bend = (low_slope - state["low_slope"]) / (new_low - low).clamp(min=1e-300)
    outwards = torch.where(bend > 0, new_low - low_slope / bend, float("inf"))
    outwards = torch.minimum(torch.clamp(outwards, 2 * new_low - low, 5 * new_low - 4 * low), longest)
    width = new_high - new_low
    curve = new_high_value - low_value - low_slope * width
    share = torch.where(torch.isfinite(curve) & (curve > 0), -low_slope * width / (2 * curve), 0.5).clamp(0.1, 0.9)
    following = torch.where(torch.isnan(new_high), outwards, new_low + share * width)

    lost = trial.usable & (trial.fall.abs() <= trial.noise)
    over = ~accepted & ((trials >= most) | lost)
    settling = over & (new_low > 0) & ~state["settling"]
    search = {
        "step": torch.where(settling, new_low, following), "trials": trials, "settling": settling,
        "low": new_low, "low_value": low_value, "low_slope": low_slope, "high": new_high, "high_value": new_high_value,
    }  # fmt: skip
    return Verdict(accepted, over & ~settling, {**state, **search})


def _falls(trial: Trial, base: Tensor) -> Tensor:
    """Is the value low enough, in earnest or, where rounding hides it, by the slope at the trial?"""
    enough = trial.value <= base + ARMIJO * trial.fall
    hidden = (trial.value <= base + trial.noise) & (trial.rise <= (2 * ARMIJO - 1) * trial.fall)
    return (trial.fall < 0) & (enough | hidden)
