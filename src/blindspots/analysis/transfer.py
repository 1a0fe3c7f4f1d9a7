"""Transfer: how many of the images that were made for one network another gets wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from .. import noise as randomness
from ..errors import BlindspotsError
from ..lazy import torch
from ..settings import above, at_least, one_of, plain
from .distortions import amplified, distortion, gaussian
from .transfer_rows import COUNTED, VARIANTS, Batch, Counted, Made, Row, Variant, agree, distinct, named, predictions

if TYPE_CHECKING:
    from torch import Tensor

    from ..attack import Attack
    from ..classifiers import Classifier
    from ..data import ImageData
    from ..several import Several
    from ..universal import Perturbation
    from .page import Analysed

BLOCK = 512  # images attacked and judged at a time


@dataclass(frozen=True)
class Transfer:
    """Rows are what images were made for, columns the networks that judge them, entries the error of the judge: the
    share of images that it does not take for their label.

    The images that are counted are chosen by `of`, and the numbers for every choice stand in the values:

    fooled: those that the source got right before and wrong after, as in the paper. The diagonal is 100 %, and a
    judge's own mistakes count. both: those that source and judge got right before; the diagonal is the success rate of
    the attack. all: all images, attacked or not; the diagonal is 1 - robust accuracy.

    Rows without a source (noise, perturbations from files) count all images for `fooled`, and those that the judge got
    right for `both`. Rows of amplified images and of controls count the images of the row that they are made from.

    Source: Szegedy et al. 2014, "Intriguing properties of neural networks", arXiv:1312.6199, section 4.2.
    Differs from the paper: intervals; controls have the distortion of each image, after the clip to [0, 1].
    """

    name: ClassVar[str] = "transfer"
    title: ClassVar[str] = "Transfer between networks"

    attacks: tuple[Attack | Several, ...] = ()
    """What makes the images."""
    of: Counted = "fooled"
    """Which images are counted: fooled, both or all."""
    amplify: float | None = None
    """Show also every change amplified to this distortion (root of the mean square, in pixel units)."""
    control: bool = True
    """Show also Gaussian noise of the same distortion, image by image."""
    noise: tuple[float, ...] = ()
    """Show also Gaussian noise of these distortions."""
    shown: int = 4
    """Images shown of each attack, the first that fooled their source."""

    def __post_init__(self) -> None:
        one_of(self, "of", COUNTED)
        above(self, amplify=0)
        at_least(self, shown=0)
        if any(not 0 < level <= 1 for level in self.noise):
            raise BlindspotsError(f"Transfer.noise must lie in (0, 1], got {self.noise}")

    def __call__(
        self,
        sources: Sequence[Any],
        data: Any,
        *,
        judges: Sequence[Any] | None = None,
        perturbations: Sequence[Perturbation | str | Path] = (),
        targets: str | int | None = None,
        seed: int = 0,
        out: str | Path | None = None,
    ) -> Analysed:
        """Fill the matrix.

        Args:
            sources: what the attacks are run against: classifiers, or anything that `bs.classifier` takes.
            data: labelled images, as `bs.dataset` takes them; of any number, read in blocks.
            judges: the networks that judge; the sources by default.
            perturbations: fitted before, or their files; one row each.
            targets: a class, or random, least-likely or second; untargeted by default.
            seed: of the attacks and of noise.
            out: folder to write page and JSON into.

        Returns:
            values: `judges` by name, `of`, and `rows`, see `Row.told`.

        Raises:
            BlindspotsError: nothing to judge, or models that do not take these images or tell other classes apart.
        """
        from ..data import dataset
        from ..wrapping import classifier
        from .page import analysed
        from .transfer_page import blocks

        models, images = [classifier(model) for model in sources], dataset(data)
        columns = models if judges is None else [classifier(model) for model in judges]
        loaded = [_loaded(given) for given in perturbations]
        fitted = (
            dict(zip(distinct(*zip(*map(_called, perturbations), strict=True)), loaded, strict=True)) if loaded else {}
        )
        seen: dict[str, list[tuple[Tensor, Tensor]]] = {}

        def see(batch: Batch, made: Made) -> None:
            kept = seen.setdefault(made.name, [])
            for place in made.success.nonzero().squeeze(1)[: self.shown - len(kept)].tolist():
                kept.append((batch.images[place], made.images[place]))

        rows = self.measure(
            models, images, columns, perturbations=fitted, targets=targets, seed=seed, see=see if self.shown else None
        )
        attacks = [{"name": attack.name, **plain(attack)} for attack in self.attacks]
        values = {
            "judges": named([*models, *columns])[len(models) :],
            "of": self.of,
            "targets": targets,
            "attacks": attacks,
            "rows": rows,
        }
        every = tuple({id(model): model for model in (*models, *columns)}.values())
        return analysed(
            self.name, self.title, blocks(values, seen), values, models=every, data=images, seed=seed, out=out
        )

    def measure(
        self,
        sources: Sequence[Classifier],
        data: ImageData,
        judges: Sequence[Classifier],
        *,
        perturbations: dict[str, Perturbation] | None = None,
        targets: str | int | None = None,
        seed: int = 0,
        see: Callable[[Batch, Made], None] | None = None,
    ) -> list[dict[str, Any]]:
        """The rows alone, as JSON values: attacks by source, perturbations by name, then what is made from them.

        `see` is shown what attacks and perturbations make, batch by batch.
        """
        perturbations = perturbations or {}
        if not judges or not ((sources and self.attacks) or perturbations or self.noise):
            raise BlindspotsError(
                "a transfer matrix needs judges, and something to judge: give sources and attacks, perturbations, or "
                "noise"
            )
        if targets == "all":
            raise BlindspotsError(
                "a transfer matrix takes one target for each image, got 'all': give random or a class"
            )
        agree([*sources, *judges], data)
        for fitted in perturbations.values():
            fitted.check(data.shape)
        names = named([*sources, *judges])[: len(sources)]
        rows: dict[tuple[Variant, str], Row] = {}
        for images, labels, index in data.batches(BLOCK):
            batch = Batch(images, labels, index, predictions(judges, images))
            for made in self._made(batch, dict(zip(names, sources, strict=True)), perturbations, targets, seed):
                row = rows.setdefault((made.variant, made.name), Row.begun(made, len(judges)))
                row.add(batch, made, predictions(judges, made.images))
                if see is not None and made.variant in ("attack", "perturbation"):
                    see(batch, made)
        return [row.told() for row in sorted(rows.values(), key=lambda row: VARIANTS.index(row.variant))]

    def _made(
        self,
        batch: Batch,
        sources: dict[str, Classifier],
        perturbations: dict[str, Perturbation],
        targets: str | int | None,
        seed: int,
    ) -> Iterator[Made]:
        """All that is made from a batch."""
        every = torch.ones_like(batch.labels, dtype=torch.bool)
        radii = [str(getattr(attack, "radius", "")) for attack in self.attacks]
        titles = distinct([attack.name for attack in self.attacks], radii)
        for number, (called, model) in enumerate(sources.items()):
            for attack, title in zip(self.attacks, titles, strict=True):
                name = called if len(self.attacks) == 1 else f"{called}, {title}"
                result = attack(model, batch.images, batch.labels, targets=targets, index=batch.index, seed=seed)
                right = result.clean_correct
                yield from self._with_variants(
                    batch,
                    Made(name, number, "attack", result.images, right, result.success & right, result.targets),
                    seed,
                )
        for name, fitted in perturbations.items():
            images = fitted.apply(batch.images)
            yield from self._with_variants(batch, Made(name, None, "perturbation", images, every, every), seed)
        for level in self.noise:
            keys = randomness.key(seed, batch.index, "transfer", f"{level:g}")
            yield Made(f"Gaussian {level:g}", None, "noise", gaussian(batch.images, level, keys), every, every)

    def _with_variants(self, batch: Batch, made: Made, seed: int) -> Iterator[Made]:
        """The images themselves, and what is made from them."""
        yield made
        if self.amplify is not None:
            louder = amplified(batch.images, made.images, self.amplify)
            yield replace(made, variant="amplified", images=louder)
        if self.control:
            keys = randomness.key(seed, batch.index, "transfer", made.name)
            drawn = gaussian(batch.images, distortion(batch.images, made.images), keys)
            yield replace(made, variant="control", images=drawn)


def _loaded(given: Perturbation | str | Path) -> Perturbation:
    from ..universal import Perturbation

    return given if isinstance(given, Perturbation) else Perturbation.load(given)


def _called(given: Perturbation | str | Path) -> tuple[str, str]:
    """A name, and the folder that may tell it from others."""
    return (Path(given).stem, str(Path(given).parent)) if isinstance(given, str | Path) else (given.method, "")
