"""The page of a training: its curves, its alarms and every epoch, made from the files of its directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import BlindspotsError
from ..files import replace_file
from ..report.figures import COLOURS, MARKERS, MUTED, drawing
from ..report.words import duration, percent
from ..studies.page import Block, Drawing, Paragraph, Table, Title, html
from .directory import Directory
from .events import Trained

SERIES = {
    "accuracy": {
        "train_accuracy": "training images",
        "validation_accuracy": "held-out images",
        "one_step_accuracy": "held out, one step",
        "robust_accuracy": "held out, PGD",
    },
    "loss": {"train_loss": "training images", "validation_loss": "held-out images"},
}


def write_learning_page(folder: str | Path) -> Path:
    """Write `training.html` into a training directory, from `metrics.jsonl` and what else is there; return its path.

    Raises:
        BlindspotsError: the directory holds no finished epoch.
    """
    directory = Directory(Path(folder))
    try:
        lines = directory.metrics.read_text(encoding="utf-8").splitlines()
        epochs = [json.loads(line) for line in lines]
        settings = json.loads(directory.settings.read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError) as error:
        raise BlindspotsError(f"{folder} holds no finished epoch of a training: give a training directory") from error
    path = directory.path / "training.html"
    title = f"{settings['network']} on {settings['data']}, {settings['method']}"
    replace_file(path, html(title, learning_blocks(settings, epochs, directory.finished())).encode())
    return path


def learning_blocks(settings: dict[str, Any], epochs: list[dict[str, Any]], trained: Trained | None) -> list[Block]:
    """The blocks of the page: outcome, curves, epochs, settings."""
    blocks: list[Block] = [Title("Outcome"), *(Paragraph(line) for line in outcome(epochs, trained))]
    blocks.append(Title("Curves"))
    for kind in SERIES:
        caption = f"{kind.capitalize()} after each epoch" + ("; dotted lines mark alarms" if _alarmed(epochs) else "")
        blocks.append(Drawing(_curves(epochs, kind), caption))
    columns = tuple(name for name in epochs[0] if any(epoch.get(name) not in (None, "", []) for epoch in epochs))
    rows = [tuple(_cell(name, epoch.get(name)) for name in columns) for epoch in epochs]
    heads = tuple(name.replace("_", " ") for name in columns)
    blocks += [Title("Epochs"), Table("every epoch, as in metrics.jsonl", heads, rows)]
    told = [(name, json.dumps(value)) for name, value in settings.items()]
    return [*blocks, Title("Settings"), Table("as in settings.json", ("setting", "value"), told)]


def outcome(epochs: list[dict[str, Any]], trained: Trained | None) -> list[str]:
    """What came out, in sentences."""
    if trained is None:
        return [f"{len(epochs)} epochs are done; the training goes on, or was stopped."]
    lines = [f"Epoch {trained.best_epoch} of {len(epochs)} is kept, after {duration(trained.seconds)} of training."]
    if trained.test_accuracy is not None:
        lines.append(f"Test accuracy {percent(trained.test_accuracy)}.")
    if trained.robust_accuracy is not None:
        lines.append(
            f"On the watched images: {percent(trained.robust_accuracy)} right under a short PGD in the epoch kept, "
            f"{percent(trained.last_robust_accuracy)} in the last one, and {percent(trained.strong_accuracy)} in the "
            "epoch kept under a strong attack."
        )
    lines.append(f"Alarms: {', '.join(trained.alarms)}." if trained.alarms else "No alarms.")
    return lines


def _curves(epochs: list[dict[str, Any]], kind: str) -> str:
    """One line a series against the epoch."""
    scale, unit = (100, " (%)") if kind == "accuracy" else (1, "")
    places = [epoch["epoch"] for epoch in epochs]
    shown = {k: name for k, name in SERIES[kind].items() if any(epoch.get(k) is not None for epoch in epochs)}

    def draw(axes: Any) -> None:
        for number, (key, name) in enumerate(shown.items()):
            values = [float("nan") if epoch.get(key) is None else scale * epoch[key] for epoch in epochs]
            axes.plot(places, values, color=COLOURS[number], marker=MARKERS[number], markersize=4, label=name)
        for epoch in _alarmed(epochs):
            axes.axvline(epoch["epoch"], color=MUTED, linestyle=":", linewidth=1)
        axes.set(xlabel="epoch", ylabel=f"{kind}{unit}")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if kind == "accuracy":
            axes.set_ylim(-2, 102)
        axes.legend(frameon=False, loc="best")
        axes.figure.subplots_adjust(left=0.1, right=0.98, top=0.97, bottom=0.14)

    last = ", ".join(f"{name} {scale * epochs[-1][k]:.3g}" for k, name in shown.items() if epochs[-1][k] is not None)
    return drawing(draw, (7.4, 3.4), f"training-{kind}", f"{kind} after each epoch; in the last one: {last}{unit}.")


def _alarmed(epochs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [epoch for epoch in epochs if epoch.get("alarms")]


def _cell(name: str, value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return percent(value) if name.endswith("accuracy") else f"{value:.4g}"
    return "–" if value is None else str(value)
