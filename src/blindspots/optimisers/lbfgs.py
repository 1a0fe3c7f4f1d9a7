"""L-BFGS and L-BFGS-B for a batch: every image has its own history, line search and end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..lazy import torch
from ..settings import above, at_least, one_of
from .line_search import LINE_SEARCHES, LineSearchName, Trial, backtracking, begin, strong_wolfe
from .metric import Metric
from .optimiser import Bounds, Optimiser, State, per_row
from .quasi_newton import learn, newton_step, push

if TYPE_CHECKING:
    from torch import Tensor

# A pair takes part where s'y > CURVED * y'y, so that H stays positive definite (Byrd et al. 1995 use this form).
CURVED = 2.2e-16
# No first trial goes further than this many times the last accepted step: where f is linear between kinks, as that of
# a network of ReLUs is, y is nearly 0 and the quasi-Newton step has no bounds.
LONGER = 10.0


@dataclass(frozen=True)
class _Asked:
    """What the last query told of each row: at theta (R, ...), which is s (R, D) away from the base."""

    theta: Tensor
    s: Tensor
    value: Tensor
    gradient: Tensor
    usable: Tensor


@dataclass(frozen=True)
class LBFGS(Optimiser):
    """Limited-memory BFGS, within bounds where the space has them: minimise f(theta) for lower <= theta <= upper.

    From the base x0 of an image the direction is d = -H g over the free variables, those that are not at a bound which
    the gradient pushes against. A trial is the projection of x0 + t d onto the bounds. Each `update` judges one
    trial of every image, and returns for the next query either the first trial from a new base or a shorter (longer)
    one from the old. Where a line search gets no further it is at a kink, between its base and the last trial that it
    rejected: the history is dropped, and the shortest vector between the gradients of these two taken for g, against
    which f falls on both sides (with two pieces, along the kink). Only where that fails too the image has ended.

    With a metric P, H starts from a multiple of P instead of the identity, and the steepest descent is along -P g: as
    if theta were P^(1/2) phi, and phi sought. An image that gets no further with it goes on without, until it ends.
    Where some variables are fixed, H is that of all of them, and the entries of the step that belong to these are left
    out.

    The images that have ended (`done` in the state) stay at their base, the best point. The history is written in
    place: a state handed to `update` is used up.

    Args:
        memory: pairs kept per image; memory * 2 times the size of theta is held.
        line_search: `backtracking` (one trial an iteration as a rule) or `strong-wolfe`.
        max_trials: trials of a line search until it has failed.
        first_step: l2 length of the first step, in units of theta; `scale` of `init` multiplies it.
        tolerance_gradient: an image ends where no entry of the projected gradient exceeds it.
        tolerance_change: an image ends where an iteration lowers f by no more than this share of max(|f|, 1).
        metric: what is taken for the inverse Hessian, up to a factor, before there is curvature to go by; None is the
            identity.

    Source: Liu and Nocedal 1989, "On the limited memory BFGS method for large scale optimization"; bounds: Byrd, Lu,
    Nocedal and Zhu 1995, "A limited memory algorithm for bound constrained optimization".
    kinks: Wolfe 1975, "A method of conjugate subgradients for minimizing nondifferentiable functions".
    Differs from the papers: the active set is that at the base, and the path of trials is projected (Bertsekas 1982,
    "Projected Newton methods for optimization problems with simple constraints"), instead of the generalised Cauchy
    point; `strong-wolfe` searches the line from x0 to the projection of x0 + d.

    >>> import torch
    >>> optimiser, theta = LBFGS(), torch.zeros(1, 2)
    >>> state = optimiser.init(theta)
    >>> for _ in range(12):
    ...     gradient = 2 * (theta - torch.tensor([[1.0, 3.0]]))
    ...     theta, state = optimiser.update(theta, gradient.square().sum(1) / 4, gradient, state)
    >>> theta.round().tolist(), state["done"].tolist()
    ([[1.0, 3.0]], [True])
    """

    memory: int = 10
    line_search: LineSearchName = "backtracking"
    max_trials: int = 20
    first_step: float = 1.0
    tolerance_gradient: float = 1e-5
    tolerance_change: float = 2.2e-9
    metric: Metric | None = None

    def __post_init__(self) -> None:
        at_least(self, memory=1, max_trials=1, tolerance_gradient=0, tolerance_change=0)
        above(self, first_step=0)
        one_of(self, "line_search", LINE_SEARCHES)

    def init(self, theta: Tensor, scale: Tensor | None = None, bounds: Bounds | None = None) -> State:
        flat = theta.flatten(1)
        rows, device = len(flat), flat.device

        def numbers(value: float) -> Tensor:
            return torch.full((rows,), value, dtype=torch.float64, device=device)

        def flags(value: bool) -> Tensor:
            return torch.full((rows,), value, dtype=torch.bool, device=device)

        def counts(value: int) -> Tensor:
            return torch.full((rows,), value, dtype=torch.int64, device=device)

        length = numbers(self.first_step) * (1.0 if scale is None else scale.double())
        state = {
            "base": flat.clone(),
            "gradient": torch.zeros_like(flat),
            "rejected": torch.zeros_like(flat),
            "direction": torch.zeros_like(flat),
            "history": flat.new_zeros(rows, 2 * self.memory, flat.shape[1]),
            "pushed": counts(0),
            "value": numbers(float("inf")),
            "length": length,
            "first": length.clone(),
            "steepest": flags(True),
            "plain": flags(self.metric is None),
            "started": flags(False),
            "done": flags(False),
            **{name: numbers(0.0) for name in ("step", "slope", "low", "low_value", "low_slope", "high", "high_value")},
            "trials": counts(0),
            "settling": flags(False),
        }
        if bounds is None or self.metric is not None:
            state["products"] = flat.new_zeros(rows, 2 * self.memory, self.memory, dtype=torch.float64)
        if bounds is not None:
            state["lower"], state["upper"] = (bound.expand_as(theta).flatten(1) for bound in bounds)
        return state

    def update(self, theta: Tensor, loss: Tensor, gradient: Tensor, state: State) -> tuple[Tensor, State]:
        x, g, value = theta.flatten(1), gradient.flatten(1), loss.double()
        usable = torch.isfinite(value) & torch.isfinite(g.abs().amax(1))
        asked = _Asked(theta, x - state["base"], value, g, usable)
        accepted, failed, state = self._judge(asked, state)
        state = self._move(asked, accepted, failed, state)
        following = _project(torch.addcmul(state["base"], per_row(state["step"], x), state["direction"]), state)
        following = torch.where(state["done"].unsqueeze(1), state["base"], following)
        return following.view_as(theta), state

    def _judge(self, asked: _Asked, state: State) -> tuple[Tensor, Tensor, State]:
        """The line searches' verdict on the trials; the very first point of an image is accepted if it can be."""
        s, g, value, usable = asked.s, asked.gradient, asked.value, asked.usable
        noise = 4 * torch.finfo(g.dtype).eps * state["value"].abs()
        trial = Trial(value, usable, _dot(state["gradient"], s), _dot(g, s), noise)
        if self.line_search == "backtracking":
            verdict = backtracking(trial, state, self.max_trials)
        else:
            longest = torch.full_like(value, 1.0 if "lower" in state else 1e10)
            verdict = strong_wolfe(trial, state, self.max_trials, longest, _dot(g, state["direction"]))
        started, going = state["started"], ~state["done"]
        accepted = going & torch.where(started, verdict.accepted, usable)
        failed = going & torch.where(started, verdict.failed, ~usable)
        return accepted, failed, verdict.state

    def _move(self, asked: _Asked, accepted: Tensor, failed: Tensor, state: State) -> State:
        """Take the accepted trials as bases, learn their curvature, and choose where the next searches go."""
        theta, s, g, value = asked.theta, asked.s, asked.gradient, asked.value
        started, at_once = state["started"], state["trials"] <= 1
        y = g - state["gradient"]
        shaped = self._shaped(y, theta, state)
        learned = accepted & started & (_dot(s, y) > CURVED * _dot(y, shaped))
        push(state["history"], state["pushed"], s, shaped, learned)
        if "products" in state:
            learn(state["products"], state["history"], state["pushed"], y, learned)
        change, size = state["value"] - value, torch.maximum(state["value"].abs(), value.abs()).clamp(min=1.0)
        # A change of the last digit is no progress either.
        least = torch.maximum(self.tolerance_change * size, torch.finfo(g.dtype).eps * value.abs())
        small = accepted & started & (change <= least)

        taken, passed = accepted.unsqueeze(1), (~accepted & asked.usable).unsqueeze(1)
        rejected = torch.where(passed, g, state["rejected"])
        rejected = torch.where(taken & at_once.unsqueeze(1), g, rejected)
        state = {
            **state,
            "base": torch.where(taken, theta.flatten(1), state["base"]),
            "gradient": torch.where(taken, g, state["gradient"]),
            "rejected": torch.where(taken, g, rejected),
            "value": torch.where(accepted, value, state["value"]),
            "started": started | accepted,
        }
        # A small change of a full step is the end; that of a step cut short may be a kink, which a new start leaves.
        stuck = failed | (small & ~at_once)
        finished = (small & at_once) | (stuck & state["steepest"])
        anew = finished & ~state["plain"]
        restarted = (stuck & ~state["steepest"]) | anew
        flat = accepted & (_slack(state) <= self.tolerance_gradient)
        ended = (finished & state["plain"]) | flat
        # Where there is no curvature to go by, steps of steepest descent double.
        length = _dot(s, s).sqrt() * torch.where(state["steepest"], 2.0, 1.0)
        length = torch.where(accepted & started, length, state["length"])
        state |= {
            "done": state["done"] | ended,
            "pushed": torch.where(restarted, 0, state["pushed"] + learned),
            "length": torch.where(restarted, state["first"], length),
        }
        state["plain"] = state["plain"] | anew
        uphill = torch.where(restarted.unsqueeze(1), self._between(rejected, theta, state), state["gradient"])
        return self._aim(accepted | restarted, uphill, theta, state)

    def _between(self, rejected: Tensor, theta: Tensor, state: State) -> Tensor:
        """The shortest vectors (R, D) between the gradients at the bases and those of the last rejected trials.

        A search gets no further at a kink, which lies between the two: against this vector f falls on both sides.
        """
        change = rejected - state["gradient"]
        shaped = self._shaped(change, theta, state)
        share = -_dot(state["gradient"], shaped) / _dot(change, shaped).clamp(min=1e-300)
        return torch.addcmul(state["gradient"], per_row(share.clamp(0, 1), change), change)

    def _shaped(self, flat: Tensor, theta: Tensor, state: State) -> Tensor:
        """P of a tensor (R, D) with the entries of theta (R, ...), where an image still goes by it."""
        if self.metric is None:
            return flat
        return torch.where(state["plain"].unsqueeze(1), flat, self.metric(flat.view_as(theta)).flatten(1))

    def _aim(self, renewed: Tensor, uphill: Tensor, theta: Tensor, state: State) -> State:
        """New directions for the rows in `renewed`, against `uphill` (R, D), and the first step along them."""
        base, g = state["base"], state["gradient"]
        history, pushed, products = state["history"], state["pushed"], state.get("products")
        if "lower" in state:
            at_lower, at_upper = base <= state["lower"], base >= state["upper"]
            free = ~((at_lower & (g > 0)) | (at_upper & (g < 0)))
            plain = -uphill * free
            shaped = self._shaped(plain, theta, state)
            direction, newton = newton_step(history, pushed, uphill, CURVED, products, free, -shaped)
            # What is at a bound and would leave is fixed too: it would not move, but count as a fall.
            direction, steepest = (
                torch.where((at_lower & (step < 0)) | (at_upper & (step > 0)), 0, step)
                for step in (direction, shaped * free)
            )
            steepest = torch.where((_dot(g, steepest) < 0).unsqueeze(1), steepest, plain)
        else:
            steepest = -self._shaped(uphill, theta, state)
            direction, newton = newton_step(history, pushed, uphill, CURVED, products, shaped=-steepest)
        slope, size, steep = _dot(g, direction), _dot(direction, direction).sqrt(), _dot(steepest, steepest).sqrt()
        fall = _dot(g, steepest)
        newton &= torch.isfinite(slope) & (slope < 1e-10 * size / steep.clamp(min=1e-300) * fall)
        short = state["length"] / steep.clamp(min=1e-300)
        far = LONGER * state["length"] / size.clamp(min=1e-300)
        direction = torch.where(newton.unsqueeze(1), direction, steepest)
        step = torch.where(newton, far.clamp(max=1.0), short)
        slope = torch.where(newton, slope, fall)
        if "lower" in state and self.line_search == "strong-wolfe":
            direction, newton = self._straighten(direction, step, newton, short, steepest, state)
            step, slope = torch.ones_like(step), _dot(g, direction)
        state = begin(state, renewed, step, slope)
        state["direction"] = torch.where(renewed.unsqueeze(1), direction, state["direction"])
        state["steepest"] = torch.where(renewed, ~newton, state["steepest"])
        return state

    def _straighten(
        self, direction: Tensor, step: Tensor, newton: Tensor, short: Tensor, steepest: Tensor, state: State
    ) -> tuple[Tensor, Tensor]:
        """Lines to the projection of the first trial, so that the path does not bend; those of -g always descend."""
        base = state["base"]
        chord = _project(torch.addcmul(base, per_row(step, base), direction), state) - base
        safe = _project(torch.addcmul(base, per_row(short, base), steepest), state) - base
        newton = newton & (_dot(state["gradient"], chord) < 0)
        return torch.where(newton.unsqueeze(1), chord, safe), newton


def _project(x: Tensor, state: State) -> Tensor:
    """The nearest point within the bounds."""
    return torch.clamp(x, state["lower"], state["upper"]) if "lower" in state else x


def _slack(state: State) -> Tensor:
    """The largest entry of the projected gradient of each row, (R,)."""
    base, gradient = state["base"], state["gradient"]
    return (_project(base - gradient, state) - base if "lower" in state else gradient).abs().amax(1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of each row, (R,) in float64."""
    return (a * b).sum(1).double()
