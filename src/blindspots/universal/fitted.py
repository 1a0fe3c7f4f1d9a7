"""What a fitted perturbation does to images: shares with their intervals, and the images they are measured on."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import noise
from ..errors import BlindspotsError
from ..geometry import sizes
from ..goal import Goal
from ..lazy import torch
from .perturbation import Perturbation

if TYPE_CHECKING:
    from torch import Tensor

    from ..classifiers import Classifier
    from ..data import ImageData

# Images asked about in one piece: what is loaded at a time.
_PIECE = 512


@dataclass(frozen=True)
class Rates:
    """Shares of images, each as count, of, value, and the ends low and high of its 95 % interval.

    Args:
        fooling: images whose prediction changes; with a target, images not predicted as it that become so.
        robust: images that are classified right, without and with the perturbation.
        clean: images that are classified right without it.
    """

    fooling: dict[str, Any]
    robust: dict[str, Any]
    clean: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"fooling": self.fooling, "robust": self.robust, "clean": self.clean}


@dataclass(frozen=True)
class Fitted:
    """A perturbation and how it does.

    Args:
        perturbation: what was fitted.
        fitted_on: rates on the images it was fitted on.
        held_out: rates on images that it has not seen.
        epochs: passes over the images; reached: did the fooling rate asked for end them?
        forwards, backwards: images that went through the model, for the search and for these rates.
        sizes: of x' - x over the held-out images, in every norm: mean, least, median, most.
        seconds: to make one x', on this machine and without the model.
        transfer: rates on the held-out images with other classifiers: further ones it was fitted to, and others.
    """

    perturbation: Perturbation
    fitted_on: Rates
    held_out: Rates
    epochs: int
    reached: bool
    forwards: int
    backwards: int
    sizes: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: float = 0.0
    transfer: dict[str, Rates] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """What a perturbation does to held-out images, without the model: sizes of the changes, seconds for an image."""

    sizes: dict[str, dict[str, float]]
    seconds: float


def cost(perturbation: Perturbation, data: ImageData, rows: Tensor) -> Cost:
    """Sizes in each norm (mean, least, median, most) of x' - x over these rows, and the time to make an x'."""
    found: dict[str, list[Tensor]] = {}
    spent = 0.0
    for part in torch.split(rows, _PIECE):
        images = data.take(part)[0]
        started = time.perf_counter()
        changed = perturbation.apply(images)
        spent += time.perf_counter() - started
        for name, values in sizes(changed - images).items():
            found.setdefault(name, []).append(values)
    told = {}
    for name, parts in found.items():
        values = torch.cat(parts)
        told[name] = {
            "mean": float(values.mean()),
            "least": float(values.min()),
            "median": float(values.median()),
            "most": float(values.max()),
        }
    return Cost(told, spent / len(rows))


def measured(
    model: Classifier, data: ImageData, rows: Tensor, perturbation: Perturbation, targets: Tensor | None
) -> Rates:
    """The rates of a perturbation on these rows of the data; `targets` as `generative.victims.aims` gives them.

    Of a model that answers per pixel the labels are its predictions, and an image counts where half its pixels do.
    """
    from ..evaluation.intervals import share

    fooled = robust = clean = asked = 0
    for part in torch.split(rows, _PIECE):
        images, labels, _ = data.take(part)
        with torch.no_grad():
            before, after = (model.logits(x) for x in (images, perturbation.apply(images)))
        predictions = before.argmax(1)
        labels = predictions if model.per_pixel else labels.to(predictions)
        aim = targets
        if aim is not None:
            aim = (aim[part] if aim.ndim in (1, 3) else aim).to(predictions).expand_as(predictions)
        open_ = torch.isfinite(before).all(1) & (predictions >= 0 if aim is None else predictions != aim)
        right = (predictions == labels) & torch.isfinite(before).all(1)
        kept = right & (after.argmax(1) == labels) & torch.isfinite(after).all(1)
        hit = Goal(predictions, aim).reached(after) & open_
        fooled += _images(hit, open_)
        asked += int(open_.flatten(1).any(1).sum()) if model.per_pixel else int(open_.sum())
        robust += _images(kept, torch.ones_like(kept))
        clean += _images(right, torch.ones_like(right))
    return Rates(share(fooled, asked), share(robust, len(rows)), share(clean, len(rows)))


def _images(hits: Tensor, of: Tensor) -> int:
    """How many images these answers (B,) or (B, H, W) are: per pixel those with half of their pixels or more."""
    if hits.ndim == 1:
        return int(hits.sum())
    some = of.flatten(1).sum(1)
    return int(((2 * hits.flatten(1).sum(1) >= some) & (some > 0)).sum())


class Watched:
    """Some rows of a data set with the model's predictions without perturbation; inside a `session`.

    Args:
        model: the classifier.
        data: where the images are.
        rows: numbers (n,) of the rows.
        target: the class they are to be taken for, if there is one.
    """

    def __init__(self, model: Classifier, data: ImageData, rows: Tensor, target: int | None) -> None:
        self._model, self._data, self._rows, self.target = model, data, rows, target
        self.forwards = 0
        self.labels, self.index = data.labels[rows], data.index[rows]
        logits = torch.cat([self._logits(self.images(part), None) for part in self._pieces()])
        self.predictions, self._finite = logits.argmax(1), torch.isfinite(logits).all(1)
        # An image of the target class is where it is to go; an answer that is not finite says nothing.
        self.open = self._finite if target is None else self._finite & (self.predictions != target)

    def __len__(self) -> int:
        return len(self._rows)

    def images(self, places: Tensor) -> Tensor:
        """The images (p, C, H, W) at these places (p,)."""
        return self._model.accept(self._data.take(self._rows[places])[0])

    def order(self, seed: int, epoch: int) -> Tensor:
        """The places of the images that can be fooled, in the random order of an epoch."""
        drawn = noise.uniform(noise.key(seed, self.index, "uap", epoch), (1,), torch.float64).squeeze(1)
        order = drawn.argsort(stable=True)
        return order[self.open[order]]

    def fooled(self, images: Tensor, places: Tensor, delta: Tensor) -> Tensor:
        """Does delta fool the images (p, C, H, W) at these places, (p,) bool?"""
        logits = self._logits(images, delta)
        targets = None if self.target is None else torch.full_like(places, self.target)
        return Goal(self.predictions[places], targets).reached(logits) & self.open[places]

    def count(self, delta: Tensor) -> int:
        """How many of all images delta fools."""
        return sum(int(self.fooled(self.images(part), part, delta).sum()) for part in self._pieces())

    def rates(self, delta: Tensor) -> Rates:
        """The shares of all images."""
        from ..evaluation.intervals import share

        correct = (self.predictions == self.labels) & self._finite
        fooled, robust = 0, 0
        for part in self._pieces():
            logits = self._logits(self.images(part), delta)
            targets = None if self.target is None else torch.full_like(part, self.target)
            fooled += int((Goal(self.predictions[part], targets).reached(logits) & self.open[part]).sum())
            kept = (logits.argmax(1) == self.labels[part]) & torch.isfinite(logits).all(1)
            robust += int((kept & correct[part]).sum())
        # Answers that are not finite are nobody's success, and count among the images all the same.
        asked = len(self) if self.target is None else int((self.predictions != self.target).sum())
        return Rates(share(fooled, asked), share(robust, len(self)), share(int(correct.sum()), len(self)))

    def _logits(self, images: Tensor, delta: Tensor | None) -> Tensor:
        self.forwards += len(images)
        changed = images if delta is None else (images + delta.to(images)).clamp(0, 1)
        return self._model.logits(changed).cpu()

    def _pieces(self) -> tuple[Tensor, ...]:
        return torch.split(torch.arange(len(self)), _PIECE)


def split(data: ImageData, share: float, seed: int, limit: int | None) -> tuple[Tensor, Tensor]:
    """Rows to fit on and rows held out: a share of the data, or of `limit` images of it, drawn by seed and index."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 2):
        raise BlindspotsError(f"limit must be a whole number of at least 2, got {limit!r}")
    drawn = noise.uniform(noise.key(seed, data.index, "held out"), (1,), torch.float64).squeeze(1)
    rows = drawn.argsort(stable=True)[:limit]
    if len(rows) < 2:
        raise BlindspotsError("a perturbation needs at least 2 images, one to fit on and one held out: got 1")
    held = min(max(1, round(share * len(rows))), len(rows) - 1)
    return rows[held:], rows[:held]
