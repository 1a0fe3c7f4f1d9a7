"""The loop: epochs of steps, a validation after each, a checkpoint now and then, the best epoch kept.

Everything random is a function of (seed, epoch, step), so a run that was killed anywhere and started again reaches the
same weights, bit for bit on a CPU, as one that never stopped.
"""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from ..errors import BlindspotsError
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

LOOK = 10  # steps between two looks at the loss: each look waits for a GPU


class Loop:
    """The steps of a run. Holds what stays and the state that moves; made for one `run`."""

    def __init__(
        self, settings: TrainSettings, setup: Setup, state: State, directory: Directory, tell: Progress
    ) -> None:
        self.settings, self.setup, self.state, self.directory, self.tell = settings, setup, state, directory, tell
        self.method, self.team, self.cache = settings.training_method(), Team(setup.device), {}
        self.logits_of = setup.logits_of(state.network)
        self.window: list[tuple[Tensor, Tensor, int]] = []  # loss, correct answers and images of steps not looked at
        self.steps = len(self._batches())
        self.saved = self.resumed = time.monotonic()

    def run(self) -> None:
        settings, state = self.settings, self.state
        with Interrupt() as interrupt:
            self.tell(Started(settings.epochs, self.steps, len(self.setup.training), state.epoch, state.step))
            while state.epoch < settings.epochs:
                state.network.train()
                for rows in self._batches()[state.step :]:
                    self._step(rows)
                    if len(self.window) >= LOOK or state.step == self.steps:
                        self._look()
                    late = time.monotonic() - self.saved >= settings.checkpoint_seconds
                    if state.step < self.steps and (late or interrupt.asked):
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
        torch.manual_seed(key(settings.seed, "step", state.epoch, state.step))
        images, labels, index = self.setup.training.batch(rows)
        images = self.setup.augment(images, index, seed=settings.seed, epoch=state.epoch)
        images, labels = images.to(self.setup.device), labels.to(self.setup.device)
        for group in state.optimiser.param_groups:
            group["lr"] = self._rate()
        state.optimiser.zero_grad()
        step = self._given(images, labels, index)
        loss, hits = torch.zeros(()), torch.zeros(())
        crafted = self.method.craft(step)
        for number, part in enumerate(self.method.parts(step, crafted)):
            self.team.backward(part.loss)
            loss = part.loss.detach() if number == 0 else loss + part.loss.detach()
            hits = (part.logits.argmax(1) == labels).sum()
        self.team.update(state.network, state.optimiser, None)
        state.step += 1
        self.window.append((loss, hits, len(rows)))

    def _given(self, images: Tensor, labels: Tensor, index: Tensor) -> Step:
        settings, state = self.settings, self.state
        return Step(
            state.network, self.logits_of, images, labels, index.to(self.setup.device), seed=settings.seed,
            epoch=state.epoch, number=state.step, smoothing=settings.label_smoothing, team=self.team, cache=self.cache,
        )  # fmt: skip

    def _rate(self) -> float:
        step = self.state.epoch * self.steps + self.state.step
        return rate_at(self.settings.schedule, step, self.settings.epochs * self.steps, self.settings.rate)

    def _look(self) -> None:
        """Add the steps since the last look to the sums of the epoch, and stop where a loss is not a number."""
        state = self.state
        if not self.window:
            return
        losses = torch.stack([loss for loss, _, _ in self.window])
        if not torch.isfinite(losses).all():
            bad = int((~torch.isfinite(losses)).nonzero()[0])
            raise self._diverged(f"the loss became {losses[bad].item()}", state.step - len(self.window) + bad + 1)
        correct = torch.stack([hits for _, hits, _ in self.window]).tolist()
        for loss, hits, (_, _, count) in zip(losses.tolist(), correct, self.window, strict=True):
            state.loss += loss * count
            state.correct += hits
            state.images += count
        self.window.clear()
        rate = float(state.optimiser.param_groups[0]["lr"])
        mean, accuracy = state.loss / state.images, state.correct / state.images
        self.tell(Stepped(state.epoch + 1, state.step, state.images, mean, accuracy, rate))

    def _end_epoch(self) -> None:
        """Measure on the held-out images, keep the weights if they are the best so far, save."""
        state = self.state
        self._refuse_broken()
        loss = accuracy = None
        if self.setup.validation is not None:
            state.network.eval()
            loss, accuracy = measure(self.logits_of, self.setup.validation, self.setup.device)
            if not math.isfinite(loss):
                raise self._diverged(f"the loss on the held-out images became {loss}", state.step)
        best = all(_better(accuracy, loss, record) for record in state.history if record.best)
        record = EpochRecord(
            epoch=state.epoch + 1,
            learning_rate=float(state.optimiser.param_groups[0]["lr"]),
            train_loss=state.loss / state.images,
            train_accuracy=state.correct / state.images,
            validation_loss=loss,
            validation_accuracy=accuracy,
            best=best,
        )
        state.history.append(record)
        if best:
            state.best = {name: value.detach().cpu().clone() for name, value in state.network.state_dict().items()}
        self._clock()
        state.epoch_seconds.append(state.seconds)
        state.epoch += 1
        state.step = state.images = state.correct = 0
        state.loss = state.seconds = 0.0
        self._save()
        self.directory.write_history(state.history, state.epoch_seconds)
        self.tell(record)

    def _save(self) -> None:
        self._clock()
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


def _better(accuracy: float | None, loss: float | None, than: EpochRecord) -> bool:
    """More held-out images right, or as many at a smaller loss. With no image held out, the later epoch."""
    if accuracy is None or loss is None or than.validation_accuracy is None or than.validation_loss is None:
        return True
    return (accuracy, -loss) > (than.validation_accuracy, -than.validation_loss)
