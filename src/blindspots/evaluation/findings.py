"""What a red flag of a run is, and from where on an observation becomes one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Flag = dict[str, Any]
SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True)
class Thresholds:
    """When an observation becomes a flag; shares of the images concerned."""

    zero_gradients: float = 0.05  # a few saturated images are normal, one in twenty is not
    compared: float = 0.01  # between attacks, below this share: a note, for random starts differ a little
    chance: float = 0.01  # clean accuracy must beat guessing at this level of an exact binomial test
    one_class: float = 0.95
    paired: float = 0.05  # two attacks on the same images differ at this level of an exact test
    tie: float = 1e-6  # logits closer than this may fall the other way on another machine


def flag(code: str, severity: str, title: str, text: str, job: str | None = None) -> Flag:
    """A flag as it stands in the summary; the text says what was seen, what it means and what to do."""
    return {"code": code, "severity": severity, "title": title, "text": text, "job": job}
