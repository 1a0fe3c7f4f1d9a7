"""Activation maps of clean and of attacked images side by side, and how much the attack moves them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from ..errors import BlindspotsError
from ..settings import at_least, one_of
from .activation import Method, activation_maps, enlarged, last_spatial, pooled_head, rank_correlation
from .subjects import right_ones, subjects

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from ..classifiers import Classifier
    from ..data import ImageData
    from ..result import Result
    from ..studies.page import Block
    from ..studies.study import Victims
    from .page import Analysed

PAPER = ("uniform-noise", "fgsm", "cw", "stadv:steps=20,halvings=3,restarts=0")


@dataclass(frozen=True)
class Maps:
    """Where does the network look? Activation maps of clean images beside those of attacked ones.

    Of every attack it is measured how far the order of the places changes: Spearman's rank correlation of the map of
    the clean image and that of the attacked one, in the resolution of the layer, for the class of the label (what is
    left of it) and for the class that is answered (where the network looks now). The second changes with the class
    alone, so beside it stands what the clean image gives: its map of the label against its map of the class that the
    attacked one is taken for. Means over the images are given with Student's 95 % interval. Noise, which fools few
    images, is another control.

    Source: CAM: Zhou et al. 2016, arXiv:1512.04150; Grad-CAM: Selvaraju et al. 2017, arXiv:1610.02391; maps of
    attacked images: Xiao et al. 2018, arXiv:1801.02612, section 4.5.
    Differs from the papers: maps keep their sign for the correlation, so that places without a vote are no ties; the
    pictures show the positive part, as Grad-CAM does.
    """

    name: ClassVar[str] = "maps"
    title: ClassVar[str] = "Activation maps of clean and of attacked images"

    layer: str | None = None
    """Layer whose places are mapped (blindspots analyze layers); by default the last one of the resolution of the last
    convolution."""
    method: Method = "auto"
    """cam (networks that end in a global average and one linear layer), grad-cam, or auto: cam where it applies."""
    attacks: tuple[str, ...] = PAPER
    """Attacks as written for evaluate; those without a radius have the largest usual one of the data."""
    images: int = 100
    """Number of images, the first that the network gets right."""
    shown: int = 6
    """How many of them the page shows."""

    def __post_init__(self) -> None:
        at_least(self, images=1, shown=1)
        one_of(self, "method", get_args(Method))
        if not self.attacks:
            raise BlindspotsError("Maps.attacks must name at least one attack, such as fgsm")

    def __call__(self, model: Any, data: Any, *, seed: int = 0, out: str | Path | None = None) -> Analysed:
        """Attack, map and compare.

        Args:
            model: a classifier, or anything that `bs.classifier` takes.
            data: labelled images, as `bs.dataset` takes them.
            seed: of the attacks.
            out: folder to write page and JSON into.

        Raises:
            BlindspotsError: a layer that does not exist or has no places, fewer images than asked for, an attack that
                does not exist, no captum for Grad-CAM.
        """
        from ..evaluation.defaults import usual_attack
        from .page import analysed

        wrapped, images = subjects(model, data)
        attacks = [usual_attack(text, images.name) for text in self.attacks]
        victims = right_ones(wrapped, images, self.images, "Maps.images")
        layer = self.layer or last_spatial(wrapped, wrapped.accept(victims.images[:1]))
        method = self._method(wrapped, victims.images, layer)
        clean = activation_maps(wrapped, victims.images, victims.labels, layer, method)
        found: list[tuple[str, Result, dict[str, Any], Tensor]] = []
        for attack in attacks:
            result = attack(wrapped, victims.images, victims.labels, index=victims.index, seed=seed)
            of_label = activation_maps(wrapped, result.images, victims.labels, layer, method)
            of_answer = activation_maps(wrapped, result.images, result.prediction, layer, method)
            bare = activation_maps(wrapped, victims.images, result.prediction, layer, method)
            told = _told(result, *(rank_correlation(clean, maps) for maps in (of_label, of_answer, bare)))
            found.append((_label(attack, found), result, told, of_answer))
        values = {
            "layer": layer,
            "method": method,
            "places": list(clean.shape[1:]),
            "images": len(victims),
            "attacks": [{"attack": label, **told} for label, _, told, _ in found],
        }
        blocks = _blocks(values, images, victims, clean, found, self.shown)
        return analysed(self.name, self.title, blocks, values, models=(wrapped,), data=images, seed=seed, out=out)

    def _method(self, model: Classifier, images: Tensor, layer: str) -> Literal["cam", "grad-cam"]:
        if self.method != "auto":
            return self.method
        return "cam" if pooled_head(model, model.accept(images), layer) is not None else "grad-cam"


def _label(attack: Any, found: list[Any]) -> str:
    """The name of the attack with its radius, numbered where it was there before."""
    label = f"{attack.name} {attack.radius}"
    times = sum(entry[0].split(" #")[0] == label for entry in found)
    return label if not times else f"{label} #{times + 1}"


def _told(
    result: Result, of_label: NDArray[np.float64], of_answer: NDArray[np.float64], bare: NDArray[np.float64]
) -> dict[str, Any]:
    """Shares and means of one attack; images of which a map is constant are counted and left out."""
    import numpy as np

    from ..evaluation.intervals import mean, share

    fooled = result.success.numpy()

    def of(values: NDArray[np.float64], rows: NDArray[np.bool_]) -> dict[str, Any]:
        chosen = values[rows]
        return {**mean(chosen[np.isfinite(chosen)].tolist()), "undefined": int(np.isnan(chosen).sum())}

    return {
        "fooled": share(int(fooled.sum()), len(fooled)),
        "label": of(of_label, fooled),
        "answer": of(of_answer, fooled),
        "answer_clean": of(bare, fooled),
        "label_all": of(of_label, np.ones_like(fooled)),
    }


def _blocks(
    values: dict[str, Any], data: ImageData, victims: Victims, clean: Tensor, found: list[Any], shown: int
) -> list[Block]:
    from ..evaluation.summary import class_name
    from ..report.words import spread
    from ..studies.page import Paragraph, Picture, Table, Title
    from ..studies.pictures import grid, heated
    from ..studies.study import rate

    count = min(shown, len(victims))
    size = (int(victims.images.shape[2]), int(victims.images.shape[3]))
    cells: dict[tuple[int, int], Tensor] = {}
    marked: set[tuple[int, int]] = set()
    columns = ["clean", "map", *(word for label, *_ in found for word in (label, "map"))]
    sets = [(victims.images, clean, None), *((result.images, maps, result.success) for _, result, _, maps in found)]
    for place, (images, maps, success) in enumerate(sets):
        heat = enlarged(maps[:count], size).cpu()
        for row in range(count):
            image = images[row].cpu().float()
            cells[row, 2 * place], cells[row, 2 * place + 1] = image, heated(image, heat[row].float())
            if success is not None and bool(success[row]):
                marked.add((row, 2 * place))
    names = [class_name(list(data.class_names), int(label)) for label in victims.labels[:count]]
    rows = [
        (
            entry["attack"], rate(entry["fooled"]["count"], entry["fooled"]["of"]), spread(entry["label"]),
            spread(entry["answer"]), spread(entry["answer_clean"]), spread(entry["label_all"]),
        )
        for entry in values["attacks"]
    ]  # fmt: skip
    undefined = sum(entry["label_all"]["undefined"] for entry in values["attacks"])
    places = " x ".join(map(str, values["places"]))
    kind = "class activation maps" if values["method"] == "cam" else "Grad-CAM (captum)"
    return [
        Title("Where the network looks"),
        Paragraph(
            f"Maps are {kind} of layer '{values['layer']}', {places} places: warm places speak for the class. The map "
            "of a clean image is that of its label, the map of an attacked image that of the class that is answered. "
            "Images that are fooled are framed."
        ),
        Picture("maps.png", grid(cells, names, columns, marked), "Images and maps, clean and attacked"),
        Title("How much the maps move"),
        Paragraph(
            f"Rank correlation (Spearman) of the {places} places of the clean map and the attacked one: 1 is the same "
            "order, 0 none in common. The class is the label, then the answer. The answer is another class, whose map "
            "differs on the clean image too: the next column has both classes on the clean image. "
            "The means are of the images that are fooled, in the last column of all of them. In brackets Student's "
            "95 % interval of the mean."
            + (f" {undefined} maps are constant and have no order; they are left out." if undefined else "")
        ),
        Table(
            "Rank correlation of activation maps, clean against attacked",
            (
                "attack",
                "fooled",
                "map of the label",
                "map of the answer",
                "both classes, clean image",
                "map of the label, all images",
            ),
            rows,
        ),
    ]
