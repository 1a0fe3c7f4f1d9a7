"""The summary of a run in the terminal: what `blindspots show RUN` prints."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from ..evaluation.run import Run
from ..evaluation.summary import seconds
from .words import duration, grouped_flags, headline, interval, number, percent, trust, with_control

COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}
CLASSES = 20


def print_summary(run: Run, summary: dict[str, Any], console: Console) -> None:
    """Print headline, red flags, attacks, worst case and classes of a finished run to `console`."""
    times = seconds(run)
    console.print()
    console.print(headline(summary), style="bold", highlight=False)
    console.print()
    for flag in grouped_flags(summary):
        colour = COLOURS[flag["severity"]]
        console.print(f"[{colour}]{flag['severity']}[/]  [bold]{escape(flag['title'])}[/]", highlight=False)
        for text in flag["texts"]:
            console.print(Padding(escape(text), (0, 0, 0, 2)), highlight=False)
    console.print(f"{trust(summary)}.", style="dim", highlight=False)
    console.print()
    console.print(_attacks(summary, times))
    if summary["worst"]:
        console.print(_worst(summary))
    console.print(_classes(summary))
    calls = summary["model_calls"]
    cost = f"{number(calls['forwards'])} forwards and {number(calls['backwards'])} backwards of single images"
    console.print(f"{cost}, {duration(times['total'])}.", style="dim", highlight=False)


def plain_table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right", no_wrap=place > 0, overflow="fold")
    return table


def _attacks(summary: dict[str, Any], times: dict[str, Any]) -> Table:
    columns = ("attack", "robust", "95 %", "success", "median size", "calls", "time")
    table = plain_table("Attacks", *columns)
    for job in summary["jobs"]:
        size = job["sizes"][job["norm"]]
        calls = (job["forwards"]["mean"] or 0) + (job["backwards"]["mean"] or 0)
        table.add_row(
            escape(with_control(job["label"], job["control"])),
            percent(job["robust"]["value"]),
            interval(job["robust"]),
            percent(job["success"]["value"]),
            number(size["median"]) if size else "–",
            number(round(calls, 1)),
            duration(times["jobs"].get(job["id"])),
            style="dim" if job["control"] else None,
        )
        for member in job.get("members", []):
            table.add_row(f"  {escape(member['name'])}", "", "", f"+{number(member['added'])}", style="dim")
        for point in summary["worst"] if "curve" in job else []:
            found = next((credit for credit in point["credits"] if credit["job"] == job["id"]), None)
            if found is not None and point["radius"] < job["radius"]:
                said = (
                    percent(found["robust"]["value"]),
                    interval(found["robust"]),
                    percent(found["success"]["value"]),
                )
                table.add_row(f"  {point['norm']} {point['radius_text']}", *said, style="dim")
    return table


def _worst(summary: dict[str, Any]) -> Table:
    table = plain_table("Worst case over all attacks within a radius", "radius", "robust", "95 %", "fooled alone by")
    for point in summary["worst"]:
        label = {job["id"]: job["series"] for job in summary["jobs"]}
        alone = [f"{label[credit['job']]} {credit['unique']}" for credit in point["credits"] if credit["unique"]]
        share = point["robust"]
        place = f"{point['norm']} {point['radius_text']}"
        table.add_row(place, percent(share["value"]), interval(share), escape(", ".join(alone)) or "–")
    return table


def _classes(summary: dict[str, Any]) -> Table:
    entries = summary["classes"]
    points = [f"{point['norm']} {point['radius_text']}" for point in summary["worst"]][-4:]
    shown = entries[:CLASSES]
    title = "Classes" if len(shown) == len(entries) else f"Classes (the first {CLASSES} of {len(entries)})"
    table = plain_table(title, "class", "images", "clean", *points)
    for entry in shown:
        robust = [percent(point["robust"]["value"]) for point in entry["robust"]][-4:]
        table.add_row(escape(entry["name"]), number(entry["count"]), percent(entry["clean"]["value"]), *robust)
    return table
