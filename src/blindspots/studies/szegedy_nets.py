"""The networks of Szegedy et al. 2014, "Intriguing properties of neural networks", arXiv:1312.6199, and how they are
trained, for the studies of that paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..training import TrainSettings
from ..training.settings import Optimiser
from .notebook import Notebook, Values
from .study import Study

if TYPE_CHECKING:
    from torch import Tensor

    from ..data import ImageData


@dataclass(frozen=True)
class Net:
    """A network with its weight decay: lambda as printed and for each layer, and what the paper measured: errors in
    percent and the distortion."""

    name: str
    network: str
    decay: str
    layer_decay: tuple[float, ...]
    train_error: float
    test_error: float
    distortion: float
    optimiser: Optimiser = "adam"


# In the order of the paper's table 1. An autoencoder has a decoder too, whose weights stay as they are.
NETS = (
    Net("FC10", "fc10", "1e-4", (1e-4,), 6.7, 7.4, 0.062, "sgd"),
    Net("FC10", "fc10", "1e-2", (1e-2,), 10.0, 9.4, 0.1, "sgd"),
    Net("FC10", "fc10", "1", (1.0,), 21.2, 20.0, 0.14, "sgd"),
    Net("FC100-100-10", "fc100-100-10", "1e-5, 1e-5, 1e-6", (1e-5, 1e-5, 1e-6), 0.0, 1.64, 0.058),
    Net("FC200-200-10", "fc200-200-10", "1e-5, 1e-5, 1e-6", (1e-5, 1e-5, 1e-6), 0.0, 1.54, 0.065),
    Net("AE400-10", "ae400-10", "1e-6", (1e-6, 0.0, 1e-6), 0.57, 1.9, 0.086),
)


def settings(
    network: str, layer_decay: tuple[float, ...], optimiser: Optimiser, limit: int | None, epochs: int, seed: int = 0
) -> TrainSettings:
    """How a network of the paper is trained: sigmoid units, images in [0, 1], the paper's weight decay."""
    return TrainSettings(
        network=network,
        limit=limit,
        epochs=epochs,
        batch=100,
        optimiser=optimiser,
        learning_rate=0.1 if optimiser == "sgd" else 3e-3,
        layer_decay=layer_decay,
        schedule="cosine" if optimiser == "sgd" else "onecycle",
        normalisation="none",
        validation=0.0,
        seed=seed,
    )


def trained(study: Study, book: Notebook, cell: str, net: Net, limit: int | None, epochs: int) -> Values:
    """Train a network of the paper in this cell; its errors on the training and the test images, as shares."""
    told = study.train(book, cell, settings(net.network, net.layer_decay, net.optimiser, limit, epochs))
    return {"train": error(study, book, cell, "train", study.images("train", limit)), "test": 1 - told["accuracy"]}


def error(study: Study, book: Notebook, cell: str, on: str, data: ImageData) -> float:
    """The share of images that the network of a cell gets wrong, found in a cell of its own."""

    def work() -> tuple[Values, dict[str, Tensor]]:
        model = study.model(book, cell)
        right = sum(
            int((model.logits(images).argmax(1).cpu() == labels).sum()) for images, labels, _ in data.batches(2000)
        )
        return {"error": 1 - right / len(data)}, {}

    found: float = book.cell(cell.replace("train", f"error-{on}"), {"count": len(data)}, work)[0]["error"]
    return found
