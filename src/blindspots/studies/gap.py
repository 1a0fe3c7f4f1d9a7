"""The study of generated perturbations: four systems of a report of 2017, beside universal ones and attacks.

Sources: the report that preceded Poursaeed, Katsman, Gao, Belongie 2018, "Generative adversarial perturbations",
arXiv:1712.02328 (its figures are of MNIST); and the paper.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from ..attacks import PGD, DeepFool
from ..generative import Direct, Discriminated, FixedNoise, Method, Thresholded
from ..models import build
from ..settings import plain
from ..training import TrainSettings
from ..training.methods import make_method
from ..training.step import Step
from ..universal import UAP, UniversalPGD
from . import gap_page as page
from .gap_measures import measure, multiplications
from .notebook import Notebook, Values
from .page import Block
from .study import Study

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Size:
    """Epochs of the victim, of each system, of what is compared with S2, and of changes for all images; images of uap
    and its passes; images attacked one by one; images of a fit; epochs of joint training, and images it is judged on;
    epochs of the other network, and of the systems fitted to it.
    """

    victim: float
    fit: float
    compared: float
    noise: float
    uap: int
    passes: int
    attacked: int
    images: int | None
    joint: int
    checked: int
    other: int
    refit: float


QUICK = Size(2, 1, 0.5, 1, 500, 2, 200, None, 1, 200, 1, 0.1)
FULL = Size(4, 4, 1.5, 1, 2000, 5, 1000, None, 1, 1000, 1, 1)

# Mean l2 sizes that the report gives for S1, S2 and S3 on MNIST, and the radius of joint training.
SIZES = {"S1": 2.7, "S2": 2.4, "S3": 2.5}
JOINT = 1.5
# A network with batch norm beside one without, and the other way round.
OTHER = {"small-cnn": "resnet20", "resnet20": "small-cnn"}
SHOWN = 8


@dataclass(frozen=True)
class Line:
    """A perturbation to fit, by name, and the accuracy in percent and the size that the report gives."""

    name: str
    method: Method | UAP
    accuracy: float | None = None
    size: float | None = None

    @property
    def file(self) -> str:
        """Its name as that of a cell and a file."""
        return "".join(c if c.isalnum() else "-" for c in self.name.lower())


def lines(size: Size, **network: int) -> tuple[Line, ...]:
    """What is fitted: each system; then S2 again, shorter, beside what changes one thing of it."""
    common: dict[str, Any] = {"epochs": size.fit, "generator_settings": network}
    short = {**common, "epochs": size.compared}
    s1, s2, s3 = (SIZES[key] for key in ("S1", "S2", "S3"))
    return (
        Line("S1: the image, sigmoid", Direct(aim=0.97 * s1, **common), 0.72, s1),
        Line("S2: held change, tanh", Thresholded(s2, "l2", **common), 0.8, s2),
        Line("S3: from fixed noise", FixedNoise(s3, "l2", **{**common, "epochs": size.noise}), 25.0, s3),
        Line("universal PGD", UniversalPGD(s3, "l2", epochs=size.noise)),
        Line("UAP", UAP(s3, "l2", epochs=size.passes, rate=1.0)),
        Line("S4: discriminator, shorter", Discriminated(1.0, weight=0.0, realism=1.0, rate=1e-3, **short)),
        Line("AdvGAN, shorter", Discriminated(0.3, **short)),
        Line("S1 with tanh, shorter", Direct(aim=0.97 * s1, head="tanh", **short)),
        Line("S2, shorter", Thresholded(s2, "l2", **short)),
        Line("S2 with sigmoid, shorter", Thresholded(s2, "l2", head="sigmoid", **short)),
        Line("S2 with autoencoder, shorter", Thresholded(s2, "l2", generator="autoencoder", **short)),
        Line("S2 with the paper's loss, shorter", Thresholded(s2, "l2", loss="least-likely", **short)),
        Line("S2 scaled before the box, shorter", Thresholded(s2, "l2", exact=False, **short)),
    )


@dataclass(frozen=True)
class GapStudy(Study):
    """Fits the four systems to a small network, measures them on images held out, and sets baselines beside them."""

    name: ClassVar[str] = "gap"
    title: ClassVar[str] = "Generated perturbations, a report of 2017 run again"

    @property
    def size(self) -> Size:
        return FULL if self.full else QUICK

    def blocks(self, book: Notebook) -> list[Block]:
        victim = self.train(book, "train-victim", self._settings())
        found = {line.name: (line, *self._fitted(book, line)) for line in lines(self.size)}
        attacked = self._attacked(book)
        other = self._other(book)
        floor = self._floor(book)
        joint = self._joint(book)
        return [
            *page.systems(victim, [(line, values) for line, values, _ in found.values()], attacked),
            *page.shown({name: tensors for name, (_, _, tensors) in found.items()}),
            *page.other(*other),
            *page.floor(floor),
            *page.joint(joint, JOINT),
        ]

    def _settings(self, **changes: Any) -> TrainSettings:
        given: dict[str, Any] = {
            "network": "small-cnn" if self.images().shape[0] == 1 else "resnet20",
            "epochs": int(self.size.victim),
            "schedule": "onecycle",
            "learning_rate": 3e-3,
            "validation": 0.02,
            "limit": self.size.images,
        }
        return TrainSettings(**{**given, **changes})

    def _fitted(self, book: Notebook, line: Line, victim: str = "train-victim") -> tuple[Values, dict[str, Tensor]]:
        """Fit to a network on the training images, measure on all test images; the file stays in the folder."""
        name = line.file + victim.removeprefix("train-victim")

        def work() -> tuple[Values, dict[str, Tensor]]:
            model, file = self.model(book, victim), book.path / "perturbations" / f"{name}.safetensors"
            training, saved = self.images("train"), book.path / f"{name}.checkpoint"
            whole, started = not saved.exists(), time.perf_counter()
            if isinstance(line.method, UAP):
                done = line.method.fit(model, training, seed=self.seed, limit=self.size.uap)
            else:
                done = line.method.fit(model, training, seed=self.seed, limit=self.size.images, checkpoint=saved)
            spent = time.perf_counter() - started
            done.perturbation.save(file)
            values = measure(model, self.images(), done.perturbation)
            chosen = self.victims(model, SHOWN)
            kept = {"clean": chosen.images, "changed": done.perturbation.apply(chosen.images)}
            # What a fit took that went on from a checkpoint is not known.
            return {**values, "fit": spent if whole else None, "backwards": done.backwards}, kept

        return book.cell(f"fit-{name}", plain(line.method) | {"limit": self.size.images}, work)

    def _other(self, book: Notebook) -> tuple[str, Values, list[tuple[Line, Values]]]:
        """The systems of the report and the changes for all images on another network, of another kind."""
        network = OTHER[self._settings().network]
        victim = f"train-victim-{network}"
        trained = self.train(book, victim, self._settings(network=network, epochs=self.size.other))
        half = self.size.refit / 2
        chosen = [
            line
            for line in lines(replace(self.size, fit=self.size.refit, noise=half, passes=1))
            if line.size is not None or line.name in ("universal PGD", "UAP")
        ]
        return network, trained, [(line, self._fitted(book, line, victim)[0]) for line in chosen]

    def _attacked(self, book: Notebook) -> list[tuple[str, Values]]:
        """Attacks of single images at the size of S2, and their cost."""
        radius, count = SIZES["S2"], self.size.attacked
        kinds: dict[str, Any] = {
            "PGD-40, all steps": PGD(radius, "l2", steps=40, keep="lowest"),
            "PGD-40, to the first success": PGD(radius, "l2", steps=40),
            "DeepFool": DeepFool(radius, "l2"),
        }

        def one(attack: Any) -> Callable[[], tuple[Values, dict[str, Tensor]]]:
            def work() -> tuple[Values, dict[str, Tensor]]:
                model = self.model(book, "train-victim")
                images, labels, index = self.images().batch(0, count)
                started = time.perf_counter()
                result = attack(model, images, labels, index=index, seed=self.seed)
                spent = time.perf_counter() - started
                right = int((~result.success).sum())
                moved = result.size["l2"]
                return {
                    "right": right,
                    "of": len(labels),
                    "l2": float(moved.mean()),
                    "most": float(moved.max()),
                    "linf": float(result.size["linf"].mean()),
                    "each": spent / len(labels),
                    "backwards": float(result.backwards.double().mean()),
                }, {}

            return work

        return [
            (name, book.cell(f"attack-{number}", {**plain(attack), "count": count}, one(attack))[0])
            for number, (name, attack) in enumerate(kinds.items())
        ]

    def _floor(self, book: Notebook) -> list[tuple[str, Values]]:
        """How low one change for all can bring the accuracy, and whether it does so by one answer for all."""
        classes = self.images().classes
        kinds: list[tuple[str, Method, int | None]] = [
            (f"universal PGD, any answer, l2 {radius}", UniversalPGD(radius, "l2", epochs=self.size.noise), None)
            for radius in (1.5, 2.5, 3.5, 5.0)
        ]
        kinds += [
            (f"towards class {target}, l2 2.5", UniversalPGD(2.5, "l2", epochs=self.size.noise), target)
            for target in (range(classes) if self.full else range(2))
        ]

        def one(method: Method, target: int | None) -> Callable[[], tuple[Values, dict[str, Tensor]]]:
            def work() -> tuple[Values, dict[str, Tensor]]:
                model = self.model(book, "train-victim")
                done = method.fit(
                    model, self.images("train"), seed=self.seed, targets=target, limit=self.size.images
                )  # fmt: skip
                return measure(model, self.images(), done.perturbation), {}

            return work

        return [
            (name, book.cell(f"floor-{number}", {**plain(method), "target": target}, one(method, target))[0])
            for number, (name, method, target) in enumerate(kinds)
        ]

    def _joint(self, book: Notebook) -> list[tuple[str, Values, Values]]:
        """Joint training and PGD training of as many multiplications, both under strong attacks that know neither."""
        ball = {"radius": JOINT, "norm": "l2"}
        each = [
            self._effort(name, settings) for name, settings in (("generator", ball), ("pgd", {**ball, "steps": 10}))
        ]
        epochs = max(1, round(self.size.joint * each[0] / each[1]))
        runs: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("plain", "train-victim", {}),
            (
                f"joint, {self.size.joint} epochs",
                "train-joint",
                {"method": "generator", "method_settings": ball, "epochs": self.size.joint},
            ),
            (
                f"PGD training, 10 steps, {epochs} epochs",
                "train-pgd",
                {"method": "pgd", "method_settings": {**ball, "steps": 10}, "epochs": epochs},
            ),
        )
        return [
            (name, self.train(book, cell, self._settings(**changes)), self._strong(book, cell))
            for name, cell, changes in runs
        ]

    def _effort(self, name: str, given: dict[str, Any]) -> int:
        """Multiplications and additions of a step of a training method, an image."""
        images, labels, index = self.images("train").batch(0, 4)
        network = build(
            self._settings().network, classes=self.images().classes, channels=images.shape[1], size=images.shape[2]
        )
        return multiplications(make_method(name, given), Step(network, network, images, labels, index)) // len(images)

    def _strong(self, book: Notebook, cell: str) -> Values:
        """PGD-100 of two losses, and a new generator that is fitted to this network."""
        attack = PGD(JOINT, "l2", steps=100, loss="margin")
        fresh = Thresholded(JOINT, "l2", epochs=self.size.compared)

        def work() -> tuple[Values, dict[str, Tensor]]:
            model = self.model(book, cell)
            images, labels, index = self.images().batch(0, self.size.checked)
            results = [
                each(model, images, labels, index=index, seed=self.seed)
                for each in (attack, PGD(JOINT, "l2", steps=100))
            ]
            stands = ~(results[0].success | results[1].success)
            done = fresh.fit(
                model, self.images("train"), seed=self.seed, limit=self.size.images,
                checkpoint=book.path / f"{cell}.checkpoint",
            )  # fmt: skip
            made = measure(model, self.images(), done.perturbation)
            return {
                "stands": int(stands.sum()),
                "attacked": len(labels),
                "generated": made["right"],
                "of": made["of"],
                "clean": made["clean"],
            }, {}

        return book.cell(cell.replace("train", "strong"), {**plain(attack), "count": self.size.checked}, work)[0]
