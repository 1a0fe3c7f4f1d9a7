"""Spectral bounds: how much every layer, and the whole network, can lengthen a change of its input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..lazy import torch
from ..settings import at_least
from .layers import enough
from .subjects import subjects

if TYPE_CHECKING:
    from torch import Tensor

    from ..classifiers import Classifier
    from ..studies.page import Block
    from .chains import Walk
    from .page import Analysed


@dataclass(frozen=True)
class Spectrum:
    """How far can a small change grow? A bound L_k for every layer, L = prod L_k, and what it certifies.

    L_k is the largest singular value of a linear layer: by SVD of a dense matrix, by the Fourier form of a convolution
    (on a torus that holds its padding, which bounds the padded one), with a batch norm that follows taken together with
    it; the greatest slope of an activation; the square root of the number of windows that share a pixel, of max
    pooling. Power iteration (v <- A^T A v) checks it from below. For every image with the margin m = z_y - max z_j,
    no change of l2 norm below m / (sqrt(2) L) changes the answer. The largest norm of the whole network's Jacobian at
    the images says how far L is from the slopes that occur.

    Source: Szegedy et al. 2014, "Intriguing properties of neural networks", arXiv:1312.6199, section 4.3. Differs from
    the paper: the strided convolution's matrix is divided by s, not s^2, which is s times too small; batch norms are
    folded; certified radii are the consequence of Tsuzuku et al. 2018, arXiv:1802.04034.
    """

    name: ClassVar[str] = "spectrum"
    title: ClassVar[str] = "Spectral bounds"

    images: int = 500
    """Number of images for which a radius is certified."""
    slopes: int = 50
    """At how many of them the norm of the network's Jacobian is measured."""
    iterations: int = 200
    """Steps of the power iteration at most."""

    def __post_init__(self) -> None:
        at_least(self, images=1, slopes=0, iterations=1)

    def __call__(self, model: Any, data: Any, *, seed: int = 0, out: str | Path | None = None) -> Analysed:
        """Bound the layers and the network, and certify images.

        Args:
            model: a classifier, or anything that `bs.classifier` takes.
            data: labelled images, as `bs.dataset` takes them.
            seed: changes nothing here.
            out: folder to write page and JSON into.

        Raises:
            BlindspotsError: fewer images than asked for.

        >>> import torch, blindspots as bs
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> [row["way"] for row in bs.analysis.Spectrum(images=5, slopes=1)(net, "digits").values["layers"]]
        ['largest slope', 'SVD']
        """
        from .chains import walk
        from .page import analysed

        wrapped, images = subjects(model, data)
        enough(images, self.images, "Spectrum.images")
        shown, labels, _ = images.batch(0, self.images)
        path = walk(wrapped, shown[:1])
        rows = layer_rows(path, self.iterations)
        first = 1 / min(wrapped.std) if wrapped.std else 1.0
        bound, missing = product(rows, path, first, bool(wrapped.defences))
        logits = wrapped.logits(shown).cpu().double()
        slope = max(_slopes(wrapped, shown[: self.slopes]), default=None)
        values: dict[str, Any] = {
            "layers": rows,
            "normalisation": first,
            "bound": bound,
            "missing": missing,
            "slope": slope,
            **_certified(logits, labels, bound),
        }
        return analysed(
            self.name, self.title, self._blocks(values), values, models=(wrapped,), data=images, seed=seed, out=out
        )

    def _blocks(self, values: dict[str, Any]) -> list[Block]:
        from ..report.words import number
        from ..studies.page import Paragraph, Picture, Table, Title
        from ..studies.study import rate
        from .charts import bars_picture

        rows = values["layers"]
        cells = [
            (r["layer"], r["kind"], number(r["bound"]), r["way"], number(r["power"]), "yes" if r["exact"] else "bound")
            for r in rows
        ]
        drawn = [r for r in rows if r["bound"] is not None and r["kind"] not in ("Flatten", "Dropout", "Identity")]
        whole = (
            f"The product over the layers, with {number(values['normalisation'])} for the normalisation, is "
            f"L = {values['bound']:.4g}."
            if values["bound"] is not None
            else f"There is no bound for the whole network: {values['missing']}."
        )
        if values["slope"] is not None:
            whole += (
                f" The largest norm of the network's Jacobian at {min(self.slopes, self.images)} images is "
                f"{values['slope']:.4g}: L cannot be smaller."
            )
        blocks: list[Block] = [
            Title("Layers"),
            Paragraph(
                "How many times longer a change can become in each layer, in the Euclidean norm. Power iteration is a "
                "check from below: where the bound is exact the two agree, up to where the iteration was stopped; for "
                "a convolution padded with zeros the bound is that of a torus that holds the padding."
            ),
            Table("Operator norms", ("layer", "kind", "at most", "by", "power iteration", "exact"), cells),
            Picture(
                "layers.png",
                bars_picture(
                    [r["layer"] for r in drawn], [r["bound"] for r in drawn], [r["power"] for r in drawn],
                    "times longer, at most (bar); power iteration (tick)",
                ),
                "Bounds of the layers",
            ),
            Title("The network"),
            Paragraph(whole),
        ]  # fmt: skip
        if values["bound"] is not None:
            radii = [(f"{r:.4g}", rate(found["count"], found["of"])) for r, found in values["certified"]]
            blocks += [
                Paragraph(
                    "An image that the network gets right with the margin m keeps its answer under every change of l2 "
                    "norm below m / (sqrt(2) L). The median radius of the images got right is "
                    f"{number(values['median_radius'])}."
                ),
                Table("Images got right and certified at l2 radius", ("radius", "share of images"), radii),
            ]
        return blocks


