"""The settings of a training run: one frozen dataclass of plain values, read without torch.

Its fields are the flags of `blindspots train`, the keys of `settings.json` in the training directory, and the
key of the victim cache. What is wrong is refused here, before any data is read.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..errors import BlindspotsError
from ..settings import above, at_least, one_of
from .alarms import Answer

if TYPE_CHECKING:
    from .methods import Method

Optimiser = Literal["sgd", "adam", "adamw"]
Schedule = Literal["constant", "cosine", "onecycle", "cyclic", "steps"]
Precision = Literal["32", "bf16", "16"]
Augmentation = Literal["none", "shift", "shift-flip"]

# Peak learning rates where none is given: He et al. 2016 (arXiv 1512.03385) for SGD with momentum, Kingma and Ba
# 2015 (arXiv 1412.6980) for Adam.
RATES: dict[str, float] = {"sgd": 0.1, "adam": 1e-3, "adamw": 1e-3}
MOMENTUM = 0.9  # of SGD where none is given (He et al. 2016)

# Fields that may differ between the first start and a resumed one: they change where things lie or how often they
# are saved, not what is computed. Changed data behind another data_dir is noticed by its fingerprint.
FREE = ("out", "data_dir", "checkpoint_seconds", "loggers")

# Trackers, in `trackers.py`.
LOGGERS = ("tensorboard", "mlflow")

# Data whose classes a mirror changes or destroys: digits are signs, not objects.
UNMIRRORED = ("digits", "mnist")


@dataclass(frozen=True)
class TrainSettings:
    """What to train, on what, and how.

    Raises `BlindspotsError` at construction for a value that cannot work.

    >>> TrainSettings(epochs=0)
    Traceback (most recent call last):
    blindspots.errors.BlindspotsError: TrainSettings.epochs must be at least 1, got 0
    """

    network: str = "small-cnn"
    """Built-in network to train (blindspots list models)."""
    network_settings: dict[str, int | float | bool | str] = field(default_factory=dict)
    """Settings of the network, as pairs: name value name value ..."""
    method: str = "plain"
    """How it is trained: a method, or the preset of a paper (blindspots list methods)."""
    method_settings: dict[str, int | float | bool | str] = field(default_factory=dict)
    """Settings of the method, as pairs: radius 0.3 steps 40 ..."""
    data: str = "digits"
    """Data to train on (blindspots list data)."""
    split: str = "train"
    """Split to train on; the validation images are held out from it."""
    test_split: str = "test"
    """Split measured once, after the best epoch is chosen; empty: none."""
    data_dir: str | None = None
    """Folder that holds the data (default: BLINDSPOTS_DATA)."""
    limit: int | None = None
    """Use only this many images of the split (stratified by class)."""
    size: int | None = None
    """Resize image files to this many pixels (image folders only)."""
    validation: float = 0.1
    """Share of the split held out to choose the best epoch, between 0 and 0.9; 0 keeps the last epoch."""
    epochs: int = 10
    """How often every training image is seen."""
    batch: int = 64
    """Images a step; an epoch is cut into equal batches of at most this many, and no image is left out."""
    optimiser: Optimiser = "adam"
    """Optimiser of the weights."""
    learning_rate: float | None = None
    """Highest learning rate of the schedule (default: 0.1 for sgd, 0.001 for adam and adamw)."""
    weight_decay: float = 0.0
    """Weight decay (with adamw decoupled from the gradient)."""
    layer_decay: tuple[float, ...] = ()
    """One lambda for each layer with a weight matrix, from the first on: adds lambda * sum(w^2) / k to the loss, for
    the k units of the layer and its weights w without the biases (Szegedy et al. 2014); in place of weight_decay."""
    momentum: float | None = None
    """Momentum of sgd (default 0.9); the other optimisers have none."""
    schedule: Schedule = "cosine"
    """Course of the learning rate: constant, cosine to zero, onecycle (up for 30 % of the steps, then down), cyclic (a
    triangle from zero to zero) or steps (times `decay` at each of the milestones)."""
    milestones: tuple[float, ...] = (0.5, 0.75)
    """Schedule steps: where the rate falls, as shares of the run."""
    decay: float = 0.1
    """Schedule steps: what the rate is multiplied by there."""
    warmup: float = 0.0
    """Epochs in which the rate rises in a straight line from zero to the schedule's."""
    clip: float | None = None
    """Largest l2 norm of the gradient of all weights; longer ones are scaled to it. Default: none."""
    accumulate: int = 1
    """Pieces of a batch that go through the network one after the other, for one update: saves memory."""
    ema: float = 0.0
    """Decay of an exponential moving average of the weights, as 0.999, which is then measured and kept; 0: none."""
    awp: float = 0.0
    """Adversarial weight perturbation on top of the method (Wu et al. 2020): its size as a share of each weight
    tensor's norm, as 0.005; 0: none."""
    label_smoothing: float = 0.0
    """Share of each target spread evenly over all classes, from 0 up to but not including 1."""
    augmentation: Augmentation = "none"
    """Random change of each training image: shift by up to an eighth of its size, and also left-right flip."""
    transforms: str = ""
    """Further changes of each training image, torchvision v2 transforms joined by +, as in
    TrivialAugmentWide+RandomErasing:p=0.25."""
    normalisation: str = "data"
    """Mean and standard deviation inside the model: data (measured on the training images), none, or a known name."""
    seed: int = 0
    """Seed of the first weights, the held-out images, the order, the augmentation and dropout."""
    watch: int = 256
    """Held-out images on which one-step and PGD accuracy are measured after each epoch, where the method trains for a
    ball; the best epoch is then that of the highest PGD accuracy. 0: none."""
    watch_steps: int = 10
    """Steps of that PGD."""
    on_overfitting: Answer = "report"
    """Answer to catastrophic overfitting: report, stop, rollback (weights of the best epoch, and half the step size of
    the inner attack from there on) or halve (the step size alone)."""
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:1, mps."""
    processes: int = 1
    """Processes that share each batch: with cuda the first GPUs, one each; on a CPU as many as are asked for."""
    precision: Precision = "32"
    """Precision of forwards and backwards: 32, bf16 or 16 (mixed, with the weights in 32 bit)."""
    channels_last: bool = True
    """Images go through the network with their channels side by side in memory, in which most convolutions are faster;
    the weights differ by rounding."""
    threads: int = 0
    """CPU threads of the computation; 0 leaves torch's own choice. Another number gives slightly other weights."""
    checkpoint_seconds: float = 30.0
    """Longest time between two checkpoints; one is also written after every epoch."""
    loggers: str = ""
    """Trackers that are told of losses and accuracies, joined by +: tensorboard, mlflow. They write into out."""
    out: str = ""
    """Training directory (default: runs/DATA-NETWORK-METHOD)."""

    def __post_init__(self) -> None:
        one_of(self, "optimiser", get_args(Optimiser))
        one_of(self, "schedule", get_args(Schedule))
        one_of(self, "augmentation", get_args(Augmentation))
        one_of(self, "precision", get_args(Precision))
        one_of(self, "on_overfitting", get_args(Answer))
        for name in filter(None, self.loggers.split("+")):
            if name not in LOGGERS:
                raise BlindspotsError(f"TrainSettings.loggers must be some of {', '.join(LOGGERS)}, got '{name}'")
        at_least(self, epochs=1, batch=1, seed=0, threads=0, limit=2, size=1, weight_decay=0, checkpoint_seconds=0)
        at_least(self, warmup=0, accumulate=1, ema=0, awp=0, watch=0, watch_steps=1, processes=1, decay=0)
        above(self, clip=0)
        object.__setattr__(self, "milestones", tuple(self.milestones))
        if not all(0 < share < 1 for share in self.milestones):
            raise BlindspotsError(
                f"TrainSettings.milestones must be shares of the run between 0 and 1, got {self.milestones}"
            )
        if not self.ema < 1:
            raise BlindspotsError(f"TrainSettings.ema must lie in [0, 1), got {self.ema}")
        if self.learning_rate is not None:
            above(self, learning_rate=0)
        if not 0 <= self.label_smoothing < 1:
            raise BlindspotsError(f"TrainSettings.label_smoothing must lie in [0, 1), got {self.label_smoothing}")
        if not 0 <= self.validation <= 0.9:
            raise BlindspotsError(f"TrainSettings.validation must lie in [0, 0.9], got {self.validation}")
        if self.layer_decay and (self.weight_decay or self.optimiser == "adamw"):
            raise BlindspotsError(
                "TrainSettings.layer_decay is a term of the loss, for sgd and adam without weight_decay: leave one out"
            )
        if any(not 0 <= decay < float("inf") for decay in self.layer_decay):
            raise BlindspotsError(
                f"TrainSettings.layer_decay must hold finite numbers from 0 up, got {self.layer_decay}"
            )
        if self.momentum is not None and self.optimiser != "sgd":
            raise BlindspotsError(
                f"TrainSettings.momentum applies to sgd only, got {self.momentum} with {self.optimiser}: leave it out"
            )
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise BlindspotsError(f"TrainSettings.momentum must lie in [0, 1), got {self.momentum}")
        if self.augmentation == "shift-flip" and self.data in UNMIRRORED:
            raise BlindspotsError(
                f"TrainSettings.augmentation 'shift-flip' would mirror the signs of '{self.data}': use shift or none"
            )
        self._check_method()

    def _check_method(self) -> None:
        """Refuse a method that does not go with the other settings."""
        method = self.training_method()
        if self.on_overfitting in ("rollback", "halve") and not method.steerable:
            raise BlindspotsError(
                f"TrainSettings.on_overfitting '{self.on_overfitting}' halves the step of an inner attack, and the "
                f"method {method.name} has none: use report or stop"
            )
        if not method.fixed and (self.awp or self.accumulate > 1):
            raise BlindspotsError(
                f"the method {method.name} updates weights or examples as it goes, so that its losses cannot be asked "
                "for again or in pieces: leave awp at 0 and accumulate at 1"
            )

    def training_method(self) -> Method:
        """The method with its settings; those of a preset are filled in."""
        from .methods import make_method

        return make_method(self.method, self.method_settings)

    @property
    def rate(self) -> float:
        """The highest learning rate: as given, or the optimiser's default."""
        return RATES[self.optimiser] if self.learning_rate is None else self.learning_rate

    @property
    def directory(self) -> Path:
        """The training directory: as given, or runs/DATA-NETWORK, and -METHOD where that is not plain."""
        if self.out:
            return Path(self.out)
        name = f"{self.data}-{self.network}" + ("" if self.method == "plain" else f"-{self.method}")
        name = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
        return Path("runs") / name

    def plain(self) -> dict[str, Any]:
        """All settings as JSON values, defaults that depend on the optimiser filled in."""
        values = asdict(self)
        values["learning_rate"] = self.rate
        values["milestones"] = list(self.milestones)
        values["layer_decay"] = list(self.layer_decay)  # as JSON gives it back
        if self.optimiser == "sgd" and self.momentum is None:
            values["momentum"] = MOMENTUM
        return values

    def differences(self, stored: dict[str, Any]) -> list[str]:
        """What differs from stored settings, as 'name: there, here'; fields that change no result are left out.

        Fields that are not stored, because they are newer, are taken to have been at their defaults.
        """
        here, stored = self.plain(), {**TrainSettings().plain(), **stored}
        names = [item.name for item in fields(self) if item.name not in FREE]
        return [
            f"{name}: {stored.get(name)!r} there, {here[name]!r} now"
            for name in names
            if stored.get(name) != here[name]
        ]
