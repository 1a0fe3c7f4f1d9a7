"""The study of intriguing properties: images made for one network fool another, and directions are like units.

Source: Szegedy et al. 2014, "Intriguing properties of neural networks", arXiv:1312.6199 (sections 3 and 4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from ..analysis.transfer import Transfer
from ..analysis.units import Units
from ..attacks import LegacyL1, Szegedy
from ..data import dataset
from ..data.subset import stratified
from ..models import build, save_model
from ..settings import plain
from ..training.without_labels import WithoutLabels, fit_detector
from . import intriguing_page as page
from .notebook import Notebook, Values
from .page import Block
from .study import Study
from .szegedy_nets import NETS, error, settings, trained

if TYPE_CHECKING:
    from torch import Tensor

    from ..attack import Attack
    from ..data import ImageData


@dataclass(frozen=True)
class Size:
    """Training images (None: all), epochs, images attacked for each network, those attacked by the simplified attack,
    epochs without labels, and steps of the simplified attack."""

    training: int | None
    epochs: int
    images: int
    simplified: int
    filters: int
    steps: int = 3000


QUICK = Size(6_000, 8, 64, 16, 2)
FULL = Size(None, 30, 1_000, 64, 5)

# Networks of the second study: name, network, half of the training set, and what is added to the seed, so that two of
# the same shape begin at other weights.
HALVES = (
    ("FC100-100-10", "fc100-100-10", 0, 0),
    ("FC123-456-10", "fc123-456-10", 0, 0),
    ("FC100-100-10'", "fc100-100-10", 1, 1),
)
DECAY = (1e-5, 1e-5, 1e-6)
AMPLIFIED = 0.1


@dataclass(frozen=True)
class IntriguingStudy(Study):
    """Makes images for each network of the paper, and shows them to all others: across hyperparameters, and across
    disjoint halves of the training set. Compares single units with random directions."""

    name: ClassVar[str] = "intriguing"
    title: ClassVar[str] = "Intriguing properties of neural networks, run again"

    @property
    def size(self) -> Size:
        return FULL if self.full else QUICK

    def blocks(self, book: Notebook) -> list[Block]:
        values, size = math.prod(self.images().shape), self.size
        attack = Szegedy(radius=values**0.5)  # no change within the box is larger in l2
        simplified = LegacyL1(radius=values, steps=size.steps)
        cells = [f"train-{number}-{net.network}" for number, net in enumerate(NETS)]
        errors = [
            trained(self, book, cell, net, size.training, size.epochs) for cell, net in zip(cells, NETS, strict=True)
        ]
        train = self.images("train", size.images)
        models = self._matrix(book, "models", cells, train, attack, (0.1, 0.3))
        simple = self._matrix(book, "simplified", cells, train.part(torch.arange(size.simplified)), simplified, ())
        halves, shares = self._halves(book)
        parts = self._matrix(book, "halves", halves, self.images("test", size.images), attack, (0.06, 0.1))
        return [
            *page.networks(errors, models),
            *page.across_models(models),
            *page.simplified(simple),
            *page.across_halves(shares, parts),
            *page.units(*self._units(book, cells[3])),
            *page.detector(*self._detector(book, attack)),
        ]

    def _matrix(
        self, book: Notebook, which: str, cells: list[str], data: ImageData, attack: Attack, noise: tuple[float, ...]
    ) -> list[Values]:
        """Rows of a transfer matrix (see `Transfer`): images of each network, judged by all, and noise at the end."""
        judges = [self.model(book, cell) for cell in cells]
        rows: list[Values] = []
        for number, source in enumerate(judges):

            def work(source: Any = source) -> tuple[Values, dict[str, Tensor]]:
                made = Transfer((attack,), amplify=AMPLIFIED)
                return {"rows": made.measure([source], data, judges, targets="random", seed=self.seed)}, {}

            about = {**plain(attack), "count": len(data)}
            for row in book.cell(f"{which}-{number}", about, work)[0]["rows"]:
                rows.append({**row, "source": number})

        def drown() -> tuple[Values, dict[str, Tensor]]:
            return {"rows": Transfer(noise=noise).measure([], data, judges, seed=self.seed)}, {}

        return [*rows, *(book.cell(f"{which}-noise", {"noise": noise}, drown)[0]["rows"] if noise else ())]

    def _halves(self, book: Notebook) -> tuple[list[str], list[tuple[float, ...]]]:
        """The networks of disjoint halves by their cells, and the errors of each on both halves and the test images."""
        whole, size = self.images("train", self.size.training), self.size
        first = torch.from_numpy(stratified(whole.labels.numpy(), len(whole) // 2, self.seed))
        rest = torch.ones(len(whole), dtype=torch.bool).index_fill(0, first, False)
        halves = (whole.part(first), whole.part(rest.nonzero().squeeze(1)))
        cells, shares = [], []
        for number, (_, network, half, seed) in enumerate(HALVES):
            cell = f"train-half-{number}-{network}"
            told = self.train(book, cell, settings(network, DECAY, "adam", None, size.epochs, seed), data=halves[half])
            on = [error(self, book, cell, f"p{place}", part) for place, part in enumerate(halves, 1)]
            cells.append(cell)
            shares.append((*on, 1 - told["accuracy"]))
        return cells, shares

    def _detector(self, book: Notebook, attack: Attack) -> tuple[Values, Values]:
        """A quocnet that learned without labels, and a detector of one class on top of it: errors, and the row of its
        smallest changes, on as many test images of the class as others."""
        cell, learning = "train-detector", WithoutLabels(epochs=self.size.filters)

        def work() -> tuple[Values, dict[str, Tensor]]:
            train = one_against_all(self.images("train", self.size.training))
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                network = build("quocnet", classes=2, channels=train.shape[0], size=train.shape[1])
            assert isinstance(network, torch.nn.Sequential)
            told = learning.fit(network, train, seed=self.seed)
            fit_detector(network, train)
            info = {"objective": told, "images": len(train)}
            path = book.path / "models" / "detector" / "model.safetensors"
            save_model(path, network, network="quocnet", settings={}, shape=train.shape, classes=2, info=info)
            return info, {}

        book.cell(cell, {**plain(learning), "limit": self.size.training}, work)
        test = one_against_all(self.images("test"))
        found = {"error": error(self, book, cell, "test", test), "share": float(test.labels.double().mean())}
        half = self.size.images // 2
        rows = torch.cat([(test.labels == label).nonzero().squeeze(1)[:half] for label in (0, 1)])

        def fool() -> tuple[Values, dict[str, Tensor]]:
            model = self.model(book, cell)
            return {"rows": Transfer((attack,)).measure([model], test.part(rows), [model], seed=self.seed)}, {}

        made = book.cell("detector-fooled", {**plain(attack), "count": len(rows)}, fool)[0]["rows"]
        return found, {row["variant"]: row for row in made}

    def _units(self, book: Notebook, cell: str) -> tuple[Units, Values, ImageData]:
        """Units and random directions of the last hidden layer, on the test images."""
        look, data = Units("sigmoid2"), self.images("test")

        def work() -> tuple[Values, dict[str, Tensor]]:
            return {"found": look.measure(self.model(book, cell), data, seed=self.seed)}, {}

        return look, book.cell("units", plain(look), work)[0]["found"], data


def one_against_all(data: ImageData, label: int = 0) -> ImageData:
    """The images of the data, labelled 1 where they are of this class and 0 where they are not."""
    images = torch.cat([images for images, _, _ in data.batches(2000)])
    return dataset((images, (data.labels == label).long()), split=data.split)
