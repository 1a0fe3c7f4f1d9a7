"""The loop: epochs of steps, a validation after each, a checkpoint now and then, the best epoch kept.

Everything random is a function of (seed, epoch, step), so a run that was killed anywhere and started again reaches the
same weights, bit for bit on a CPU, as one that never stopped.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor

from ..errors import BlindspotsError
from .alarms import CATASTROPHIC, Watched
from .awp import moved_weights
from .checkpoint import State, save_checkpoint
from .directory import Directory
from .events import EpochRecord, Progress, Started, Stepped
from .interrupt import Interrupt
from .measure import measure
from .order import epoch_batches, key
from .preparation import Setup
from .schedule import rate_at
from .settings import TrainSettings
from .step import Step
from .team import Team
from .watch import watched

LOOK = 10  # steps between two looks at the loss: each look waits for a GPU


class Loop:
    """The steps of a run. Holds what stays and the state that moves; made for one `run`.

    Every process of a team runs it on its part of each batch; the numbers that decide are sums over all of them, and
    process 0 alone tells and writes.
    """

    def __init__(
        self, settings: TrainSettings, setup: Setup, state: State, directory: Directory, tell: Progress, team: Team
    ) -> None:
        self.settings, self.setup, self.state, self.directory, self.team = settings, setup, state, directory, team
        self.leads = team.rank == 0
        self.tell: Progress = tell if self.leads else lambda event: None
        self.method = settings.training_method()
        self.cache: dict[str, Any] = {}
        self.logits_of = setup.logits_of(state.network)
        self.window: list[tuple[Tensor, Tensor, int]] = []  # loss, correct answers and images of steps not looked at
        self.steps = len(self._batches())
        self.saved = self.resumed = time.monotonic()
        team.restore_scaler(state.scaler)

    def run(self) -> None:
        settings, state = self.settings, self.state
        with Interrupt(self.leads) as interrupt:
            self.tell(Started(settings.epochs, self.steps, len(self.setup.training), state.epoch, state.step))
            while state.epoch < settings.epochs and not state.stopped:
                state.network.train()
                for rows in self._batches()[state.step :]:
                    self._step(rows)
                    if len(self.window) >= LOOK or state.step == self.steps:
                        self._look()
                    late = self.leads and time.monotonic() - self.saved >= settings.checkpoint_seconds
                    # To look is to sum over all processes, so process 0 alone stops only where all have just looked.
                    free = self.team.count == 1 or not self.window
                    if state.step < self.steps and free and (late or interrupt.asked):
                        self._look()
                        self._refuse_broken()
                        self._save()
                        if interrupt.asked:
                            break
                else:
                    self._end_epoch()
                if interrupt.asked:
                    raise KeyboardInterrupt(
                        f"stopped; {self.directory.checkpoint} goes on from epoch {state.epoch + 1}"
                    )

    def _batches(self) -> tuple[Tensor, ...]:
        return epoch_batches(len(self.setup.training), self.settings.batch, self.settings.seed, self.state.epoch)

    def _step(self, rows: Tensor) -> None:
        settings, state = self.settings, self.state
        for group in state.optimiser.param_groups:
            group["lr"] = self._rate()
        state.optimiser.zero_grad()
        losses: list[Tensor] = []
        hits: list[Tensor] = []
        moved = False
        for number, piece in enumerate(self.team.share(rows).tensor_split(settings.accumulate)):
            # Dropout differs between processes and pieces; the first draws what a process alone would draw.
            place = (self.team.rank, number) if self.team.rank or number else ()
            torch.manual_seed(key(settings.seed, "step", state.epoch, state.step, *place))
            step, weight = self._given(piece), len(piece) / len(rows)
            crafted = self.method.craft(step)
            with moved_weights(step, self.method, crafted, settings.awp, weight):
                for part in self.method.parts(step, crafted):
                    loss = part.loss if weight == 1 else part.loss * weight
                    self.team.backward(loss)
                    losses.append(loss.detach())
                    if part.logits is not None:
                        right = (part.logits.argmax(1) == step.labels).sum()
                    if part.update:
                        self._update()
                        moved = True
            hits.append(right)
        if not moved:
            self._update()
        updates = len(losses) / len(hits) if moved else 1
        state.step += 1
        self.window.append((torch.stack(losses).sum() / updates, torch.stack(hits).sum(), len(rows)))

    def _given(self, rows: Tensor) -> Step:
        """These rows of the training images, changed as the augmentation says, and all that a method is given."""
        settings, state, device = self.settings, self.state, self.setup.device
        images, labels, index = self.setup.training.batch(rows)
        images = self.setup.augment(images, index, seed=settings.seed, epoch=state.epoch)
        if self.setup.transforms is not None:
            images = self.setup.transforms(images, index, seed=settings.seed, epoch=state.epoch)
        return Step(
            state.network, self.logits_of, images.to(device), labels.to(device), index.to(device), seed=settings.seed,
            epoch=state.epoch, number=state.step, smoothing=settings.label_smoothing, team=self.team, state=state.own,
            cache=self.cache, scale=state.scale,
        )  # fmt: skip

    def _update(self) -> None:
        """Move the weights along the gradients of all processes, and their average after them."""
        state, ema = self.state, self.settings.ema
        self.team.update(state.network, state.optimiser, self.settings.clip)
        state.optimiser.zero_grad()
        if state.average is not None:
            with torch.no_grad():
                torch._foreach_lerp_(list(state.average.parameters()), list(state.network.parameters()), 1 - ema)
                for mine, new in zip(state.average.buffers(), state.network.buffers(), strict=True):
                    mine.copy_(new)

    def _rate(self) -> float:
        settings = self.settings
        return rate_at(
            settings.schedule, self.state.epoch * self.steps + self.state.step, settings.epochs * self.steps,
            settings.rate, warmup=round(settings.warmup * self.steps), milestones=settings.milestones,
            decay=settings.decay,
        )  # fmt: skip

    def _look(self) -> None:
        """Add the steps since the last look to the sums of the epoch, and stop where a loss is not a number."""
        state = self.state
        if not self.window:
            return
        losses, correct = (torch.stack(column) for column in list(zip(*self.window, strict=True))[:2])
        self.team.sum(losses)
        self.team.sum(correct)
        if not torch.isfinite(losses).all():
            bad = int((~torch.isfinite(losses)).nonzero()[0])
            raise self._diverged(f"the loss became {losses[bad].item()}", state.step - len(self.window) + bad + 1)
        for loss, hits, (_, _, count) in zip(losses.tolist(), correct.tolist(), self.window, strict=True):
            state.loss += loss * count
            state.correct += hits
            state.images += count
        self.window.clear()
        rate = float(state.optimiser.param_groups[0]["lr"])
        mean, accuracy = state.loss / state.images, state.correct / state.images
        self.tell(Stepped(state.epoch + 1, state.step, state.images, mean, accuracy, rate))

    def _end_epoch(self) -> None:
        """Measure on the held-out images, keep the weights if they are the best so far, answer alarms, save."""
        state = self.state
        self._refuse_broken()
        self.team.mean([*state.network.buffers(), *state.shown.buffers()])
        loss = accuracy = seen = None
        if self.setup.validation is not None:
            state.shown.eval()
            logits_of = self.setup.logits_of(state.shown)
            loss, accuracy = measure(logits_of, self.setup.validation, self.setup.device, self.team)
            if not math.isfinite(loss):
                raise self._diverged(f"the loss on the held-out images became {loss}", state.step)
            seen = self._watch()
        robust = seen.robust if seen else None
        best = all(_better(robust, accuracy, loss, record) for record in state.history if record.best)
        alarms = seen.alarms() if seen else ()
        record = EpochRecord(
            epoch=state.epoch + 1,
            learning_rate=float(state.optimiser.param_groups[0]["lr"]),
            train_loss=state.loss / state.images,
            train_accuracy=state.correct / state.images,
            validation_loss=loss,
            validation_accuracy=accuracy,
            best=best,
            watched_accuracy=seen.clean if seen else None,
            one_step_accuracy=seen.one_step if seen else None,
            robust_accuracy=robust,
            alarms=alarms,
            answer=self.settings.on_overfitting if CATASTROPHIC in alarms else "",
        )
        state.history.append(record)
        if best:
            state.best = {name: value.detach().cpu().clone() for name, value in state.shown.state_dict().items()}
        self._answer(record)
        self._clock()
        state.epoch_seconds.append(state.seconds)
        state.epoch += 1
        state.step = state.images = state.correct = 0
        state.loss = state.seconds = 0.0
        self._save()
        if self.leads:
            self.directory.write_history(state.history, state.epoch_seconds)
        self.tell(record)

    def _watch(self) -> Watched | None:
        """Accuracy on the watched images, where the method trains for a ball."""
        ball, settings, state = self.method.ball, self.settings, self.state
        if ball is None or not settings.watch or self.setup.validation is None:
            return None
        logits_of = self.setup.logits_of(state.shown)
        return watched(
            state.shown, logits_of, self.setup.validation, settings.watch, ball, settings.watch_steps, self.team,
            settings.seed,
        )  # fmt: skip

    def _answer(self, record: EpochRecord) -> None:
        """Do what the settings ask for when training has overfitted to its own steps."""
        state = self.state
        if record.answer == "stop":
            state.stopped = True
        if record.answer in ("halve", "rollback"):
            state.scale /= 2
        if record.answer == "rollback":
            for network in (state.network, state.average):
                if network is not None:
                    network.load_state_dict(state.best)
            # Momentum points to where the weights have gone wrong.
            state.optimiser.state.clear()

    def _save(self) -> None:
        self._clock()
        if self.leads:
            self.state.scaler = self.team.scaler()
            save_checkpoint(self.directory.checkpoint, self.state)
        self.saved = time.monotonic()

    def _refuse_broken(self) -> None:
        """Stop before weights that are not numbers replace a good checkpoint."""
        if not self.state.finite():
            raise self._diverged("a weight is no longer a finite number", self.state.step)

    def _clock(self) -> None:
        now = time.monotonic()
        self.state.seconds += now - self.resumed
        self.resumed = now

    def _diverged(self, what: str, step: int) -> BlindspotsError:
        saved = self.directory.checkpoint
        kept = f"the last good checkpoint is {saved}" if saved.exists() else "no checkpoint was written yet"
        return BlindspotsError(
            f"training diverged in epoch {self.state.epoch + 1}, step {step}: {what}; {kept}; "
            f"train again with a learning_rate below {self.settings.rate:g} in another out"
        )


def _better(robust: float | None, accuracy: float | None, loss: float | None, than: EpochRecord) -> bool:
    """More held-out images right under attack, where that is measured, or without; then those at a smaller loss.

    With no image held out, the later epoch.
    """
    if accuracy is None or loss is None or than.validation_accuracy is None or than.validation_loss is None:
        return True
    now, before = robust or 0.0, than.robust_accuracy or 0.0
    return (now, accuracy, -loss) > (before, than.validation_accuracy, -than.validation_loss)
