"""Charts of analyses: bars on a logarithmic axis, lines with bands, and maps over an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from ..studies.pictures import INK, MARK, png

if TYPE_CHECKING:
    from torch import Tensor

STYLE: Any = {"font.size": 9, "text.color": INK, "text.parse_math": False}
NUMBER = FuncFormatter(lambda value, place: f"{value:g}")
MARKERS = ("o", "s", "^", "D", "v", "P")


def bars_picture(names: Sequence[str], bounds: Sequence[float], seen: Sequence[float | None], xlabel: str) -> bytes:
    """A PNG of a bar for each name, from the top down on a logarithmic axis, with a tick at what was seen."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.6 + 0.24 * len(names)), layout="constrained")
        axes = figure.subplots()
        places = range(len(names), 0, -1)
        axes.barh(places, bounds, color=INK, alpha=0.35, height=0.7)
        marked = [(place, value) for place, value in zip(places, seen, strict=True) if value]
        axes.scatter([v for _, v in marked], [p for p, _ in marked], marker="|", s=90, color=MARK, zorder=3)
        axes.axvline(1, color=INK, linewidth=0.8, linestyle=":")
        axes.set(xscale="log", yticks=list(places), yticklabels=list(names), xlabel=xlabel)
        # Plain numbers: the usual ones of such an axis are formulas, which names with a dollar sign forbid.
        axes.xaxis.set_major_formatter(NUMBER)
        axes.xaxis.set_minor_formatter(NUMBER if max(bounds) < 10 * min(bounds) else NullFormatter())
        axes.spines[["top", "right"]].set_visible(False)
        return png(figure)


def lines_picture(
    x: Sequence[float], lines: Mapping[str, Sequence[float]], xlabel: str, ylabel: str, *, band: str | None = None,
    low: Sequence[float] = (), high: Sequence[float] = (),
) -> bytes:  # fmt: skip
    """A PNG of lines by name over x; the line `band` has an interval from low to high."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.4), layout="constrained")
        axes = figure.subplots()
        colours = mpl.colormaps["tab10"](range(10))
        for number, (name, y) in enumerate(lines.items()):
            look = {"color": colours[number % 10], "marker": MARKERS[number % len(MARKERS)]}
            axes.plot(x, y, label=name, markersize=4, linewidth=1.4, **look)
            if name == band:
                axes.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
        return png(figure)


def maps_picture(images: Tensor, maps: Tensor, names: Sequence[str]) -> bytes:
    """A PNG with images (B, C, H, W) above maps (B, h, w) of values from 0 to 1."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(3.0, 1.3 * len(images)), 3.0), layout="constrained")
        axes = figure.subplots(2, len(images), squeeze=False)
        for above, below, image, found, name in zip(axes[0], axes[1], images, maps, names, strict=True):
            pixels = image.permute(1, 2, 0).clamp(0, 1).numpy()
            above.imshow(pixels if pixels.shape[2] == 3 else pixels[..., 0], cmap="gray", vmin=0, vmax=1)
            drawn = below.imshow(found.numpy(), cmap="viridis", vmin=0, vmax=1)
            above.set_title(name, fontsize=8)
            for place in (above, below):
                place.set(xticks=[], yticks=[])
        figure.colorbar(drawn, ax=list(axes[1]), shrink=0.8)
        return png(figure)
