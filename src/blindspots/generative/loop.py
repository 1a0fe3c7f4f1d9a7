"""The steps of a fit. What is random is a function of (seed, step), so a killed fit goes on to the same bits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import BlindspotsError
from ..goal import Goal
from ..training.interrupt import Interrupt
from ..training.order import epoch_batches, key
from ..training.schedule import rate_at
from .state import save_state

if TYPE_CHECKING:
    from ..training.rows import Rows
    from .method import Method, Price
    from .state import State
    from .victims import Victims

# Seconds between two checkpoints, and steps between two looks at the loss: each look waits for a GPU.
_SAVE, _LOOK = 30.0, 20
# A mean size of twice the aim doubles its weight in about 70 steps.
_STEER = 0.01


class Loop:
    """Steps from where the state is to the end of the last epoch; within the victims' session."""

    def __init__(
        self,
        method: Method,
        victims: Victims,
        rows: Rows,
        targets: Tensor | None,
        state: State,
        seed: int,
        path: Path | None,
        meta: dict[str, Any],
        tell: Callable[[str], None] | None,
    ) -> None:
        self._method, self._victims, self._rows, self._targets = method, victims, rows, targets
        self._state, self._seed, self._path, self._meta = state, seed, path, meta
        self._tell = tell or (lambda text: None)
        self._each = -(-len(rows) // method.minibatch)
        self._total = max(1, round(method.epochs * self._each))
        self._seen: list[tuple[Tensor, Tensor]] = []  # loss, and the share of the batch that reached the goal

    def run(self) -> None:
        state, saved = self._state, time.monotonic()
        state.maker.train()
        with Interrupt() as interrupt:
            while state.step < self._total:
                state.epoch = state.step // self._each
                batches = epoch_batches(len(self._rows), self._method.minibatch, self._seed, state.epoch)
                for rows in batches[state.step - state.epoch * self._each :][: self._total - state.step]:
                    self._step(rows)
                    if len(self._seen) >= _LOOK or state.step == self._total:
                        self._look()
                    late = time.monotonic() - saved >= _SAVE
                    if self._path is not None and state.step < self._total and (late or interrupt.asked):
                        self._look()
                        save_state(self._path, state, self._meta)
                        saved = time.monotonic()
                    if interrupt.asked:
                        raise KeyboardInterrupt("stopped" + (f"; {self._path} goes on" if self._path else ""))
        state.epoch = math.ceil(self._method.epochs)

    def _step(self, rows: Tensor) -> None:
        method, state, victims = self._method, self._state, self._victims
        torch.manual_seed(key(self._seed, "step", state.step))
        images, labels, _ = self._rows.batch(rows)
        images, labels = images.to(victims.device), labels.to(victims.device)
        goal = self._goal(images, labels, rows)
        for group, peak in zip(state.optimiser.param_groups, state.peak, strict=True):
            group["lr"] = rate_at("cosine", state.step, self._total, peak)
        changed = state.maker(images)
        self._teach(images, changed.detach())
        value, reached = victims.value(images, changed, goal, method.loss, method.kappa)
        value = value + price_of(method.price, state.weight, images, changed, state.critic)
        state.weight = steered(method.price, state.weight, images, changed.detach())
        state.optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        state.optimiser.step()
        state.step += 1
        state.fold(getattr(method, "average", 0.0))
        calls = len(rows) * len(victims.models)
        state.forwards += calls * (2 if method.loss == "least-likely" and not goal.targeted else 1)
        state.backwards += calls
        self._seen.append((value.detach(), reached.double().mean()))

    def _goal(self, images: Tensor, labels: Tensor, rows: Tensor) -> Goal:
        """The goal of a batch. Where a prediction is the label, one forward more."""
        logits_of = self._victims.predictions
        if self._method.leave == "predictions" or self._victims.models[0].per_pixel:
            labels = logits_of(images)
            self._state.forwards += len(images)
        if self._targets is None:
            return Goal(labels)
        given = self._targets
        if given.ndim in (1, 3):
            given = given[self._rows.positions[rows]]
        return Goal(labels, given.to(labels.device).expand_as(labels))

    def _teach(self, images: Tensor, changed: Tensor) -> None:
        """A step of the critic: 1 for images, 0 for changed ones (least squares)."""
        critic, optimiser = self._state.critic, self._state.critic_optimiser
        if critic is None or optimiser is None:
            return
        loss = ((critic(images) - 1).square().mean() + critic(changed).square().mean()) / 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    def _look(self) -> None:
        """Tell of the steps since the last look, and stop where the loss is not a number."""
        if not self._seen:
            return
        values, reached = (torch.stack(part).double() for part in zip(*self._seen, strict=True))
        self._seen.clear()
        if not bool(torch.isfinite(values).all()) or not self._state.finite():
            raise BlindspotsError(
                f"the fit diverged before step {self._state.step}: the loss or a weight is not a finite number; fit "
                "again with a smaller rate"
            )
        share = f"{100 * float(reached.mean()):.1f} % of the images reach the goal"
        self._tell(f"step {self._state.step} of {self._total}: loss {float(values.mean()):.4g}, {share}")


def price_of(price: Price, weight: float, images: Tensor, changed: Tensor, critic: nn.Module | None) -> Tensor:
    """What a batch costs beside the victims' loss, ()."""
    total = images.new_zeros(())
    if price.size:
        total = total + price.size * weight * (_l2(images, changed) - price.free).clamp(min=0).mean()
    if critic is not None:
        total = total + price.realism * (critic(changed) - 1).square().mean()
    return total


def steered(price: Price, weight: float, images: Tensor, changed: Tensor) -> float:
    """The weight of the size after a step: larger where the mean size is above the aim."""
    if price.aim is None:
        return weight
    # At most that fast: the first images of a network that makes them whole are far from the aim.
    return weight * math.exp(_STEER * min(float(_l2(images, changed).mean()) / price.aim - 1, 1.0))


def _l2(images: Tensor, changed: Tensor) -> Tensor:
    return (changed - images).flatten(1).square().sum(1).clamp(min=1e-24).sqrt()
