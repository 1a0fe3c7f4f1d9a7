"""The page of `Moments`: tables and pictures of its values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...report.words import number, percent, spread
from ...studies.page import Block, Paragraph, Picture, Table, Title
from ...studies.study import rate
from ..charts import lines_picture, maps_picture

if TYPE_CHECKING:
    from torch import Tensor

    from .analysis import Moments


def blocks(
    settings: Moments, values: dict[str, Any], images: Tensor, maps: Tensor, class_names: Sequence[str]
) -> list[Block]:
    """What stands on the page."""
    rows = [
        (
            row["way"], f"{row['sigma']:g}", f"{row['mean_ratio']:.4f}", f"{row['mean_error']:.4f}",
            spread(row["variance_ratio"]), f"{row['variance_error']:.3f}",
        )
        for row in values["tightness"]
    ]  # fmt: skip
    return [
        Title("Formulas beside sampling"),
        Paragraph(
            f"Mean and variance of the logits of {settings.images} images under noise, from formulas and from "
            f"{settings.draws} draws an image. A way is the layer at which the network is cut; 'layer by layer' needs "
            "no cut and no linearisation, in networks that are a chain of affine layers and ReLUs. The mean's ratio "
            "is the slope of the means on the sampled ones, its error is in standard deviations of the logit; the "
            "variance's ratio is that of the sums over logits, averaged over images with Student's 95 % interval, and "
            "its error is the relative one of a logit. Errors are root mean squares, less what the draws err by."
        ),
        Table(
            "Tightness by layer and sigma",
            ("way", "sigma", "mean: ratio", "mean: error", "variance: ratio", "variance: error"),
            rows,
        ),
        *_classes(settings, values, class_names),
        *_windows(settings, values, images, maps),
        *_accuracy(settings, values["curve"]),
    ]


def _classes(settings: Moments, values: dict[str, Any], class_names: Sequence[str]) -> list[Block]:
    rows = [
        (f"{c['sigma']:g}", rate(c["moved"], c["of"]), rate(c["right"], c["of"]), rate(c["agree"], c["of"]))
        for c in values["confusion"]
    ]
    last = values["confusion"][-1]
    counts: dict[tuple[int, int], int] = {}
    for before, after in last["pairs"]:
        counts[before, after] = counts.get((before, after), 0) + 1
    moved = sorted(((n, pair) for pair, n in counts.items() if pair[0] != pair[1]), reverse=True)[:10]
    pairs = [(class_names[a], class_names[b], str(n)) for n, (a, b) in moved]
    return [
        Title("Classes under noise"),
        Paragraph(f"The expected answer is the class of the greatest mean logit, cut at the layer {values['layer']}."),
        Table("Expected answers", ("sigma", "other than without noise", "right", "as from sampled means"), rows),
        *([Table(f"Where they go at sigma {last['sigma']:g}", ("from", "to", "images"), pairs)] if pairs else []),
    ]


def _windows(settings: Moments, values: dict[str, Any], images: Tensor, maps: Tensor) -> list[Block]:
    largest = ", ".join(number(m) for m in values["maps"])
    picture = maps_picture(images.cpu(), maps, [str(n) for n in range(len(images))])
    return [
        Title("Sensitive windows"),
        Paragraph(
            f"Noise of deviation {settings.largest:g} on one window of {settings.window} x {settings.window} pixels "
            "alone: the chance that the likeliest rival overtakes the answer, by the formulas. The largest of each "
            f"image: {largest}."
        ),
        Picture("windows.png", picture, "Images, and the chance that noise on a window changes the answer"),
    ]


def _accuracy(settings: Moments, curve: dict[str, Any]) -> list[Block]:
    value, low, high = ([100 * point[key] for point in curve["accuracy"]] for key in ("value", "low", "high"))
    lines = {"sampled": value, "formulas": [100 * v for v in curve["analytic"]]}
    picture = lines_picture(curve["sigma"], lines, "sigma", "accuracy (%)", band="sampled", low=low, high=high)
    return [
        Title("Accuracy against noise"),
        Paragraph(
            f"One draw of noise for each of {settings.curve} images at each sigma, not clamped to [0, 1]; the band is "
            "the 95 % interval of the share. The formulas' line is the chance that the label is ahead of its "
            f"likeliest rival. Area under the sampled curve, as a share of the whole: {percent(curve['area'])}."
        ),
        Picture("accuracy.png", picture, "Accuracy against the deviation of the noise"),
    ]
