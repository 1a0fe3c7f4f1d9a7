"""What studies share: their settings, the networks they train, and the images they attack."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch

from ..classifiers import Classifier
from ..data import ImageData, dataset
from ..errors import BlindspotsError
from ..evaluation.intervals import share
from ..hardware import made_with
from ..report.words import interval, percent
from ..training import TrainSettings, fit
from ..wrapping import classifier
from .notebook import Notebook, Values
from .page import Block, Paragraph

if TYPE_CHECKING:
    from torch import Tensor

    from ..result import Result


@dataclass(frozen=True)
class Victims:
    """Correctly classified images (N, C, H, W) with labels and stable index (N,)."""

    images: Tensor
    labels: Tensor
    index: Tensor

    def head(self, count: int) -> Victims:
        return Victims(self.images[:count], self.labels[:count], self.index[:count])

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Study(ABC):
    """A classic experiment, run again.

    Fields: `full` size or the quick one; the data by name and its folder; the seed of all randomness; the device; the
    folder of the study, which goes on where it stopped.
    """

    name: ClassVar[str]
    title: ClassVar[str]

    full: bool = False
    data: str = "mnist"
    data_dir: str | None = None
    seed: int = 0
    device: str = "auto"
    out: str = ""

    @property
    def folder(self) -> Path:
        """As given, or runs/NAME-DATA-SIZE."""
        size = "full" if self.full else "quick"
        return Path(self.out or f"runs/{self.name}-{Path(self.data).name}-{size}")

    @abstractmethod
    def blocks(self, book: Notebook) -> list[Block]:
        """Do the experiments, cell by cell, and tell what they found."""

    def run(self, tell: Callable[[str], None]) -> list[Block]:
        """Do it in its folder; what is done already is read."""
        settings = {"study": self.name, "full": self.full, "data": self.data, "seed": self.seed}
        book = Notebook(self.folder, settings, tell)
        try:
            return [*self.blocks(book), self._conditions()]
        finally:
            book.close()

    def train(self, book: Notebook, cell: str, settings: TrainSettings, data: ImageData | None = None) -> Values:
        """Train a network in the study's folder, on the given images if any; the cell knows its test accuracy.

        The seed of the settings is added to the study's.
        """
        place = book.path / "models" / cell.removeprefix("train-")
        whole = replace(
            settings,
            data=self.data,
            data_dir=self.data_dir,
            seed=self.seed + settings.seed,
            device="cpu" if self.device == "auto" and not torch.cuda.is_available() else self.device,
            threads=1,
            out=str(place),
        )

        def work() -> tuple[Values, dict[str, Tensor]]:
            trained = fit(whole, data=data, test=None if data is None else self.images("test"))
            return {"accuracy": trained.test_accuracy, "training": trained.seconds}, {}

        told = {k: v for k, v in whole.plain().items() if k not in ("out", "data_dir", "device", "checkpoint_seconds")}
        if data is not None:
            told["fingerprint"] = data.fingerprint()
        # Networks of the study itself are named from its folder, which may be moved.
        told["method_settings"] = {
            name: value.replace(str(book.path), "") if isinstance(value, str) else value
            for name, value in whole.method_settings.items()
        }
        return book.cell(cell, told, work)[0]

    def model(self, book: Notebook, cell: str) -> Classifier:
        """The network that `train` made in this cell."""
        return _load(str(book.path / "models" / cell.removeprefix("train-") / "model.safetensors"), self.device)

    def images(self, split: str = "test", limit: int | None = None) -> ImageData:
        """The data of the study, or `limit` images of it, of every class its share."""
        return _data(self.data, split, self.data_dir, limit, self.seed)

    def victims(self, model: Classifier, count: int, split: str = "test") -> Victims:
        """The first images of the split that the model gets right."""
        return first_right(model, self.images(split), count)

    def _conditions(self) -> Block:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return Paragraph(
            f"Data: {self.data}; seed {self.seed}; {'full' if self.full else 'quick'} size. {made_with(device)}. "
            "Intervals are 95 % Clopper-Pearson intervals of the share of images; they tell nothing of other "
            "trainings of these networks."
        )


@cache
def _load(path: str, device: str) -> Classifier:
    model = classifier(path, device=device)
    # Few images are left at the end of a search, and calls are filled up to the batch; at 16 a call is nearly as cheap
    # an image as it gets on a CPU. Given, it also lets a study go on with the same rounding.
    model.batch = 16 if model.device.type == "cpu" else None
    return model


@cache
def _data(name: str, split: str, data_dir: str | None, limit: int | None, seed: int) -> ImageData:
    return dataset(name, split=split, data_dir=data_dir, limit=limit, seed=seed)


def first_right(model: Classifier, data: ImageData, count: int) -> Victims:
    """The first images of the data that the model gets right: `count` of them, or as many as there are."""
    parts: list[Victims] = []
    found = 0
    for start in range(0, len(data), 500):
        images, labels, index = data.batch(start, min(start + 500, len(data)))
        right = (model.logits(images).argmax(1).cpu() == labels).nonzero().squeeze(1)
        parts.append(Victims(images[right], labels[right], index[right]))
        found += len(right)
        if found >= count:
            break
    if not found:
        raise BlindspotsError(f"the network gets none of the {len(data)} images of '{data.name}' right")
    return Victims(*(torch.cat([getattr(p, n) for p in parts]) for n in ("images", "labels", "index"))).head(count)


def told(result: Result, steps: int) -> Values:
    """What a cell keeps of a result: counts and means as plain numbers."""
    success, attacked = result.success, result.clean_correct
    moved = {
        name: result.size[name][success]
        for name in ("flow", "flow_mean", "flow_loss", "l2", "linf")
        if name in result.size
    }
    return {
        "of": len(result),
        "success": int(success.sum()),
        "changed": int((attacked & (result.prediction != result.labels)).sum()),
        "ended": int((result.steps < steps).sum()),
        "margin": float(result.margin.median()),
        "gradients": float(result.backwards.double().mean()),
        **{name: float(values.mean()) if len(values) else None for name, values in moved.items()},
    }


def rate(count: int, of: int) -> str:
    """A share with its interval, as "93.0 % [86.1-97.1]"."""
    found = share(count, of)
    return f"{percent(found['value'])} [{interval(found)}]" if of else "–"
