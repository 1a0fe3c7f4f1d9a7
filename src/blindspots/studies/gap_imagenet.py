"""Generated perturbations of photographs: the settings of the paper, for a network of torchvision and your folder.

Source: Poursaeed, Katsman, Gao, Belongie 2018, "Generative adversarial perturbations", arXiv:1712.02328, sections 3.1,
3.2 and its code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..classifiers import Classifier
from ..data import dataset
from ..errors import BlindspotsError
from ..generative import FixedNoise, Method, Thresholded
from ..report.words import duration, number
from ..settings import plain
from ..wrapping import classifier
from .notebook import Notebook, Values
from .page import Block, Paragraph, Picture, Table, Title
from .pictures import grid
from .study import Study, rate

if TYPE_CHECKING:
    from torch import Tensor

    from ..data import ImageData

# As `blindspots evaluate --model` and `--weights` take them; None for random weights.
MODEL, WEIGHTS = "torchvision:vgg16", "default"
PIXELS, SHOWN = 224, 4
# The code's: Adam 2e-4, batches of 30, ten epochs; the network of residual blocks, 64 wide.
COMMON: dict[str, Any] = {
    "generator": "resnet-generator",
    "loss": "least-likely",
    "leave": "predictions",
    "rate": 2e-4,
    "minibatch": 30,
    "average": 0.0,
    "held_out": 0.5,
}


@dataclass(frozen=True)
class GapImageNetStudy(Study):
    """Fits changes of each image, and one change for all, to half of a folder of images and measures on the other."""

    name: ClassVar[str] = "gap-imagenet"
    title: ClassVar[str] = "Generative adversarial perturbations of photographs"

    def blocks(self, book: Notebook) -> list[Block]:
        if not self.data.startswith("imagefolder:"):
            raise BlindspotsError(
                f"the study gap-imagenet needs a folder of photographs, got '{self.data}': give --data imagefolder:PATH"
            )
        data = dataset(self.data, split="val", data_dir=self.data_dir, size=PIXELS, seed=self.seed)
        model = classifier(MODEL, weights=WEIGHTS, size=PIXELS, device=self.device)
        pictures: dict[tuple[int, int], Tensor] = {}
        rows, names = [], ["image"]
        for number_, (name, method) in enumerate(_methods(self.full)):
            values, tensors = self._fitted(book, number_, method, model, data)
            fooling = values["fooling"]
            size = "–" if values["l2"] is None else number(255 * values["l2"])
            rows.append((name, rate(fooling["count"], fooling["of"]), size, duration(values["fit"]),
                         number(1000 * values["each"])))  # fmt: skip
            names.append(name)
            for column, (clean, changed) in enumerate(zip(tensors["clean"], tensors["changed"], strict=True)):
                pictures |= {(0, column): clean, (len(names) - 1, column): changed}
        return [
            Title(f"{MODEL}, images that were not fitted to"),
            Paragraph(
                f"Half of {len(data)} images of {PIXELS} pixels is fitted to, the other half measured. Radii and sizes "
                "are on the scale of 0 to 255. The fooling ratio is the share of images whose prediction changes; "
                "labels are not used, so the classes of the folder need not be those of the network."
                + ("" if model.trained else " The weights of the network are random: the figures mean nothing.")
            ),
            Table("Fooling ratio", ("what", "fooling ratio", "mean l2", "fit", "milliseconds an image"), rows),
            Picture("images.png", grid(pictures, names, [""] * SHOWN, set()), "Images as they are and changed"),
        ]

    def _fitted(
        self, book: Notebook, place: int, method: Method, model: Classifier, data: ImageData
    ) -> tuple[Values, dict[str, Tensor]]:
        def work() -> tuple[Values, dict[str, Tensor]]:
            done = method.fit(model, data, seed=self.seed, checkpoint=book.path / f"{place}.checkpoint")
            done.perturbation.save(book.path / "perturbations" / f"{place}.safetensors")
            clean = data.batch(0, SHOWN)[0]
            values = {
                "fooling": done.held_out.fooling,
                "l2": done.sizes["l2"]["mean"],
                "each": done.seconds,
                "backwards": done.backwards,
            }
            return values, {"clean": clean, "changed": done.perturbation.apply(clean)}

        told = {**plain(method), "model": [MODEL, WEIGHTS, PIXELS]}
        values, tensors = book.cell(f"fit-{place}", told, work)
        return {**values, "fit": values["seconds"]}, tensors


def _methods(full: bool) -> list[tuple[str, Method]]:
    """The paper's radii; the quick size has one of each kind, and a tenth of the passes."""
    common = COMMON | {"epochs": 10.0 if full else 1.0}
    methods: list[tuple[str, Method]] = [
        (f"each image, linf {radius}", Thresholded(f"{radius}/255", **common))
        for radius in ((5, 7, 10, 13, 20) if full else (10,))
    ]
    universal = (FixedNoise("10/255", **common), FixedNoise("2000/255", "l2", **common))
    return [*methods, ("all images, linf 10", universal[0]), ("all images, l2 2000", universal[1])]
