"""Drawings of analyses: a plane of class regions, margins along a way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ..studies.pictures import INK, MARK, png

if TYPE_CHECKING:
    from torch import Tensor

# The qualitative colours of matplotlib, faded so that lines stand out; classes beyond repeat them.
PALETTE = [
    (0.45 + 0.55 * red, 0.45 + 0.55 * green, 0.45 + 0.55 * blue)
    for red, green, blue, _ in (mpl.colormaps["tab20"](place) for place in range(20))
]
STYLES = ("-", "--")


def plane_picture(
    answers: Tensor, extent: float, length: float, angles: Tensor, edges: dict[str, Tensor], names: dict[int, str]
) -> bytes:
    """A PNG of a plane.

    Args:
        answers: classes (R, R); rows go up along v, columns right along u, from -extent to extent.
        length: where on u the attacked image is.
        angles: directions (A,) in which `edges` tell, by name, how far something reaches (A,).
        names: of the classes that are answered.
    """
    order = sorted(names)
    place = np.searchsorted(order, answers.numpy())
    colours = [PALETTE[number % len(PALETTE)] for number in order]
    with mpl.rc_context({"font.size": 9, "text.color": INK}):
        figure = Figure(figsize=(6.4, 4.8), layout="constrained")
        axes = figure.subplots()
        axes.imshow(
            place, origin="lower", extent=(-extent, extent, -extent, extent), cmap=ListedColormap(colours),
            vmin=-0.5, vmax=len(order) - 0.5, interpolation="nearest",
        )  # fmt: skip
        theta = np.append(angles.numpy(), angles.numpy()[:1] + 2 * np.pi)
        for (name, edge), style in zip(edges.items(), STYLES, strict=False):
            far = np.append(edge.numpy(), edge.numpy()[:1])
            axes.plot(far * np.cos(theta), far * np.sin(theta), style, color=INK, linewidth=1.4, label=name)
        axes.plot(0, 0, "o", color=MARK, markersize=7, markeredgecolor="white")
        axes.plot(length, 0, "X", color=MARK, markersize=8, markeredgecolor="white")
        axes.set(xlim=(-extent, extent), ylim=(-extent, extent), xlabel="along the attack", ylabel="random direction")
        handles, _ = axes.get_legend_handles_labels()
        regions = [Patch(color=colour, label=names[number]) for colour, number in zip(colours, order, strict=True)]
        axes.legend(handles=[*handles, *regions], loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
        return png(figure)


def way_picture(shares: Tensor, margins: Tensor, names: tuple[str, str]) -> bytes:
    """A PNG of margins (n, 2, N) of n images along two ways, at shares (N,) of the distance to the attacked image."""
    with mpl.rc_context({"font.size": 9, "text.color": INK}):
        figure = Figure(figsize=(7.2, 3.2), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, lines, name in zip(panels, margins.double().numpy().transpose(1, 0, 2), names, strict=True):
            axes.plot(shares.numpy(), lines.T, color=INK, alpha=0.18, linewidth=0.8)
            axes.plot(shares.numpy(), np.median(lines, axis=0), color=MARK, linewidth=2.2)
            axes.axhline(0, color=INK, linewidth=0.8)
            axes.axvline(1, color=INK, linewidth=0.8, linestyle=":")
            axes.set(title=name, xlabel="share of the distance", xlim=(0, float(shares[-1])))
            axes.spines[["top", "right"]].set_visible(False)
        panels[0].set_ylabel("margin (logits)")
        return png(figure)
