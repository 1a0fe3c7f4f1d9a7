"""Pictures of a study: grids of images, shares as colours, and flows drawn over the image that they bend."""

from __future__ import annotations

import io
from itertools import cycle
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from torch import Tensor

INK, MARK = "#1c1e21", "#c2410c"


def grid(
    images: dict[tuple[int, int], Tensor],
    rows: list[str],
    columns: list[str],
    marked: set[tuple[int, int]],
    captions: dict[tuple[int, int], str] | None = None,
) -> bytes:
    """A PNG of images (C, H, W) by (row, column), with names of rows and columns; the marked ones are framed.

    Places without an image stay empty; captions stand below their images.
    """
    captions = captions or {}
    with mpl.rc_context({"font.size": 9, "text.color": INK}):
        # Inches: names have room beside the images and above them, at about 0.08 a letter.
        cell = max(0.62, 0.09 * max(map(len, [*columns, *captions.values()])))
        width = cell * len(columns) + 0.08 * max(map(len, rows)) + 0.45
        height = (cell + (0.2 if captions else 0)) * len(rows) + 0.5
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(len(rows), len(columns), squeeze=False)
        for (row, column), place in np.ndenumerate(axes):
            _bare(place)
            if (row, column) in images:
                _show(place, images[row, column])
            if (row, column) in marked:
                for spine in place.spines.values():
                    spine.set(visible=True, color=MARK, linewidth=1.6)
            if (row, column) in captions:
                place.set_xlabel(captions[row, column], fontsize=8, labelpad=2)
            if row == 0:
                place.set_title(columns[column], fontsize=9)
            if column == 0:
                place.set_ylabel(rows[row], rotation=0, ha="right", va="center")
        return png(figure)


def heated(image: Tensor, heat: Tensor) -> Tensor:
    """The image (C, H, W), in grey, under a heat (H, W) in [0, 1] that covers it the more the warmer it is."""
    warm = torch.from_numpy(mpl.colormaps["inferno"](heat.numpy())[..., :3]).float().permute(2, 0, 1)
    cover = 0.35 + 0.4 * heat
    return (1 - cover) * image.mean(0, keepdim=True) + cover * warm


def stretched(change: Tensor) -> Tensor:
    """A picture (C, H, W) of a change: grey is none, black and white the largest."""
    return 0.5 + change / (2 * change.abs().max().clamp(min=1e-12))


def sheet(rows: list[Tensor], names: list[str]) -> bytes:
    """A PNG of rows of images (k, C, H, W), each row under its name."""
    with mpl.rc_context({"font.size": 9, "text.color": INK}):
        count, _, height, width = rows[0].shape
        gap = max(1, height // 14)
        # One picture of all, with white between: an axis for each image would take seconds.
        padded = [torch.nn.functional.pad(row, (0, gap, 0, gap), value=1.0) for row in rows]
        whole = torch.cat([torch.cat([*row], 2) for row in padded], 1)
        figure = Figure(
            figsize=(0.6 * count + 0.08 * max(map(len, names)) + 0.4, 0.6 * height / width * len(rows) + 0.2),
            layout="constrained",
        )
        axes = figure.subplots()
        _show(axes, whole)
        _bare(axes)
        axes.set_yticks([(height + gap) * row + height / 2 for row in range(len(rows))], names)
        axes.tick_params(length=0)
        return png(figure)


def heat(values: list[list[float | None]], rows: list[str], columns: list[str]) -> bytes:
    """A PNG of shares in [0, 1] by row and column, as colours and in percent; None stays empty."""
    with mpl.rc_context({"font.size": 9, "text.color": INK}):
        # Inches, as in `grid`; names of columns stand upright.
        width = 0.5 * len(columns) + 0.08 * max(map(len, rows)) + 0.6
        height = 0.34 * len(rows) + 0.08 * max(map(len, columns)) + 0.4
        figure = Figure(figsize=(max(3.0, width), height), layout="constrained")
        axes = figure.subplots()
        shares = np.array([[np.nan if value is None else value for value in row] for row in values], dtype=float)
        axes.imshow(shares, cmap="Oranges", vmin=0, vmax=1, aspect="auto")
        for (row, column), share in np.ndenumerate(shares):
            if not np.isnan(share):
                light = "white" if share > 0.6 else INK
                axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=light)
        axes.set_xticks(range(len(columns)), columns, rotation=90)
        axes.set_yticks(range(len(rows)), rows)
        axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
        axes.spines[:].set_visible(False)
        return png(figure)


