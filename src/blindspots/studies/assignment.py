"""The study of adversarial training as a course sets it: gradient attacks, and networks that are trained on them.

Sources: "Assignment 5: More Like Neural NOTworks", Introduction to Deep Learning, AI Lab, University of Magdeburg,
ovgu-ailab.github.io/idl2025; Goodfellow, Shlens, Szegedy 2015, arXiv:1412.6572; Madry et al. 2018, arXiv:1706.06083.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch.nn import functional as F

from ..attacks import PGD, StAdv, UniformNoise
from ..geometry import BallName
from ..settings import Radius, plain
from ..training import TrainSettings
from . import assignment_page as page
from .assignment_answers import Found, Scene, Seen, l2_of
from .notebook import Notebook, Values
from .page import Block
from .study import Study

if TYPE_CHECKING:
    from torch import Tensor

    from ..attack import Attack
    from ..classifiers import Classifier


@dataclass(frozen=True)
class Size:
    """How much is done: training images (None: all) and epochs, test images, those that are bent, steps of PGD as an
    attack and in training, and queries of stAdv at each tau."""

    training: int | None
    epochs: int
    images: int
    bent: int
    steps: int
    training_steps: int
    bending: int


QUICK = Size(4_000, 2, 200, 40, 20, 7, 20)
FULL = Size(None, 10, 1_000, 200, 40, 20, 50)


@dataclass(frozen=True)
class Sweep:
    """linf radii of the attacks, ascending, and the one that networks are trained at."""

    radii: tuple[str, ...]
    trained: str


# Grey digits need larger changes than photographs, where the course names 0.01 to 0.02 as the limit of the visible.
DIGITS = Sweep(("0.05", "0.1", "0.2", "0.3"), "0.2")
PHOTOS = Sweep(("0.005", "0.01", "0.02", "8/255"), "8/255")


@dataclass(frozen=True)
class Training:
    """A way to train: its name here, what it is, the method, and its settings from linf radius, l2 radius and steps."""

    name: str
    told: str
    method: str
    settings: Callable[[str, float, int], dict[str, Any]]


def _sign(mixture: str) -> Callable[[str, float, int], dict[str, Any]]:
    return lambda linf, l2, steps: {"radius": linf, "mixture": mixture}


# F1, F2 and F3 are the course's three ways to train on both, in its order.
TRAININGS = (
    Training("plain", "images as they are", "plain", lambda linf, l2, steps: {}),
    Training("noise", "uniform noise", "noise", lambda linf, l2, steps: {"radius": linf}),
    Training("sign only", "sign step alone", "fgsm", _sign("only")),
    Training("sign F1", "both, gradients accumulated", "fgsm", _sign("accumulate")),
    Training("sign F2", "both, losses averaged", "fgsm", _sign("average")),
    Training("sign F3", "both, one batch", "fgsm", _sign("concatenate")),
    Training(
        "normalised F2", "both, losses averaged", "fgm", lambda linf, l2, steps: {"radius": l2, "mixture": "average"}
    ),
    Training("PGD", "PGD alone", "pgd", lambda linf, l2, steps: {"radius": linf, "steps": steps}),
)
# Networks whose images are pictured, and turned into one class.
SHOWN = ("plain", "sign F2", "PGD")
NETWORK = "small-cnn"
PICTURED = 8


def stepping(radius: float | str, norm: BallName, steps: int) -> PGD:
    """One step of the whole radius from the image, or many small ones from a random point; the lowest loss is kept.

    One step in linf is the sign method (FGSM), in l2 the normalised gradient (FGM).
    """
    if steps == 1:
        return PGD(radius, norm, steps=1, step_size=float(Radius(radius)), random_start=False, keep="lowest")
    return PGD(radius, norm, steps=steps, keep="lowest")


@dataclass(frozen=True)
class AssignmentStudy(Study):
    """Trains one network in many ways and attacks each with what it was trained on, and with what it was not."""

    name: ClassVar[str] = "assignment"
    title: ClassVar[str] = "Gradient attacks and adversarial training, the questions of a course answered"

    @property
    def size(self) -> Size:
        return FULL if self.full else QUICK

    @property
    def sweep(self) -> Sweep:
        return PHOTOS if self.images().shape[0] == 3 else DIGITS

    def blocks(self, book: Notebook) -> list[Block]:
        trained = {training.name: self._train(book, training) for training in TRAININGS}
        found: Found = {name: self._attacked(book, name) for name in trained}
        aimed = {name: self._aimed(book, name) for name in SHOWN if name in trained}
        shown = {name: self._pictured(book, name) for name in aimed}
        scene = Scene(
            sweep=self.sweep.radii,
            trained=self.sweep.trained,
            values=math.prod(self.images().shape),
            steps=self.size.steps,
            named={training.name: training.told for training in TRAININGS},
            classes=tuple(self.images().class_names),
            target=self.images().class_names[self._target],
        )
        return page.blocks(scene, trained, found, aimed, shown)

    def _train(self, book: Notebook, training: Training) -> Values:
        photos = self.images().shape[0] == 3
        linf = self.sweep.trained
        settings = TrainSettings(
            network=NETWORK,
            method=training.method,
            method_settings=training.settings(linf, self._paired(linf), self.size.training_steps),
            limit=self.size.training,
            epochs=self.size.epochs,
            batch=64,
            learning_rate=3e-3,
            schedule="onecycle",
            augmentation="shift-flip" if photos else "none",
            validation=0.0,
            test_split="",
        )
        return self.train(book, f"train-{_file(training.name)}", settings)

    def _paired(self, linf: str) -> float:
        """The l2 radius of normalised steps that goes with the linf radius of sign steps."""
        return l2_of(math.prod(self.images().shape), linf)

    def _attacks(self) -> dict[str, list[Attack]]:
        """Every attack of the tables at every radius, by the name it has there."""
        radii, many = self.sweep.radii, self.size.steps
        return {
            "sign": [stepping(radius, "linf", 1) for radius in radii],
            "normalised": [stepping(self._paired(radius), "l2", 1) for radius in radii],
            "PGD": [stepping(radius, "linf", many) for radius in radii],
            "normalised PGD": [stepping(self._paired(radius), "l2", many) for radius in radii],
            "noise": [UniformNoise(radius, draws=1) for radius in radii],
            "stAdv": [StAdv(1.0, flow_loss="global", halvings=2, restarts=0, steps=self.size.bending)],
        }

    def _model(self, book: Notebook, name: str) -> Classifier:
        return self.model(book, f"train-{_file(name)}")

    def _attacked(self, book: Notebook, name: str) -> dict[tuple[str, str], Seen]:
        """What a network says of the test images, unchanged and under every attack at every radius."""
        found: dict[tuple[str, str], Seen] = {}
        for kind, attacks in {"none": [], **self._attacks()}.items():

            def work(kind: str = kind, attacks: list[Attack] = attacks) -> tuple[Values, dict[str, Tensor]]:
                model = self._model(book, name)
                images, labels, index = self.images().batch(0, self.size.bent if kind == "stAdv" else self.size.images)
                seen = [_look(model, images, labels)] if not attacks else []
                for attack in attacks:
                    result = attack(model, images, labels, index=index, seed=self.seed)
                    seen.append({**_look(model, result.images, labels), "l2": result.size["l2"].float()})
                return {}, {part: torch.stack([each[part] for each in seen]) for part in seen[0]}

            settings = {"attacks": [plain(attack) for attack in attacks], "images": self.size.images}
            kept = book.cell(f"{_file(kind)}-{_file(name)}", settings, work)[1]
            radii = self.sweep.radii if len(attacks) == len(self.sweep.radii) else ("",)
            for row, radius in enumerate(radii):
                found[kind, radius] = Seen(**{part: values[row] for part, values in kept.items()})
        return found

    @property
    def _target(self) -> int:
        """The class that every image is to be taken for: cat, where there is one."""
        names = self.images().class_names
        return names.index("cat") if "cat" in names else min(3, len(names) - 1)

    def _aimed(self, book: Notebook, name: str) -> dict[tuple[str, str], Tensor]:
        """Which of the test images of other classes are taken for the one class, by attack and radius."""
        found: dict[tuple[str, str], Tensor] = {}
        for kind in ("sign", "PGD"):
            attacks = self._attacks()[kind]

            def work(attacks: list[Attack] = attacks) -> tuple[Values, dict[str, Tensor]]:
                images, labels, index = self.images().batch(0, self.size.images)
                other, model = labels != self._target, self._model(book, name)
                results = [
                    attack(
                        model, images[other], labels[other], targets=self._target, index=index[other], seed=self.seed
                    )
                    for attack in attacks
                ]
                before = model.logits(images[other]).argmax(1).cpu() == self._target
                return {}, {"reached": torch.stack([before, *(result.success for result in results)])}

            settings = {"attacks": [plain(a) for a in attacks], "images": self.size.images, "target": self._target}
            reached = book.cell(f"one-class-{_file(kind)}-{_file(name)}", settings, work)[1]["reached"]
            for row, radius in enumerate(("", *self.sweep.radii)):
                found[kind, radius] = reached[row]
        return found

    def _pictured(self, book: Notebook, name: str) -> dict[str, Tensor]:
        """The first image of each class that is right, under every attack at the trained radius, with the answers."""
        place = self.sweep.radii.index(self.sweep.trained)
        attacks: list[tuple[Attack, int | None]] = [
            (each[min(place, len(each) - 1)], None) for each in self._attacks().values()
        ]
        attacks.append((self._attacks()["PGD"][place], self._target))

        def work() -> tuple[Values, dict[str, Tensor]]:
            model = self._model(book, name)
            chosen = self.victims(model, self.size.images)
            first = [int((chosen.labels == c).nonzero()[0]) for c in torch.unique(chosen.labels)[:PICTURED]]
            images, labels, index = chosen.images[first], chosen.labels[first], chosen.index[first]
            rows, classes = [images], self.images().classes
            for attack, target in attacks:
                goal = torch.where(labels == target, (labels + 1) % classes, target) if target is not None else None
                rows.append(attack(model, images, labels, targets=goal, index=index, seed=self.seed).images)
            seen = [_look(model, row, labels) for row in rows]
            kept = {part: torch.stack([each[part] for each in seen]) for part in ("prediction", "confidence")}
            return {}, {"images": torch.stack(rows), "labels": labels, **kept}

        settings = {"attacks": [plain(attack) for attack, _ in attacks], "target": self._target, "count": PICTURED}
        return book.cell(f"pictures-{_file(name)}", settings, work)[1]


def _look(model: Classifier, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Per image (N,): is it right, its cross-entropy, the prediction and how sure that is."""
    logits = model.logits(images).cpu()
    sure, prediction = logits.softmax(1).max(1)
    return {
        "right": prediction == labels,
        "loss": F.cross_entropy(logits, labels, reduction="none"),
        "prediction": prediction,
        "confidence": sure,
    }


def _file(name: str) -> str:
    return name.lower().replace(" ", "-")
