"""The words of a report: numbers as people read them, the headline and the line on trust."""

from __future__ import annotations

from itertools import groupby
from typing import Any

NARROW = "\u202f"  # narrow no-break space, so that a number and its unit stay together

MEASURES = {  # what is told of bent images, and in which unit
    "flow_mean": "mean displacement, in pixels",
    "flow": "largest displacement, in pixels",
    "flow_loss": "flow loss",
    "rotation": "angle, in degrees",
    "shift": "larger of both shifts, in pixels",
    "zoom": "zoom factor",
    "ball": "largest additive change of a pixel value",
}


def percent(value: float | None) -> str:
    """A share in percent; never rounded to 0 or 100 where it is neither.

    >>> percent(0.5), percent(0.9996), percent(None)
    ('50.0\\u202f%', '99.96\\u202f%', '–')
    """
    return "–" if value is None else f"{_hundredths(value)}{NARROW}%"


def _hundredths(value: float) -> str:
    digits = 1
    while digits < 4 and 0 < value < 1 and f"{100 * value:.{digits}f}" in (f"{0:.{digits}f}", f"{100:.{digits}f}"):
        digits += 1
    return f"{100 * value:.{digits}f}"


def sureness(confidence: float) -> str:
    """A confidence in percent; near certainty is "> 99.9 %", for its further digits say nothing."""
    return f"> 99.9{NARROW}%" if confidence >= 0.9995 else f"{100 * confidence:.1f}{NARROW}%"


def interval(share: dict[str, Any]) -> str:
    """The ends of a share's interval in percent, as "94.9–98.1"; nothing where nothing was counted."""
    if not share["of"]:
        return ""
    return f"{_hundredths(share['low'])}–{_hundredths(share['high'])}"


def spread(mean: dict[str, Any]) -> str:
    """A mean with its interval, as "0.43 [0.37, 0.49]".

    >>> spread({"count": 9, "value": 0.431, "low": 0.37, "high": 0.489})
    '0.43 [0.37, 0.49]'
    """
    if mean["value"] is None:
        return "–"
    return f"{mean['value']:.2f}" + ("" if mean["low"] is None else f" [{mean['low']:.2f}, {mean['high']:.2f}]")


def number(value: float | None) -> str:
    """A count with grouped digits, or a size with three significant ones."""
    if value is None:
        return "–"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", NARROW)
    return f"{value:,.1f}".replace(",", NARROW) if abs(value) >= 100 else f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """Seconds as people say them: "0.8 s", "42 s", "12 min", "3 h 05 min"."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f}{NARROW}s"
    if seconds < 120:
        return f"{seconds:.0f}{NARROW}s"
    minutes = round(seconds / 60)
    return f"{minutes}{NARROW}min" if minutes < 60 else f"{minutes // 60}{NARROW}h {minutes % 60:02d}{NARROW}min"


def plural(count: int, noun: str) -> str:
    """
    >>> plural(1, "image"), plural(2, "image")
    ('1 image', '2 images')
    """
    return f"{count:,}".replace(",", NARROW) + f" {noun}{'' if count == 1 else 's'}"


def with_control(name: str, control: bool) -> str:
    """The name of an attack, marked as noise where it is a control and does not say so itself."""
    return f"{name} (noise)" if control and "noise" not in name else name


def largest(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """The worst case at the largest radius of every norm: what the headline says."""
    return list({point["norm"]: point for point in summary["worst"]}.values())


def used(sizes: dict[str, float]) -> str:
    """What a picture's attack used of its images, in a sentence."""
    changed = f"Used linf {number(sizes['linf'])}, l2 {number(sizes['l2'])}, {number(sizes['l0'])} pixel values."
    if "flow" not in sizes:
        return changed
    said = []
    if "rotation" in sizes:
        zoomed = "" if round(sizes["zoom"], 3) == 1 else f", zoomed {number(sizes['zoom'])} times"
        said.append(f"Turned by {number(sizes['rotation'])}°, shifted by {number(sizes['shift'])} pixels{zoomed}.")
    said.append(
        f"Pixels moved by {number(sizes['flow_mean'])} on average and {number(sizes['flow'])} at most; flow loss "
        f"{number(sizes['flow_loss'])}."
    )
    if "ball" in sizes:
        said.append(f"Added up to {number(sizes['ball'])}.")
    return " ".join(said)


def headline(summary: dict[str, Any]) -> str:
    """The result in two sentences, each number with its interval."""
    clean = summary["clean"]
    first = (
        f"Of {plural(summary['count'], 'image')} the model gets {percent(clean['value'])} right [{interval(clean)}]."
    )
    parts = [
        f"{percent(point['robust']['value'])} stay right within {point['norm']} {point['radius_text']} "
        f"[{interval(point['robust'])}]"
        for point in largest(summary)
    ]
    return f"{first} Under attack {', and '.join(parts)}." if parts else f"{first} No attack was run."


def grouped_flags(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Flags of one kind under one title, errors first, each with all its texts."""
    groups = groupby(summary["flags"], key=lambda flag: (flag["severity"], flag["code"], flag["title"]))
    return [
        {"severity": severity, "code": code, "title": title, "texts": [flag["text"] for flag in flags]}
        for (severity, code, title), flags in groups
    ]


def trust(summary: dict[str, Any]) -> str:
    """How many red flags there are (errors and warnings; notes are not red)."""
    red = sum(flag["severity"] != "info" for flag in grouped_flags(summary))
    return f"{red} red flag{'' if red == 1 else 's'}" if red else "No red flags"
