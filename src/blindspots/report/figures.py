"""Robust accuracy against radius as an SVG that takes its colours and its font from the page.

Matplotlib draws with stand-in colours; each is then replaced by a CSS variable, so one drawing is right in
the light and in the dark, and its text stays text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

from ..evaluation.intervals import share
from .words import percent, with_control

SERIES = 6  # colours of the page's palette; markers differ too, so that colour never carries meaning alone
MARKERS = ("o", "s", "^", "D", "v", "P")
NOISES = ("x", "+", "1")  # markers of noise controls, which are all grey
STAND_INS = {
    "#0a0b01": "var(--ink)",
    "#0a0b02": "var(--muted)",
    "#0a0b03": "var(--rule)",
    "#0a0b04": "var(--noise)",
    "#0a0b05": "var(--paper)",
    **{f"#0a0b1{k}": f"var(--s{k + 1})" for k in range(SERIES)},
}
INK, MUTED, RULE, NOISE, PAPER, *COLOURS = STAND_INS


def curves(summary: dict[str, Any], norm: str, *, wide: bool) -> str:
    """Robust accuracy against radius for every attack of one norm, with interval bands, as `<svg>` text.

    Noise controls are grey and dashed, the worst case is the broad pale line; `wide` chooses the laptop's shape,
    with names at the line ends, over the phone's, with a legend.
    """

    def draw(axes: Any) -> None:
        ends = [_line(axes, line, summary["clean"]) for line in _lines(summary, norm)]
        top = max(job["radius"] for job in summary["jobs"] if job["norm"] == norm)
        axes.set(xlim=(0, top * 1.02), ylim=(-2, 102), xlabel=f"radius ({norm})", ylabel="robust accuracy (%)")
        axes.set_xticks(*_ticks(summary, norm, top * (0.07 if wide else 0.12)))
        if wide:
            _names(axes, ends, top)
            axes.figure.subplots_adjust(left=0.085, right=0.76, top=0.97, bottom=0.13)
        else:
            rows = -(-len(ends) // 2)
            axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2), ncol=2, frameon=False, handlelength=2.2)
            axes.figure.subplots_adjust(left=0.14, right=0.98, top=0.97, bottom=min(0.5, 0.19 + 0.055 * rows))

    size = (7.4, 3.7) if wide else (3.5, 3.9)
    return drawing(draw, size, f"{norm}-{wide}", _description(summary, norm))


def drawing(draw: Callable[[Any], None], size: tuple[float, float], salt: str, description: str) -> str:
    """What `draw` puts on the axes that it is given, as `<svg>` text in the page's colours and font.

    `size` is in inches; `salt` makes the ids of the drawing its own; the description is read out in its place.
    """
    # The terminal's summary and the command line import this package and must not wait for matplotlib.
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: Any = {
        "svg.fonttype": "none",
        "text.parse_math": False,  # a name with two dollar signs is a name
        "svg.hashsalt": salt,
        "font.size": 9,
        "axes.edgecolor": MUTED,
        "axes.labelcolor": MUTED,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "text.color": INK,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=size)
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.grid(axis="y", color=RULE, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
        axes.patch.set_visible(False)
        figure.patch.set_visible(False)
        draw(axes)
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _themed(written.getvalue(), description)


def _lines(summary: dict[str, Any], norm: str) -> list[dict[str, Any]]:
    """One line per series, in job order, then the worst case where there is more than one attack."""
    jobs = [job for job in summary["jobs"] if job["norm"] == norm]
    lines: list[dict[str, Any]] = []
    drawn = noises = 0
    for name in dict.fromkeys(job["series"] for job in jobs):
        mine = sorted((job for job in jobs if job["series"] == name), key=lambda job: float(job["radius"]))
        line = {"name": name, **_path(summary, mine)}
        if mine[0]["control"]:
            look = {"color": NOISE, "dash": (0, (2, 2)), "marker": NOISES[noises % len(NOISES)], "width": 1.2}
            lines.append({**line, **look, "name": with_control(name, True)})
            noises += 1
            continue
        dash = "-" if drawn < SERIES else (0, (5, 1.5))
        look = {"color": COLOURS[drawn % SERIES], "dash": dash, "marker": MARKERS[drawn % SERIES], "width": 1.5}
        lines.append({**line, **look})
        drawn += 1
    if len(lines) > 1:
        points = [(point["radius"], point["robust"]) for point in summary["worst"] if point["norm"] == norm]
        curve = next((found["curve"] for found in summary["curves"] if found["norm"] == norm), None)
        look = {"color": INK, "dash": "-", "marker": "", "width": 6}
        lines.append({"name": "worst case", "points": points, "curve": curve, **look})
    return lines


def _path(summary: dict[str, Any], jobs: list[dict[str, Any]]) -> dict[str, Any]:
    """The points of a series, and its whole curve where one job holds the smallest change of each image."""
    if "curve" not in jobs[0]:
        return {"points": [(job["radius"], job["robust"]) for job in jobs], "curve": None}
    points = [
        (point["radius"], credit["robust"])
        for point in summary["worst"]
        for credit in point["credits"]
        if credit["job"] == jobs[0]["id"]
    ]
    return {"points": points, "curve": jobs[0]["curve"]}


def _line(axes: Any, line: dict[str, Any], clean: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    points = [(0.0, clean), *line["points"]]
    steps = line["curve"] is not None
    given = dict(points)
    if steps:
        found = {at: share(count, clean["of"]) for at, count in line["curve"] if at < points[-1][0]}
        points = sorted((found | given).items())
    radius = [at for at, _ in points]
    value, low, high = ([100 * part[key] for _, part in points] for key in ("value", "low", "high"))
    worst = line["name"] == "worst case"  # a broad pale line under the others, which would else hide it
    axes.fill_between(radius, low, high, color=line["color"], alpha=0.08, linewidth=0, step="post" if steps else None)
    axes.plot(
        radius,
        value,
        color=line["color"],
        linestyle=line["dash"],
        linewidth=line["width"],
        drawstyle="steps-post" if steps else "default",
        marker=line["marker"],
        markevery=[place for place, at in enumerate(radius) if at in given],
        markersize=4.5,
        markeredgecolor=line["color"] if line["marker"] in NOISES else PAPER,
        markeredgewidth=1.2 if line["marker"] in NOISES else 0.8,
        label=line["name"],
        alpha=0.28 if worst else 1,
        solid_capstyle="round",
        clip_on=False,
        zorder=2 if worst else 3,
    )
    return value[-1], line


def _ticks(summary: dict[str, Any], norm: str, gap: float) -> tuple[list[float], list[str]]:
    """The radii themselves as ticks, from the largest down, leaving out those closer than `gap`."""
    kept: list[tuple[float, str]] = []
    points = [(0.0, "0"), *((p["radius"], p["radius_text"]) for p in summary["worst"] if p["norm"] == norm)]
    for at, text in reversed(points):
        if not kept or kept[-1][0] - at >= gap:
            kept.append((at, text))
    return [at for at, _ in kept], [text for _, text in kept]


def _names(axes: Any, ends: list[tuple[float, dict[str, Any]]], top: float) -> None:
    """Names right of the line ends, pushed apart where lines end together, each with a thin leader."""
    gap = 6.5
    ranked = sorted(ends, key=lambda end: end[0])
    places: list[float] = []
    for value, _ in ranked:
        places.append(max(value, places[-1] + gap) if places else max(value, 0.0))
    over = max(0.0, places[-1] - 100)  # shift the crowd down where it would leave the top
    for place, (value, line) in zip((place - over for place in places), ranked, strict=True):
        axes.annotate(
            line["name"] if len(line["name"]) <= 26 else line["name"][:25] + "…",
            xy=(top, value),
            xytext=(top * 1.055, place),
            color=line["color"],
            va="center",
            fontweight="bold" if line["name"] == "worst case" else "normal",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": RULE, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 4},
        )


def _description(summary: dict[str, Any], norm: str) -> str:
    points = [f"{percent(p['robust']['value'])} at {p['radius_text']}" for p in summary["worst"] if p["norm"] == norm]
    return (
        f"Robust accuracy against radius in {norm}: {percent(summary['clean']['value'])} without attack; "
        f"worst case over all attacks {', '.join(points)}. The table below has all numbers."
    )


def _themed(svg: str, description: str) -> str:
    """Replace stand-in colours by variables, the font by the page's, and ids that a second figure would repeat."""
    svg = svg[svg.index("<svg") :]
    for colour, variable in STAND_INS.items():
        svg = svg.replace(colour, variable)
    svg = re.sub(r"font-family:[^;\"]*;?", "", svg)
    svg = re.sub(r"font: (?:(\w+) )?([\d.]+px)[^;\"]*", lambda m: _font(m.group(1), m.group(2)), svg)
    used = set(re.findall(r"(?:#|url\(#)([\w-]+)", svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: m.group(0) if m.group(1) in used else "", svg)
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)  # its style would reach the whole page
    svg = re.sub(
        r'<svg [^>]*viewBox="([^"]+)"[^>]*>',
        r'<svg viewBox="\1" role="img" stroke-linejoin="round" xmlns:xlink="X">',
        svg,
        count=1,
    )
    label = description.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return svg.replace(' xmlns:xlink="X"', f' aria-label="{label}"', 1).replace("xlink:href", "href")


def _font(weight: str | None, size: str) -> str:
    return f"font-size: {size}; font-weight: {weight}" if weight else f"font-size: {size}"
