"""`fit`: from settings to a model file, going on where an earlier start stopped.

Here is the frame: find the data, enter the directory, run the loop, measure the best epoch, write the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .alarms import final_alarms
from .checkpoint import State, load_checkpoint
from .device import find_device, threads_of, torch_state
from .directory import Directory
from .events import Progress, Trained
from .loop import Loop
from .measure import measure
from .preparation import Setup, find_data, new_state, set_up
from .processes import team_of
from .rows import read_rows
from .settings import TrainSettings
from .team import Team
from .trackers import trackers
from .watch import strong_accuracy

if TYPE_CHECKING:
    from ..data import ImageData


def fit(
    settings: TrainSettings,
    *,
    progress: Progress | None = None,
    data: ImageData | None = None,
    test: ImageData | None = None,
) -> Trained:
    """Train a built-in network, or go on where an earlier start of the same settings stopped.

    Args:
        settings: what to train, on what, how, and the directory for it.
        progress: called with each event of the run (`Started`, `Stepped`, `EpochRecord`, `Trained`).
        data: images to train on, instead of those that the settings name.
        test: images measured once at the end; with `data` given and this not, none are.

    Returns:
        Where the model is and how good: `blindspots.classifier(str(trained.model))` loads it. A finished run returns
        at once.

    Raises:
        BlindspotsError: where settings, data or directory cannot be used, where the directory holds a run of other
            settings, and where the loss or a weight stops being a number; the last good checkpoint stays.
        KeyboardInterrupt: after Ctrl-C, with a checkpoint saved; the same call goes on from there.

    >>> trained = fit(TrainSettings(data="digits", epochs=3, out="runs/digits"))  # doctest: +SKIP
    """
    tell = progress or (lambda event: None)
    directory = Directory(settings.directory)
    directory.check(settings)
    done = directory.finished() if data is None else None
    if done is not None:
        tell(done)
        return done
    device = find_device(settings.device, settings.processes)
    given = data is not None
    if data is None:
        data, test = find_data(settings)
    fingerprint = data.fingerprint()
    with torch_state(device, threads_of(settings, device)):
        setup = set_up(settings, data, test, device)
        state = new_state(settings, setup)
        with directory.locked():
            directory.check(settings)
            directory.check_data(fingerprint)
            done = directory.finished()
            if done is None:
                directory.begin(settings, fingerprint)
                if directory.checkpoint.exists():
                    load_checkpoint(directory.checkpoint, state)
                with (
                    trackers(settings, directory.path, tell) as tracked,
                    team_of(settings, device, _help, settings, data if given else None) as team,
                ):
                    Loop(settings, setup, state, directory, tracked, team).run()
                done = _finish(settings, setup, state, directory)
    tell(done)
    return done


def _help(team: Team, settings: TrainSettings, data: ImageData | None) -> None:
    """What the other processes of a run do: the same steps, on their part of each batch."""
    directory = Directory(settings.directory)
    data = data if data is not None else find_data(settings)[0]
    with torch_state(team.device, threads_of(settings, team.device)):
        setup = set_up(settings, data, None, team.device)
        state = new_state(settings, setup)
        if directory.checkpoint.exists():
            load_checkpoint(directory.checkpoint, state)
        Loop(settings, setup, state, directory, lambda event: None, team).run()


def _finish(settings: TrainSettings, setup: Setup, state: State, directory: Directory) -> Trained:
    """Measure the best epoch on the test split, write the model, remove the checkpoint."""
    state.network.load_state_dict(state.best)
    state.network.eval()
    best, last = [record for record in state.history if record.best][-1], state.history[-1]
    strong, ball = None, settings.training_method().ball
    if best.robust_accuracy is not None and ball is not None:
        strong = strong_accuracy(state.network, setup, settings.watch, ball, settings.seed)
    alarms = dict.fromkeys(alarm for record in state.history for alarm in record.alarms)
    alarms |= dict.fromkeys(final_alarms(best.robust_accuracy, last.robust_accuracy, strong))
    test_accuracy = None
    if setup.test is not None:
        test_accuracy = measure(setup.logits_of(state.network), read_rows(setup.test), setup.device)[1]
    trained = Trained(
        model=directory.model,
        epochs=state.epoch,
        best_epoch=best.epoch,
        validation_accuracy=best.validation_accuracy,
        test_accuracy=test_accuracy,
        seconds=sum(state.epoch_seconds),
        robust_accuracy=best.robust_accuracy,
        last_robust_accuracy=last.robust_accuracy,
        strong_accuracy=strong,
        alarms=tuple(alarms),
    )
    directory.write_model(
        state.network,
        network=settings.network,
        settings=dict(settings.network_settings),
        mean=setup.mean,
        std=setup.std,
        shape=setup.data.shape,
        classes=setup.data.classes,
        info={
            "data": setup.data.describe(),
            "test": None if setup.test is None else setup.test.describe(),
            "class_names": list(setup.data.class_names),
            "training_images": len(setup.training),
            "validation_images": 0 if setup.validation is None else len(setup.validation),
            "epochs": state.epoch,
            "best_epoch": best.epoch,
            "validation_accuracy": best.validation_accuracy,
            "test_accuracy": test_accuracy,
            "accuracy": best.validation_accuracy if test_accuracy is None else test_accuracy,
            "seed": settings.seed,
            "robust_accuracy": best.robust_accuracy,
            "alarms": list(alarms),
            "training": {
                name: value for name, value in settings.plain().items() if name not in ("out", "data_dir", "loggers")
            },
        },
    )
    directory.write_history(state.history, state.epoch_seconds)
    directory.finish(trained)
    return trained
