"""What Gaussian noise does to a network, from formulas, and how tight these are beside sampling."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ...errors import BlindspotsError
from ...lazy import torch
from ...settings import at_least, one_of
from ..layers import enough
from ..subjects import subjects

if TYPE_CHECKING:
    from torch import Tensor

    from ...classifiers import Classifier
    from ...data import ImageData
    from ..page import Analysed
    from .sampling import Sampled
    from .split import Split


@dataclass(frozen=True)
class Moments:
    """What answers does a network give on average under the noise x + n, n ~ N(0, sigma^2)? Formulas beside sampling.

    The network is linearised before and after one ReLU-like layer, between which the mean and the covariance are exact;
    chains of affine layers and ReLUs are also followed layer by layer. Told are: how near both come to sampled moments,
    for every layer that the network may be cut at and every sigma; which classes the expected answers go to as noise
    grows; at which windows of an image noise changes the answer; and accuracy against sigma, sampled, with its area.

    Source: Bibi, Alfadly, Ghanem 2018, "Analytic Expressions for Probabilistic Moments of PL-DNN with Gaussian Input".
    Differs from the paper: the covariance holds for any mean of what the layer gets; the second stage is linearised at
    the mean of the layer's answer.
    """

    name: ClassVar[str] = "moments"
    title: ClassVar[str] = "Moments under Gaussian noise"

    layer: str | None = None
    """ReLU-like layer at which the network is cut. Default: the one in the middle."""
    sigmas: tuple[float, ...] = (0.02, 0.05, 0.1)
    """Standard deviations of the noise, in pixel units of [0, 1]."""
    images: int = 20
    """Number of images whose moments are compared with sampled ones."""
    draws: int = 10000
    """Draws for each of them and each sigma. They are not kept: millions take time, not memory."""
    form: str = "general"
    """Covariance of the layer's answer: general, series, first-order, zero-mean."""
    widest: int = 512
    """Layers of more numbers than this are left out of the comparison of layers."""
    window: int = 4
    """Height and width of the windows for the maps, in pixels."""
    shown: int = 6
    """Number of images with a map."""
    curve: int = 200
    """Number of images for accuracy against sigma."""
    largest: float = 0.5
    """Largest sigma of that curve."""
    points: int = 30
    """Points of that curve, from 0 on."""

    def __post_init__(self) -> None:
        from .forms import FORMS

        at_least(self, images=1, draws=2, widest=1, window=1, shown=1, curve=1, points=2)
        one_of(self, "form", FORMS)
        if not self.sigmas or min(self.sigmas) <= 0 or self.largest <= 0:
            raise BlindspotsError(f"Moments.sigmas and largest must be above 0, got {self.sigmas} and {self.largest}")

    def __call__(self, model: Any, data: Any, *, seed: int = 0, out: str | Path | None = None) -> Analysed:
        """Compare with sampling, follow the classes, map windows, and draw accuracy against sigma.

        Args:
            model: a classifier, or anything that `bs.classifier` takes.
            data: labelled images, as `bs.dataset` takes them.
            seed: of the draws.
            out: folder to write page and JSON into.

        Raises:
            BlindspotsError: fewer images than asked for; no such layer; no ReLU-like layer; a window larger than the
                images.
        """
        from ..page import analysed
        from .moments_page import blocks
        from .split import find_split, rectifiers

        wrapped, images = subjects(model, data)
        enough(images, max(self.images, self.shown), "Moments.images")
        enough(images, self.curve, "Moments.curve")
        if self.window > min(images.shape[1:]):
            raise BlindspotsError(
                f"Moments.window must be at most {min(images.shape[1:])}, the size of the images, got {self.window}"
            )
        shown, labels, index = images.batch(0, max(self.images, self.shown))
        split = find_split(wrapped, shown, self.layer)
        others = [s for s in rectifiers(wrapped, shown) if s.width <= self.widest or s.name == split.name]
        tight, confusion = self._tightness(wrapped, split, others, shown[: self.images], labels, index, seed)
        maps = self._maps(wrapped, split, shown[: self.shown])
        values: dict[str, Any] = {
            "layer": split.name,
            "width": split.width,
            "tightness": tight,
            "confusion": confusion,
            "maps": [float(m) for m in maps.flatten(1).amax(1)],
            "curve": self._curve(wrapped, split, images, seed),
        }
        found = blocks(self, values, shown[: self.shown], maps, images.class_names)
        return analysed(self.name, self.title, found, values, models=(wrapped,), data=images, seed=seed, out=out)

    def _tightness(
        self,
        model: Classifier,
        split: Split,
        others: list[Split],
        images: Tensor,
        labels: Tensor,
        index: Tensor,
        seed: int,
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Rows of every way and sigma beside sampling, and the classes that expected answers go to."""
        from .matching import matched
        from .noise import Noise
        from .sampling import sample
        from .two_stage import two_stage

        rows, classes = [], []
        clean = model.logits(images).argmax(1).cpu()
        for sigma in self.sigmas:
            drawn = sample(model, images, Noise.of(images[0], sigma), self.draws, index=index, seed=seed)
            for other in others:
                form: Any = self.form
                found = two_stage(model, images, sigma, layer=other.name, form=form)
                rows.append({"way": other.name, "width": other.width, "sigma": sigma, **beside(found, drawn)})
                if other.name == split.name:
                    expected = found.mean.argmax(1).cpu()
                    sampled = drawn.mean.argmax(1).cpu()
                    classes.append(
                        {
                            "sigma": sigma,
                            "moved": int((expected != clean).sum()),
                            "agree": int((expected == sampled).sum()),
                            "right": int((expected == labels[: len(images)]).sum()),
                            "of": len(images),
                            "pairs": [[int(a), int(b)] for a, b in zip(clean, expected, strict=True)],
                        }
                    )
            try:
                rows.append({"way": "layer by layer", "sigma": sigma, **beside(matched(model, images, sigma), drawn)})
            except BlindspotsError:
                continue  # not a chain
        return rows, classes

    def _maps(self, model: Classifier, split: Split, images: Tensor) -> Tensor:
        """Chances (B, h, w) that the answer changes under noise of the largest sigma of all on a window."""
        from .two_stage import front, portions
        from .windows import window_chances

        images, step = model.accept(images), max(1, self.window // 2)
        with model.session(), torch.no_grad():
            return torch.cat(
                [
                    window_chances(model, front(model, part, split), self.largest, self.window, step)
                    for part in portions(images, split)
                ]
            ).cpu()

    def _curve(self, model: Classifier, split: Split, data: ImageData, seed: int) -> dict[str, Any]:
        """Accuracy under one draw of noise for each image, the analytic one, and the area under the sampled curve."""
        from ...evaluation.intervals import share
        from ...noise import key, normal
        from .noise import Noise
        from .two_stage import front, moments, portions
        from .windows import flip_chance

        images, labels, index = data.batch(0, self.curve)
        images, sigmas = model.accept(images), torch.linspace(0, self.largest, self.points).tolist()
        labels, hits = labels.to(images.device), [0] * len(sigmas)
        for start in range(0, len(images), 256):
            rows = slice(start, start + 256)
            image, label, number = images[rows], labels[rows], index[rows]
            # The same directions at every sigma: the curve is smoother than its intervals.
            keys = key(seed, number, "curve").to(images.device)
            standard = normal(keys, tuple(image.shape[1:]), image.dtype)
            with model.session(), torch.no_grad():
                for place, sigma in enumerate(sigmas):
                    answers = model.forward(image + sigma * standard, exact=True).argmax(1)
                    hits[place] += int((answers == label).sum())
        told = [0.0] * len(sigmas)
        first = 0
        with model.session(), torch.no_grad():
            for part in portions(images, split):
                begun, mine = front(model, part, split), labels[first : first + len(part)]
                first += len(part)
                for place, sigma in enumerate(sigmas):
                    found = moments(model, begun, Noise.of(images[0], sigma), form="first-order")
                    told[place] += float((1 - flip_chance(found.mean, found.covariance, mine)).sum())
        sampled = [share(count, len(images)) for count in hits]
        values = [found["value"] for found in sampled]
        area = sum((a + b) / 2 for a, b in pairwise(values)) / (len(values) - 1)
        return {
            "sigma": sigmas,
            "accuracy": sampled,
            "analytic": [count / len(images) for count in told],
            "area": area,
        }


def beside(found: Any, drawn: Sampled) -> dict[str, Any]:
    """How near moments come to sampled ones, over images and logits.

    `mean_ratio`: slope of the means on the sampled ones; `mean_error`: root mean square error of a mean, in standard
    deviations of the logit; `variance_ratio`: mean over images of the ratio of the variances, summed over logits, with
    Student's interval; `variance_error`: root mean square of a variance's relative error. Both errors are less what
    the draws themselves err by.
    """
    from ...evaluation.intervals import mean

    spread = drawn.variance.clamp(min=1e-300)
    off = (found.mean - drawn.mean).square() / spread - 1 / drawn.draws
    relative = (found.variance / spread - 1).square() - (drawn.variance_error / spread).square()
    ratios = found.variance.sum(1) / spread.sum(1)
    return {
        "mean_ratio": float((found.mean * drawn.mean).sum() / drawn.mean.square().sum()),
        "mean_error": float(off.mean().clamp(min=0).sqrt()),
        "variance_ratio": mean(ratios.tolist()),
        "variance_error": float(relative.mean().clamp(min=0).sqrt()),
    }