def flows(cases: list[tuple[Tensor, Tensor, Tensor, str]]) -> bytes:
    """A PNG of cases (image (C, H, W), bent image, flow (2, H, W) in pixels, title): image, arrows over it, bent image.

    An arrow at a pixel shows which way the picture moves there, as many times longer as its title says. Of large images
    every n-th pixel has an arrow; displacements below a twentieth of a pixel have none.
    """
    with mpl.rc_context({"font.size": 9, "text.color": INK}):
        figure = Figure(figsize=(7.2, 2.5 * len(cases)), layout="constrained")
        axes = figure.subplots(len(cases), 3, squeeze=False)
        for line, (image, bent, flow, title) in zip(axes, cases, strict=True):
            for place, shown in zip(line, (image, image, bent), strict=True):
                _bare(place)
                _show(place, shown)
            largest = float(flow.norm(dim=0).max())
            # The longest arrow spans about three pixels.
            longer = max(1, round(3 / max(largest, 0.1)))
            line[1].images[0].set_alpha(0.5)
            _arrows(line[1], flow, longer)
            line[0].set_title(title, fontsize=9, loc="left")
            line[1].set_title(f"largest move {largest:.1f} pixels, arrows x {longer}", fontsize=9)
            line[2].set_title("bent", fontsize=9)
        return png(figure)


def lines(places: list[float], panels: dict[str, dict[str, list[float]]]) -> bytes:
    """A PNG of panels side by side, each with shares by name as lines over the same places."""
    with mpl.rc_context({"font.size": 9, "text.color": INK}):
        figure = Figure(figsize=(3.0 * len(panels) + 1.6, 3.0), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for place, (title, shares) in zip(axes, panels.items(), strict=True):
            for (name, values), mark in zip(shares.items(), cycle("os^Dv<>P*X"), strict=False):
                place.plot(
                    places, [100 * value for value in values], marker=mark, markersize=4, linewidth=1.3, label=name
                )
            place.set(title=title, xlabel="radius", xlim=(0, None), ylim=(-2, 102))
            place.spines[["top", "right"]].set_visible(False)
            place.grid(axis="y", linewidth=0.5)
        axes[0].set_ylabel("accuracy (%)")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
        return png(figure)


def _arrows(place: Any, flow: Tensor, longer: int) -> None:
    height, width = flow.shape[-2:]
    stride = max(1, round(max(height, width) / 28))
    rows, columns = np.mgrid[0:height:stride, 0:width:stride]
    down, right = (part[::stride, ::stride].numpy() for part in flow)
    seen = np.hypot(down, right) > 0.05
    # Rows grow downwards, and so does the axis of an image: no sign is turned.
    place.quiver(
        columns[seen], rows[seen], -right[seen], -down[seen],
        angles="xy", scale_units="xy", scale=1 / longer, pivot="tip", color=MARK, width=0.008, headwidth=4,
    )  # fmt: skip
    place.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _show(place: Any, image: Tensor) -> None:
    pixels = image.permute(1, 2, 0).numpy()
    place.imshow(pixels if pixels.shape[2] == 3 else pixels[..., 0], cmap="gray", vmin=0, vmax=1)


def _bare(place: Any) -> None:
    place.set(xticks=[], yticks=[])
    place.spines[:].set_visible(False)


def png(figure: Figure) -> bytes:
    """The figure as a PNG, the same bytes for the same drawing."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()