def layer_rows(path: Walk, iterations: int) -> list[dict[str, Any]]:
    """A row for each layer: name, kind, bound, the way it was found, whether it is exact, power iteration."""
    from torch import nn

    from .norms import LINEAR, batch_norm_scale, layer_bound, layer_power

    rows = []
    folded: Tensor | None = None
    for step, then in zip(path.steps, (*path.steps[1:], None), strict=True):
        was, folded = folded, None
        kind, layer = type(step.layer).__name__, step.layer
        if was is not None:
            row = {"bound": 1.0, "way": "taken together with the layer before", "exact": True, "power": None}
            rows.append({"layer": step.name, "kind": kind, **row})
            continue
        if isinstance(layer, nn.Conv2d | nn.Linear) and then is not None and then.follows:
            norm = then.layer
            if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) and norm.running_var is not None:
                folded = batch_norm_scale(norm)
        bound = layer_bound(layer, step.given, folded)
        linear = isinstance(layer, LINEAR)
        rows.append(
            {
                "layer": step.name,
                "kind": kind,
                "bound": None if bound is None else bound.value,
                "way": "no bound known" if bound is None else bound.way,
                "exact": bound is not None and bound.exact,
                "power": layer_power(layer, step.given, folded, iterations) if linear else None,
            }
        )
    return rows


def product(rows: list[dict[str, Any]], path: Walk, first: float, defended: bool) -> tuple[float | None, str | None]:
    """The product of all bounds, or None and why there is none."""
    unknown = [row["layer"] for row in rows if row["bound"] is None]
    if defended:
        return None, "it stands behind a defence"
    if path.broken is not None:
        return None, f"it is not one layer after the other; something else happens {path.broken}"
    if unknown:
        return None, f"no bound is known for {', '.join(unknown)}"
    return first * math.prod(row["bound"] for row in rows), None


def _certified(logits: Tensor, labels: Tensor, bound: float | None) -> dict[str, Any]:
    """Certified l2 radii of the images: their median, and the share certified at some radii."""
    from ..evaluation.intervals import share

    own = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    others = logits.scatter(1, labels.unsqueeze(1), -math.inf).amax(1)
    margin = own - others
    right = margin > 0
    if bound is None:
        return {"right": share(int(right.sum()), len(right)), "radius": None, "median_radius": None, "certified": []}
    radius = (margin / (math.sqrt(2) * bound)).clamp(min=0) if bound > 0 else torch.where(right, math.inf, 0.0)
    median = float(radius[right].median()) if bool(right.any()) else None
    top = float(radius.max())
    steps = [top * part for part in (0.0, 0.1, 0.25, 0.5, 0.75)] if math.isfinite(top) else [0.0]
    certified = [(step, share(int((right & (radius > step)).sum()), len(right))) for step in steps]
    return {
        "right": share(int(right.sum()), len(right)),
        "radius": radius.tolist(),
        "median_radius": median,
        "certified": certified,
    }


def _slopes(model: Classifier, images: Tensor) -> list[float]:
    """The largest singular value of the Jacobian of the logits, in pixels, at each image."""
    if not len(images):
        return []
    images = model.accept(images)
    found = []
    model.layout(images)
    with model.session(), torch.enable_grad():
        for part in images.split(32):  # type: ignore[no-untyped-call]
            free = part.clone().requires_grad_()
            logits = model.forward(free, exact=True)
            rows = [
                torch.autograd.grad(logits[:, k].sum(), free, retain_graph=True)[0].flatten(1)
                for k in range(logits.shape[1])
            ]
            found += torch.linalg.matrix_norm(torch.stack(rows, 1).double(), 2).tolist()
    return found
