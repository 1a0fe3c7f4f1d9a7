"""UAP: one perturbation for all images, gathered from the smallest steps that fool them one by one."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..attacks.deepfool import DeepFool
from ..errors import BlindspotsError
from ..lazy import torch
from ..settings import above, at_least, one_of, plain, read_radius
from .fitted import Fitted, Watched, cost, split
from .perturbation import Delta, onto_ball

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..classifiers import Classifier
    from ..data import ImageData


@dataclass(frozen=True)
class UAP:
    """Universal adversarial perturbation: with k(x) the prediction, for one image after the other in random order,

        if k(x + v) = k(x):  v <- project(v + argmin ||r||_2 over k(x + v + r) != k(x)),

    projected onto ||v||_p <= radius, until the fooling rate, the share of images with k(x + v) != k(x), is `rate`, or
    `epochs` passes are done. r is found by DeepFool. With a target t, x + v + r is taken for t, and images that are
    predicted as t already are left out. Every x + v is clamped to [0, 1].

    Cost: forwards 1 for each image to know k(x), then for each pass 2 for each image (is it fooled before its turn, and
    after the pass) and those of DeepFool for those that are visited; `Fitted` tells what was spent.
    Source: Moosavi-Dezfooli et al. 2017, "Universal adversarial perturbations", arXiv:1610.08401.
    Differs from the paper: which images v fools already is asked for `screen` images in one call, so an image that a
    visit before it within these has undone is not visited before the next pass (`screen=1` is the paper's order; an
    image fooled meanwhile is skipped either way). x + v is clamped to [0, 1], and DeepFool's steps, of the smallest
    size in `norm`, stay in that box. The v of the pass with the highest fooling rate is returned, not that of the last.
    Images of the data are held out to measure the rate on; targets.
    """

    name: ClassVar[str] = "uap"
    summary: ClassVar[str] = "the smallest steps that fool image after image, added up (Moosavi-Dezfooli et al. 2017)"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")

    radius: float | str
    """Radius in the norm, in pixel units of [0, 1], such as 0.04 or 10/255."""
    norm: Literal["linf", "l2"] = "linf"
    """Norm of the ball: linf or l2."""
    epochs: int = 10
    """Passes over the images at most."""
    rate: float = 0.8
    """Fooling rate on the fitted images that ends the search, above 0 and at most 1: 1 - delta of the paper."""
    steps: int = 10
    """Steps of DeepFool for an image at most; where they do not fool it, v stays as it is."""
    overshoot: float = 0.02
    """How much further than the boundary DeepFool goes, as a share of its step."""
    rivals: int = 9
    """Number of likeliest other classes whose boundaries DeepFool looks at; with the label the paper's ten."""
    screen: int = 64
    """Images of which those that v fools already are left out by one call."""
    held_out: float = 0.2
    """Share of the images that v is not fitted on, above 0 and below 1."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        at_least(self, epochs=1, steps=1, overshoot=0, rivals=1, screen=1)
        above(self, rate=0, held_out=0)
        if self.rate > 1:
            raise BlindspotsError(f"UAP.rate must be at most 1, got {self.rate}")
        if self.held_out >= 1:
            raise BlindspotsError(f"UAP.held_out must be below 1, got {self.held_out}")

    def fit(
        self,
        classifier: Classifier | nn.Module | str,
        data: ImageData | Any,
        *,
        seed: int = 0,
        targets: int | None = None,
        limit: int | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Fitted:
        """Fit a perturbation to images of the data and measure it on the others.

        Args:
            classifier: a classifier, a module, or a name or path as `blindspots.classifier` takes it.
            data: as `dataset` makes it, or what `dataset` takes.
            seed: which images are held out, and the order of the others in each pass.
            targets: the class that all images are to be taken for; by default any but the one predicted.
            limit: number of images used, the held-out ones among them; all by default.
            progress: called with a few words after each piece.

        Raises:
            BlindspotsError: data, target or limit that cannot be used, or no image of which a step was found.

        >>> import torch, blindspots as bs
        >>> model = bs.classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)), batch=8)
        >>> done = bs.UAP("0.2", epochs=1).fit(model, bs.dataset("digits", limit=20))
        >>> done.fitted_on.fooling["of"], done.held_out.fooling["of"], done.perturbation.shape
        (16, 4, (1, 8, 8))
        """
        from ..data import dataset
        from ..wrapping import classifier as wrap

        wrapped, images = wrap(classifier), dataset(data)
        rows, held = split(images, self.held_out, seed, limit)
        # Visits are of one image: filled up to a larger model batch, each would cost that many.
        single = copy.copy(wrapped)
        single.batch, single.channels_last = 1, False
        with wrapped.session(), single.session():
            self._check_target(targets, wrapped.count(wrapped.accept(images.batch(0, 1)[0])))
            watched = Watched(wrapped, images, rows, targets)
            search = _Search(self, single, watched, seed, progress)
            delta = search.run()
            others = Watched(wrapped, images, held, targets)
            fitted_on, held_out = watched.rates(delta), others.rates(delta)
        forwards = watched.forwards + others.forwards + search.forwards
        meta = {
            "settings": {**plain(self)},
            "seed": seed,
            "target": targets,
            "model": {"name": wrapped.name, "hash": wrapped.hash},
            "data": {key: value for key, value in images.describe().items() if key != "notes"},
            "fitted_on": fitted_on.to_json(),
            "held_out": held_out.to_json(),
            "epochs": search.epochs,
            "forwards": forwards,
            "backwards": search.backwards,
        }
        perturbation = Delta(delta, self.norm, str(self.radius), self.name, meta)
        spent = cost(perturbation, images, held)
        return Fitted(
            perturbation, fitted_on, held_out, search.epochs, search.reached, forwards, search.backwards,
            sizes=spent.sizes, seconds=spent.seconds,
        )  # fmt: skip

    def _check_target(self, target: int | None, classes: int) -> None:
        if target is None:
            return
        if isinstance(target, bool) or not isinstance(target, int) or not 0 <= target < classes:
            raise BlindspotsError(
                f"targets must be one class from 0 to {classes - 1}, since the perturbation is one for all images; got "
                f"{target!r}"
            )


class _Search:
    """One run of UAP over the watched images; what it spent."""

    def __init__(
        self, settings: UAP, single: Classifier, watched: Watched, seed: int, progress: Callable[[str], None] | None
    ) -> None:
        self._settings, self._single, self._watched, self._seed = settings, single, watched, seed
        self._say = progress or (lambda text: None)
        self.forwards, self.backwards, self.epochs, self.reached = 0, 0, 0, False
        images = watched.images(torch.arange(1))
        # Every point of the box is allowed to DeepFool: the ball is that of v.
        room = 1.0 if settings.norm == "linf" else math.sqrt(images[0].numel())
        self._attack = DeepFool(
            room, settings.norm, steps=settings.steps, overshoot=settings.overshoot, stride=1, rivals=settings.rivals,
            polish=0,
        )  # fmt: skip
        self._zero = torch.zeros_like(images[0])

    def run(self) -> Tensor:
        """The perturbation (C, H, W) of the pass with the highest fooling rate."""
        watched, settings = self._watched, self._settings
        count = int(watched.open.sum())
        if not count:
            raise BlindspotsError(
                f"none of the {len(watched)} images can be fooled: all are predicted as the target already, or the "
                "model answers with NaN or infinite logits; choose another target or check the model"
            )
        delta, best, most = self._zero, self._zero, -1
        while self.epochs < settings.epochs and not self.reached:
            for places in torch.split(watched.order(self._seed, self.epochs), settings.screen):
                delta = self._screened(places, delta)
            fooled = watched.count(delta)
            if fooled > most:
                best, most = delta, fooled
            self.epochs += 1
            self.reached = fooled >= settings.rate * count
            self._say(f"pass {self.epochs} of {settings.epochs}: {fooled} of {count} images fooled")
        if float(settings.radius) > 0 and not bool(best.any()):
            raise BlindspotsError(
                f"no step that fools an image was found for any of {count} images within {settings.steps} steps of "
                "DeepFool: the gradients of the model may vanish (a softmax at its end?), or UAP.steps is too small"
            )
        return best

    def _screened(self, places: Tensor, delta: Tensor) -> Tensor:
        """v after a visit to those of the images that it does not fool."""
        images = self._watched.images(places)
        left = (~self._watched.fooled(images, places, delta)).nonzero().squeeze(1)
        for number in left.tolist():
            delta = self._visited(images[number : number + 1], places[number : number + 1], delta)
        return delta

    def _visited(self, image: Tensor, place: Tensor, delta: Tensor) -> Tensor:
        """v with the smallest step added that takes the image over a boundary, projected."""
        settings, watched = self._settings, self._watched
        before = (image + delta).clamp(0, 1)
        found = self._attack(
            self._single, before, watched.predictions[place].to(image.device), targets=watched.target,
            index=watched.index[place], seed=self._seed,
        )  # fmt: skip
        self.forwards += int(found.forwards)
        self.backwards += int(found.backwards)
        if not bool(found.success):
            return delta
        # Where x + v is cut off by the box, v is what is left of it, else the step would not arrive.
        moved = torch.where(found.images == before, delta, found.images - image)[0]
        return onto_ball(moved, settings.norm, float(settings.radius))
