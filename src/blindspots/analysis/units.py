"""Units against directions: have the top images of a single unit more in common than those of a direction?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from .. import noise
from ..errors import BlindspotsError
from ..lazy import torch
from ..settings import at_least, one_of
from .layers import activations, enough
from .permutation import compare
from .toplists import TopList, extended

if TYPE_CHECKING:
    from torch import Tensor

    from ..classifiers import Classifier
    from ..data import ImageData
    from .page import Analysed

Draw = Literal["normal", "uniform"]
Pool = Literal["none", "mean", "max"]
Kind = Literal["units", "directions", "random"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MEASURES = ("purity", "agreement", "distance")
_VALUES = 2**24  # pixels or answers of a layer (64 MiB) held at a time
_IMAGES = 512  # at a time at most: sorting scores gains nothing from more


@dataclass(frozen=True)
class Units:
    """The images x with the highest <phi(x), v>, for phi what a layer answers and v a single unit (v = e_i), a random
    direction (v ~ N(0, I) / ||.||), and, for comparison, for scores drawn at random.

    Of the top images of each v are measured: purity, the share of their commonest label; agreement, the share of pairs
    with the same label, whose mean for random images is that of the classes, sum_c n_c (n_c - 1) / (N (N - 1)); and
    distance, the mean l2 distance of pairs in pixel units. Kinds are compared by permutation. Units that answer all
    images alike have no top images; they are counted and left out.

    All is found in one pass over the data, whatever its size. Choice of units, directions and ties are functions of the
    seed; equal scores are ordered at random.

    Source: Szegedy et al. 2014, "Intriguing properties of neural networks", arXiv:1312.6199, section 3.
    Differs from the paper: measured, where the paper looks at pictures.
    """

    name: ClassVar[str] = "units"
    title: ClassVar[str] = "Single units and random directions"

    layer: str
    """Layer by name (blindspots analyze layers)."""
    units: int = 100
    """Units, chosen at random; of a layer with fewer all of them."""
    directions: int = 100
    """Random directions, and as many sets of random images."""
    top: int = 8
    """Images of each, at least 2."""
    draw: Draw = "normal"
    """Directions: normal, or uniform in [0, 1), which ranks by the whole activation above all."""
    pool: Pool = "none"
    """What a unit is, where a layer answers with a map for each channel: none: every position of every channel; mean or
    max over the positions: every channel."""
    permutations: int = 2000
    """Random regroupings for each comparison."""
    shown: int = 8
    """Rows of each picture sheet."""

    def __post_init__(self) -> None:
        at_least(self, units=1, directions=2, top=2, permutations=1, shown=0)
        one_of(self, "draw", get_args(Draw))
        one_of(self, "pool", get_args(Pool))

    def __call__(self, model: Any, data: Any, *, seed: int = 0, out: str | Path | None = None) -> Analysed:
        """Look at a layer.

        Args:
            model: a classifier, or anything that `bs.classifier` takes.
            data: labelled images, as `bs.dataset` takes them; held out from the training of the model.
            seed: of units, directions, random images, ties and permutations.
            out: folder to write page and JSON into.

        Returns:
            values: `width` of the layer; `constant` units left out; `means` of each measure by kind; `comparisons` (see
            `permutation.compare`), such as ["units-directions"]["purity"]; and for each kind a list of what was found
            for each v.

        Raises:
            BlindspotsError: a layer that does not exist or cannot be used, or fewer images than `top`.

        >>> import torch, blindspots as bs
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> look = bs.analysis.Units("1", directions=10, permutations=99)
        >>> found = look(bs.classifier(net, batch=64), bs.dataset("digits", limit=100))
        >>> sorted(found.values["comparisons"]["units-directions"])
        ['agreement', 'distance', 'purity']
        """
        from ..data import dataset
        from ..wrapping import classifier
        from .page import analysed
        from .units_page import blocks

        wrapped, images = classifier(model), dataset(data)
        values = self.measure(wrapped, images, seed=seed)
        return analysed(
            self.name,
            self.title,
            blocks(self, values, images),
            values,
            models=(wrapped,),
            data=images,
            seed=seed,
            out=out,
        )

    def measure(self, model: Classifier, data: ImageData, *, seed: int = 0) -> dict[str, Any]:
        """The values alone."""
        enough(data, self.top, "Units.top")
        width = self._features(model, data.batch(0, 1)[0]).shape[1]
        chosen = _choose(width, self.units, seed)
        kinds = self._measured(data, self._stream(model, data, width, chosen, seed), chosen)
        return {
            "layer": self.layer,
            "width": width,
            "constant": len(chosen) - len(kinds["units"]),
            "means": {
                kind: {name: _column(rows, name).mean().item() for name in MEASURES} for kind, rows in kinds.items()
            },
            "comparisons": {
                f"{one}-{other}": {
                    name: compare(
                        _column(kinds[one], name),
                        _column(kinds[other], name),
                        seed=seed,
                        purpose=f"{one} {other} {name}",
                        draws=self.permutations,
                    )
                    for name in MEASURES
                }
                for one, other in (("units", "directions"), ("units", "random"), ("directions", "random"))
            },
            **kinds,
        }

    def _features(self, model: Classifier, images: Tensor) -> Tensor:
        """phi (B, d) of images (B, C, H, W), on the CPU."""
        answer = activations(model, images, [self.layer])[0][self.layer]
        if self.pool == "none":
            return answer.flatten(1).cpu()
        if answer.ndim < 3:
            raise BlindspotsError(
                f"Units.pool is {self.pool}, but layer '{self.layer}' answers an image with the shape "
                f"{tuple(answer.shape[1:])}, which has no positions to pool: leave pool out"
            )
        maps = answer.flatten(2)
        return (maps.mean(2) if self.pool == "mean" else maps.amax(2)).cpu()

    def _stream(self, model: Classifier, data: ImageData, width: int, chosen: Tensor, seed: int) -> TopList:
        """The top images of all units, then all directions, then all random scores."""
        weights = self._directions(width, seed)
        largest = max(width, math.prod(data.shape))
        # No fewer than a model batch, which would be filled up otherwise.
        size = max(min(_IMAGES, _VALUES // largest), model.size(model.accept(data.batch(0, 1)[0])))
        best: TopList | None = None
        done = 0
        for images, _, index in data.batches(size):
            phi = self._features(model, images)
            if not bool(torch.isfinite(phi).all()):
                raise BlindspotsError(f"layer '{self.layer}' answers with NaN or infinite values: choose another")
            keys = noise.key(seed, index, "units")
            random = noise.uniform(keys, (self.directions,), phi.dtype)
            scores = torch.cat((phi[:, chosen], phi @ weights.to(phi.dtype), random), 1)
            rows = torch.arange(done, done + len(images))
            best = extended(best, scores, rows, noise.key(seed, index, "ties"), self.top)
            done += len(images)
        assert best is not None
        return best

    def _directions(self, width: int, seed: int) -> Tensor:
        """Random directions (d, M) of length 1."""
        keys = noise.key(seed, torch.arange(self.directions), "directions")
        drawn = (noise.normal if self.draw == "normal" else noise.uniform)(keys, (width,), torch.float32)
        return torch.nn.functional.normalize(drawn, dim=1).T

    def _measured(self, data: ImageData, best: TopList, chosen: Tensor) -> dict[str, list[dict[str, Any]]]:
        """What is known of every v, by kind; units that answer all images alike are left out."""
        labels = data.labels[best.rows]
        purity, agreement = purities(labels, data.classes)
        distance = _distances(data, best.rows)
        starts = {"units": 0, "directions": len(chosen), "random": len(chosen) + self.directions}
        names = [*chosen.tolist(), *range(self.directions), *range(self.directions)]
        ends = [*list(starts.values())[1:], len(names)]
        dead = best.constant.tolist()
        found = {
            kind: [
                {
                    "number": names[j],
                    "purity": purity[j].item(),
                    "agreement": agreement[j].item(),
                    "distance": distance[j].item(),
                    "rows": best.rows[:, j].tolist(),
                    "images": data.index[best.rows[:, j]].tolist(),
                    "labels": labels[:, j].tolist(),
                }
                for j in range(start, end)
                if not (kind == "units" and dead[j])
            ]
            for (kind, start), end in zip(starts.items(), ends, strict=True)
        }
        if not found["units"]:
            raise BlindspotsError(
                f"all {len(chosen)} units of layer '{self.layer}' answer every image alike, so none has top images: "
                "choose another layer"
            )
        return found


def purities(labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Of each column of labels (k, J): the share of the commonest label, and the share of pairs with the same (J,)."""
    length, wide = labels.shape
    counts = torch.zeros(classes, wide, dtype=torch.float64).scatter_add_(
        0, labels, torch.ones(length, wide, dtype=torch.float64)
    )
    return counts.amax(0) / length, (counts * (counts - 1)).sum(0) / (length * (length - 1))


def _distances(data: ImageData, rows: Tensor) -> Tensor:
    """The mean l2 distance (J,) between two images of each column of rows (k, J)."""
    length, wide = rows.shape
    values = length * math.prod(data.shape)
    parts = []
    for block in rows.T.tensor_split(-(-wide * values // _VALUES)):
        images = data.take(block.flatten())[0].view(*block.shape, -1)
        between = torch.cdist(images, images, compute_mode="donot_use_mm_for_euclid_dist").double()
        parts.append(between.sum((1, 2)) / (length * (length - 1)))
    return torch.cat(parts)


def _choose(width: int, count: int, seed: int) -> Tensor:
    """At most `count` units, ascending."""
    keys = noise.key(seed, torch.arange(width), "choice of units")
    return keys.argsort()[:count].sort().values


def _column(rows: list[dict[str, Any]], name: str) -> Tensor:
    return torch.tensor([row[name] for row in rows], dtype=torch.float64)
