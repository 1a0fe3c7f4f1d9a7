"""The study of box-constrained L-BFGS: how small the perturbations are that fool the networks of the paper.

Sources: Szegedy et al. 2014, "Intriguing properties of neural networks", arXiv:1312.6199 (table 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..attacks import GaussianNoise, LegacyL1, Szegedy
from ..report.words import duration, number, percent
from ..settings import plain
from ..training import TrainSettings
from .notebook import Notebook, Values
from .page import Block, Paragraph, Picture, Table, Title
from .pictures import grid, stretched
from .study import Study, rate, told
from .szegedy_nets import NETS, Net, trained

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Size:
    """Training images (None: all), epochs, images attacked, those attacked towards every class, and steps of Adam."""

    training: int | None
    epochs: int
    images: int
    every: int
    steps: int = 3000


QUICK = Size(6_000, 8, 64, 2)
FULL = Size(None, 30, 1_000, 20)


@dataclass(frozen=True)
class SzegedyStudy(Study):
    """Trains the six networks of the paper's first table, and finds the smallest perturbations that fool them."""

    name: ClassVar[str] = "szegedy-lbfgs"
    title: ClassVar[str] = "Intriguing properties of neural networks, box-constrained L-BFGS run again"

    @property
    def size(self) -> Size:
        return FULL if self.full else QUICK

    @property
    def _attack(self) -> Szegedy:
        """No perturbation within the box is larger in l2 than this radius."""
        return Szegedy(radius=self._values**0.5)

    @property
    def _values(self) -> int:
        return math.prod(self.images().shape)

    def blocks(self, book: Notebook) -> list[Block]:
        rows = []
        pictured: dict[tuple[int, int], Tensor] = {}
        for number_, net in enumerate(NETS):
            cell = f"train-{number_}-{net.network}"
            errors = trained(self, book, cell, net, self.size.training, self.size.epochs)
            targeted, images = self._distortion(book, cell, "random")
            untargeted, _ = self._distortion(book, cell, None)
            rows.append(self._row(net, errors, targeted, untargeted))
            for column, part in enumerate(("clean", "targeted")):
                pictured[number_, column] = images[part][0]
            pictured[number_, 2] = stretched(images["targeted"][0] - images["clean"][0])
        legacy = self._legacy(book)
        names = [f"{net.name} {net.decay}" for net in NETS]
        return [
            Title("Smallest perturbations, the paper and here"),
            Paragraph(
                "Six networks on images in [0, 1], sigmoid units, weight decay as printed. For each training image "
                "that is read rightly the smallest perturbation is sought: the weight of the loss is bracketed and "
                "bisected for each image, and the problem with the box is solved by L-BFGS for all images at once. "
                "Distortion is sqrt(mean of squared changes), the mean over the images that reach the goal; the paper "
                "says of its own that it is an average over the training set, and not towards which classes. Gaussian "
                "noise of the same size is the control. AE400-10 is trained as a whole here, without the paper's "
                "autoencoder."
            ),
            Table(
                "Errors and mean distortion",
                (
                    "network", "lambda", "train error: paper", "here", "test error: paper", "here", "distortion: paper",
                    "here, targeted", "here, untargeted", "targets reached", "untargeted",
                    "fooled by noise of that size", "gradients an image", "time",
                ),
                rows,
            ),
            Picture("images.png", grid(pictured, names, ["image", "fooled", "change"], set()),
                    "An image, the same with another answer (random target), and the change, stretched to all greys"),
            *self._legacy_blocks(legacy),
        ]  # fmt: skip

    def _distortion(self, book: Notebook, cell: str, targets: str | None) -> tuple[Values, dict[str, Tensor]]:
        def work() -> tuple[Values, dict[str, Tensor]]:
            model = self.model(book, cell)
            chosen = self.victims(model, self.size.images, "train")
            images, labels, index = chosen.images, chosen.labels, chosen.index
            result = self._attack(model, images, labels, targets=targets, index=index, seed=self.seed)
            reached = result.success
            rms = result.size["l2"] / self._values**0.5
            known = bool(reached.any())
            noise = GaussianNoise(float(result.size["l2"][reached].mean()) if known else 0.0, norm="l2", draws=1)
            drowned = noise(model, images, labels, index=index, seed=self.seed)
            kept = {"clean": images[:4], "targeted": result.images[:4], "rms": rms, "success": reached}
            values = told(result, self._attack.steps) | {
                "distortion": float(rms[reached].mean()) if known else None,
                "noise": int(drowned.success.sum()),
            }
            return values, kept

        name = cell.replace("train", "attack") + ("-targeted" if targets else "-untargeted")
        return book.cell(name, {**plain(self._attack), "count": self.size.images, "targets": targets}, work)

    def _row(self, net: Net, errors: Values, targeted: Values, untargeted: Values) -> tuple[str, ...]:
        return (
            net.name,
            net.decay,
            f"{net.train_error} %",
            percent(errors["train"]),
            f"{net.test_error} %",
            percent(errors["test"]),
            str(net.distortion),
            number(targeted["distortion"]),
            number(untargeted["distortion"]),
            rate(targeted["success"], targeted["of"]),
            rate(untargeted["success"], untargeted["of"]),
            rate(targeted["noise"], targeted["of"]),
            number(targeted["gradients"]),
            duration(targeted["seconds"]),
        )

    def _legacy(self, book: Notebook) -> Values:
        """The simplified attack of a reading record, on a network of ReLUs, towards every class."""
        cell, simple = "train-relu-fc100-100-10", LegacyL1(radius=self._values, steps=self.size.steps)
        self.train(
            book,
            cell,
            TrainSettings(
                network="fc100-100-10",
                network_settings={"hidden": "relu"},
                limit=self.size.training,
                epochs=max(2, self.size.epochs // 3),
                batch=100,
                schedule="constant",
                normalisation="none",
                validation=0.0,
            ),
        )

        def work() -> tuple[Values, dict[str, Tensor]]:
            model = self.model(book, cell)
            chosen = self.victims(model, self.size.every)
            found: Values = {"of": 9 * len(chosen)}
            for attack in (simple, Szegedy(radius=self._values, norm="l1"), self._attack):
                result = attack(model, chosen.images, chosen.labels, targets="all", index=chosen.index, seed=self.seed)
                key = f"{attack.name}-{getattr(attack, 'norm', 'l1')}"
                sizes = {name: result.size[name][result.success] for name in ("l0", "l1", "l2")}
                means = {name: float(size.mean()) if len(size) else None for name, size in sizes.items()}
                gradients = float(result.backwards.double().mean())
                found[key] = {"success": int(result.success.sum()), "gradients": gradients, **means}
            return found, {}

        return book.cell("legacy", {**plain(simple), "count": self.size.every}, work)[0]

    def _legacy_blocks(self, found: Values) -> list[Block]:
        named = {
            "legacy-l1-l1": "legacy-l1 (Adam, one weight, l1)",
            "szegedy-l1": "szegedy, l1",
            "szegedy-l2": "szegedy, squared l2",
        }
        rows = [
            (
                name,
                rate(found[key]["success"], found["of"]),
                *(number(found[key][size]) for size in ("l1", "l2", "l0")),
                number(found[key]["gradients"]),
            )
            for key, name in named.items()
        ]
        return [
            Title("The simplified attack"),
            Paragraph(
                "A reading record of the paper replaces L-BFGS and its search by Adam on |r|_1 + loss with one "
                "weight, from noise; it reached 5 of 9 targets from one image of a 7, on a network of ReLUs of 97.5 % "
                "accuracy. Here every image is taken to all nine other classes by it and by the whole attack."
            ),
            Table(
                "FC100-100-10 with ReLUs, all other classes as targets; mean sizes of the successes",
                ("attack", "targets reached", "l1", "l2", "values changed", "gradients an image"),
                rows,
            ),
        ]
