"""What a transfer matrix is made of: a batch, what was made from it, rows that count, networks that judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..errors import BlindspotsError
from ..lazy import torch
from .distortions import distortion

if TYPE_CHECKING:
    from torch import Tensor

    from ..classifiers import Classifier
    from ..data import ImageData

Counted = Literal["fooled", "both", "all"]
Variant = Literal["attack", "perturbation", "amplified", "control", "noise"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
COUNTED: tuple[Counted, ...] = get_args(Counted)


@dataclass(frozen=True)
class Batch:
    """Images with labels and stable numbers, and the classes (J, B) that the judges give to them as they are."""

    images: Tensor
    labels: Tensor
    index: Tensor
    before: Tensor


@dataclass(frozen=True)
class Made:
    """Images that were made from those of a batch.

    Attributes:
        name: what they were made for, and by what.
        source: number of the source, where there is one.
        variant: how they were made.
        images: (B, C, H, W).
        right: (B,), images that the source got right as they were; all without a source.
        success: (B,), those of them that fooled the source; all without a source.
        targets: (B,), the classes they are to be taken for, if any.
    """

    name: str
    source: int | None
    variant: Variant
    images: Tensor
    right: Tensor
    success: Tensor
    targets: Tensor | None = None


@dataclass
class Row:
    """A row of the matrix, while it is counted.

    Sums (D, J) are by denominator, in the order of `COUNTED`, and by judge.
    """

    name: str
    source: int | None
    variant: Variant
    targeted: bool
    wrong: Tensor
    of: Tensor
    hits: Tensor
    success: int = 0
    attacked: int = 0
    distortion: float = 0.0

    @classmethod
    def begun(cls, made: Made, judges: int) -> Row:
        wrong, of, hits = (torch.zeros(len(COUNTED), judges, dtype=torch.int64) for _ in range(3))
        return cls(made.name, made.source, made.variant, made.targets is not None, wrong, of, hits)

    def add(self, batch: Batch, made: Made, after: Tensor) -> None:
        """Count a batch of this row, with the classes (J, B) that the judges give to it."""
        right = batch.before == batch.labels
        everything = torch.ones_like(right)
        counted = torch.stack((everything & made.success, right & made.right, everything))
        self.of += counted.sum(2)
        self.wrong += (counted & (after != batch.labels)).sum(2)
        if made.targets is not None:
            self.hits += (counted & (after == made.targets)).sum(2)
        self.success += int(made.success.sum())
        self.attacked += int(made.right.sum())
        self.distortion += float(distortion(batch.images, made.images)[made.success].sum())

    def told(self) -> dict[str, Any]:
        """As JSON values: `wrong`, `of` and `hits` (images taken for their target) by denominator, a list over the
        judges each; `distortion` is the mean over the images that fooled the source."""
        sums = {"wrong": self.wrong, "of": self.of, "hits": self.hits}
        return {
            "name": self.name,
            "source": self.source,
            "variant": self.variant,
            "targeted": self.targeted,
            "success": self.success,
            "attacked": self.attacked,
            "distortion": self.distortion / self.success if self.success else None,
            **{what: dict(zip(COUNTED, sums[what].tolist(), strict=True)) for what in sums},
        }


def predictions(judges: Sequence[Classifier], images: Tensor) -> Tensor:
    """The classes (J, B) that the judges give to the images (B, C, H, W)."""
    return torch.stack([judge.logits(images).argmax(1).cpu() for judge in judges])


def named(models: Sequence[Classifier]) -> list[str]:
    """The names of models, by file or folder where several have the same."""
    different = list({id(model): model for model in models}.values())
    paths = [Path(model.spec or "") for model in different]
    names = distinct(
        [model.name for model in different], [path.stem for path in paths], [path.parent.name for path in paths]
    )
    known = dict(zip(map(id, different), names, strict=True))
    return [known[id(model)] for model in models]


def distinct(names: Sequence[str], *hints: Sequence[str]) -> list[str]:
    """The names; those that several have with the first kind of hint that tells all apart, or else numbered.

    >>> distinct(["pgd", "pgd", "cw"], ["0.1", "0.2", "0.1"])
    ['pgd (0.1)', 'pgd (0.2)', 'cw']
    """
    numbers = [str(number) for number in range(1, len(names) + 1)]
    whole = list(names)
    for tells in (*hints, numbers):
        if len({*whole}) == len(whole):
            break
        whole = [f"{name} ({told})" if names.count(name) > 1 else name for name, told in zip(names, tells, strict=True)]
    return whole


def agree(models: Sequence[Classifier], data: ImageData) -> None:
    """Refuse models that do not take the images of the data, or that tell different classes apart."""
    first, classes = data.batch(0, 1)[0], []
    for model in models:
        try:
            classes.append(model.logits(first).shape[1])
        except RuntimeError as error:
            raise BlindspotsError(
                f"model '{model.name}' cannot take the images of '{data.name}', of shape {data.shape} "
                f"({str(error).splitlines()[0]}): give models of the same input"
            ) from error
        if classes[-1] != classes[0]:
            raise BlindspotsError(
                f"model '{model.name}' tells {classes[-1]} classes apart and '{models[0].name}' {classes[0]}: give "
                "models of the same classes"
            )
    greatest = int(data.labels.max())
    if greatest >= classes[0]:
        raise BlindspotsError(
            f"'{data.name}' has images of class {greatest}, and the models tell {classes[0]} classes apart: give the "
            "data they were trained for"
        )
