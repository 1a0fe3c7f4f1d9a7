"""A comparison of runs told to people: one HTML page with a picture of the differences, and tables in the terminal."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup
from rich.console import Console
from rich.markup import escape

from .figures import COLOURS, MUTED, RULE, drawing
from .templating import TEMPLATES, environment, style
from .terminal import plain_table
from .words import NARROW, interval, percent, plural


def render(found: dict[str, Any]) -> str:
    """The page of what `compare` found, as text; names and paths of runs are escaped."""
    templates = environment(TEMPLATES)
    templates.filters |= {
        "percent": percent, "interval": interval, "plural": plural, "chance": chance, "points": points, "place": place,
        "ends": ends,
    }  # fmt: skip
    return templates.get_template("comparison.html").render(
        style=style(),
        found=found,
        verdicts=[verdict(pair, found["level"]) for pair in found["pairs"]],
        wide=Markup(forest(found, wide=True)),
        narrow=Markup(forest(found, wide=False)),
    )


def print_comparison(found: dict[str, Any], console: Console) -> None:
    """Print the runs and, pair by pair, a table of the differences."""
    listed = plain_table("Runs", "run", "model", "without attack", "95 %")
    for run in found["runs"]:
        clean = run["clean"]
        listed.add_row(escape(run["name"]), escape(run["model"]), percent(clean["value"]), interval(clean))
    console.print()
    console.print(listed)
    columns = ("first", "second", "difference", "95 %", "only one", "p")
    for pair in found["pairs"]:
        title = f"{escape(pair['first'])} against {escape(pair['second'])} (p: McNemar, all lines counted)"
        shown = plain_table(title, "", *columns)
        shown.columns[0].min_width = 14  # of eighty columns; longer names are folded
        for point in pair["points"]:
            shown.add_row(
                escape(place(point)),
                percent(point["first"]["value"]),
                percent(point["second"]["value"]),
                points(point["difference"]),
                ends(point),
                f"{point['only_first']} : {point['only_second']}",
                chance(point["p_holm"]),
            )
        console.print(shown)
        console.print(escape(verdict(pair, found["level"])), style="dim", highlight=False)


def verdict(pair: dict[str, Any], level: float) -> str:
    """In words, where two runs differ by more than chance, all tests taken together."""
    sure = [point for point in pair["points"] if point["p_holm"] <= 1 - level]
    said = [
        f"{pair['first' if point['difference'] > 0 else 'second']} has more right {_named(point)} by "
        f"{points(abs(point['difference']), signed=False)}"
        for point in [point for point in sure if point["what"] != "attack"] or sure
    ]
    told = [f"{'; '.join(said)}." if said else "No difference is larger than what chance makes of equals."]
    if said and pair["same_model"]:
        told.append(
            "Both attacked the same model, so the lower accuracy, that of the stronger attacks, is the one to quote."
        )
    lacking = sorted({f"{point['norm']} {point['radius_text']}" for point in pair["unpaired"]})
    if lacking:
        told.append(f"Only one of them has attacks within {', '.join(lacking)}.")
    return " ".join(told)


def place(point: dict[str, Any]) -> str:
    """What is compared at a point, as "worst case, linf 8/255"."""
    if point["norm"] is None:
        return str(point["label"])
    goal = "" if point["targets"] is None or "targets" in point["label"] else f", targets {point['targets']}"
    return f"{point['label']}, {point['norm']} {point['radius_text']}{goal}"


def points(value: float, *, signed: bool = True) -> str:
    """A difference of shares in percentage points.

    >>> points(0.034), points(0.0), points(-0.0002)
    ('+3.4\\u202fpp', '0\\u202fpp', '-0.02\\u202fpp')
    """
    return f"{_points(value, signed)}{NARROW}pp"


def ends(point: dict[str, Any]) -> str:
    """The interval of a difference in percentage points, as "+1.2 to +5.6"."""
    return f"{_points(point['low'])} to {_points(point['high'])}"


def chance(p: float) -> str:
    """A probability with two significant digits, none below 0.0001.

    >>> chance(0.0213), chance(1.0), chance(1e-9)
    ('0.021', '1', '< 0.0001')
    """
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def _points(value: float, signed: bool = True) -> str:
    if value == 0:
        return "0"
    digits = 2 if abs(value) < 0.0005 else 1
    return f"{100 * value:{'+' if signed else ''}.{digits}f}"


def _named(point: dict[str, Any]) -> str:
    if point["what"] == "clean":
        return "without attack,"
    return f"{'in the' if point['what'] == 'worst' else 'under'} {place(point)},"


def forest(found: dict[str, Any], *, wide: bool) -> str:
    """Every difference with its interval around the line of no difference, pair below pair, as `<svg>` text."""
    rows = [(pair, point) for pair in found["pairs"] for point in pair["points"]]
    tall = 0.75 + (0.24 if wide else 0.4) * (len(rows) + len(found["pairs"]))

    def draw(axes: Any) -> None:
        axes.axvline(0, color=MUTED, linewidth=1)
        height, names = 0, []
        for pair in found["pairs"]:
            title = f"{pair['first']} less {pair['second']}"
            axes.annotate(title, (0, height), xycoords=("axes fraction", "data"), va="center", fontweight="bold")
            height += 1
            for point in pair["points"]:
                colour = COLOURS[("clean", "worst", "attack").index(point["what"])]
                value, low, high = (100 * point[key] for key in ("difference", "low", "high"))
                axes.plot((low, high), (height, height), color=colour, linewidth=1.6, solid_capstyle="butt")
                axes.plot(value, height, "o", color=colour, markersize=5)
                names.append((height, place(point)))
                height += 1
        reach = max([1.0, *(100 * abs(point[key]) for _, point in rows for key in ("low", "high"))]) * 1.08
        axes.set(xlim=(-reach, reach), ylim=(height - 0.4, -0.6), xlabel="difference, percentage points")
        axes.set_yticks([at for at, _ in names], [name for _, name in names] if wide else [""] * len(names))
        if not wide:  # no room beside the picture: each name stands above its line
            for at, name in names:
                axes.annotate(name, (0, at - 0.38), xycoords=("axes fraction", "data"), va="center", color=MUTED)
        axes.grid(visible=False, axis="y")
        axes.grid(axis="x", color=RULE, linewidth=0.7)
        axes.figure.subplots_adjust(
            left=0.34 if wide else 0.04, right=0.98, top=1 - 0.1 / tall, bottom=min(0.5, 0.45 / tall)
        )

    told = "; ".join(
        f"{pair['first']} less {pair['second']}, {place(point)}: {points(point['difference'])}"
        for pair, point in rows[:8]
    )
    description = f"Differences with 95 % intervals. {told}. The tables below have all numbers."
    return drawing(draw, (7.4 if wide else 3.5, tall), f"forest-{wide}", description)
