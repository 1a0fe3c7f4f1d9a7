"""Red flags between attacks: where a weaker attack does what a stronger one does not, one of them does not work."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from ..record import KNOWLEDGE
from .curves import at_every_radius
from .findings import Flag, Thresholds, flag
from .paired import mcnemar
from .verdicts import Verdicts

_TITLES = {
    "one-step-beats-many": "One step fools images that many steps miss",
    "noise-beats-gradients": "Noise fools images that gradients miss",
    "blind-beats-gradients": "An attack without gradients fools images that gradients miss",
}


def comparison_flags(jobs: list[Verdicts], limits: Thresholds) -> list[Flag]:
    """All flags of a run that compare its jobs."""
    every = at_every_radius(jobs)
    return [*_weaker_wins(every, limits), *_disagreements(every, limits), *_radius_flags(jobs, limits)]


def _weaker_wins(every: list[Verdicts], limits: Thresholds) -> list[Flag]:
    found = []
    gradient = [v for v in every if not v.job["control"] and _knows(v) == "gradients"]
    for many in (v for v in gradient if v.job["steps"] > 1):
        text = (
            "Many small steps can do all that one large step does, so this points to masked gradients or to a "
            "many-step attack with a bad step size. Use smaller steps, more of them, and random restarts."
        )
        for one in (v for v in gradient if v.job["steps"] == 1 and _budget(v) == _budget(many)):
            found += _beaten("one-step-beats-many", one, [many], text, limits)
    for noise in (v for v in every if v.job["control"]):
        text = (
            "Noise searches blindly, so attacks that follow the gradient should never lose to it: the gradient leads "
            "them nowhere. Do not report the gradient attacks alone; attack without gradients, or mend the attack."
        )
        rivals = [v for v in gradient if _budget(v) == _budget(noise)]
        found += _beaten("noise-beats-gradients", noise, rivals, text, limits)
    for blind in (v for v in every if not v.job["control"] and _knows(v) != "gradients"):
        text = (
            "It knows less of the model than they do, so the gradients lead them away from what is there, as masked "
            "gradients do. Do not report the gradient attacks alone; attack with margin or DLR as objective, "
            "and look for what hides the gradient."
        )
        rivals = [v for v in gradient if v.job["steps"] > 1 and _budget(v) == _budget(blind)]
        found += _beaten("blind-beats-gradients", blind, rivals, text, limits)
    return found


def _beaten(code: str, weak: Verdicts, strong: list[Verdicts], meaning: str, limits: Thresholds) -> list[Flag]:
    if not strong:
        return []
    missed = weak.success & ~np.any([v.success for v in strong], axis=0)
    count, of = int(missed.sum()), int(weak.attacked.sum())
    if not count:
        return []
    rivals = ", ".join(_said(v) for v in strong)
    wins = all(weak.success.sum() > v.success.sum() for v in strong)
    seen = (
        f"{_said(weak)} fools {count} of {of} attacked images ({count / of:.1%}) that {rivals} "
        f"{'misses' if len(strong) == 1 else 'all miss'}"
    )
    if count / of < limits.compared or count == 1:
        text = f"{seen}. So few can come from random starts; the worst case counts them as fooled."
        return [flag(code, "info", "A weaker attack adds a few images", text, weak.job["id"])]
    return [flag(code, "error" if wins else "warning", _TITLES[code], f"{seen}. {meaning}", weak.job["id"])]


def _disagreements(every: list[Verdicts], limits: Thresholds) -> list[Flag]:
    """Searches for the smallest change against attacks within a radius: of each two, the radius where they differ most.

    Both tell of images that fall and of none that stand, so the one that misses what the other has found is weak. The
    images are the same for both, so chance is told from the images on which they differ (the exact test of McNemar).
    """
    serious = [v for v in every if not v.job["control"] and v.job["steps"] > 1]
    worst: dict[tuple[str, Any], tuple[float, Verdicts, Verdicts]] = {}
    for small, ball in product([v for v in serious if v.minimum], [v for v in serious if not v.minimum]):
        if _budget(small) != _budget(ball):
            continue
        for weak, strong in ((small, ball), (ball, small)):
            # An attack that knows less of the model may well find less.
            if KNOWLEDGE.index(_knows(weak)) > KNOWLEDGE.index(_knows(strong)):
                continue
            chance, pair = _chance(weak, strong), (small.job["id"], _family(ball))
            if (strong.success & ~weak.success).any() and (pair not in worst or chance < worst[pair][0]):
                worst[pair] = (chance, weak, strong)
    return [_disagreement(weak, strong, chance <= limits.paired) for chance, weak, strong in worst.values()]


def _chance(weak: Verdicts, strong: Verdicts) -> float:
    """How likely a lead as great as that of `strong` is, in either direction, if both were equally good."""
    more, less = int((strong.success & ~weak.success).sum()), int((weak.success & ~strong.success).sum())
    return mcnemar(more, less) if more > less else 1.0


def _disagreement(weak: Verdicts, strong: Verdicts, sure: bool) -> Flag:
    more, less = int((strong.success & ~weak.success).sum()), int((weak.success & ~strong.success).sum())
    seen = (
        f"Within {weak.job['norm']} {weak.job['radius_text']}, {strong.job['id']} fools {more} of "
        f"{int(weak.attacked.sum())} attacked images that {weak.job['id']} misses, and misses {less or 'none'} that "
        f"{weak.job['id']} fools"
    )
    counted = "The worst case counts an image as fooled where either has fooled it."
    if not sure:
        text = f"{seen}. That is no more than chance makes of two equally good attacks. {counted}"
        return flag("attacks-disagree", "info", "Two kinds of attack differ on a few images", text, weak.job["id"])
    if weak.minimum:
        meaning = (
            f"That is more than chance: {weak.job['attack']} is the weak one here. The changes that it found are not "
            "the smallest, so its curve is too high and its sizes too large. Give it more steps or restarts, and do "
            "not quote it alone."
        )
    else:
        meaning = (
            f"That is more than chance: {weak.job['attack']} is the weak one here. What the other found lies within "
            "its radius, and it did not find it. Give it more steps, restarts or another loss, look for masked "
            "gradients, and do not quote it alone."
        )
    title = "Two kinds of attack disagree, so one of them is weak"
    return flag("attacks-disagree", "warning", title, f"{seen}. {meaning} {counted}", weak.job["id"])


def _radius_flags(jobs: list[Verdicts], limits: Thresholds) -> list[Flag]:
    found = []
    for small, large in product(jobs, jobs):
        if small.job["radius"] >= large.job["radius"] or _family(small) != _family(large):
            continue
        rise, count = int(small.fooled.sum()) - int(large.fooled.sum()), len(small.fooled)
        if rise > 0:
            few = rise / count < limits.compared or rise == 1
            text = (
                f"{small.job['id']} fools {int(small.fooled.sum())} of {count} images and {large.job['id']}, which may "
                f"go further, only {int(large.fooled.sum())}. Everything inside the small radius is inside the large "
                "one too, so the attack loses its way: too few or too large steps, or masked gradients. Give it more "
                "steps and restarts; the worst case already counts the smaller radius."
            )
            severity = "info" if few else "warning"
            title = "Robust accuracy rises with the radius"
            found.append(flag("accuracy-rises", severity, title, text, large.job["id"]))
    return found


def _budget(verdicts: Verdicts) -> tuple[Any, ...]:
    return verdicts.job["norm"], verdicts.job["radius"], verdicts.job["targets"]


def _family(verdicts: Verdicts) -> tuple[Any, ...]:
    job = verdicts.job
    settings = {name: value for name, value in job["settings"].items() if name != "radius"}
    return job["attack"], job["norm"], job["targets"], job["steps"], repr(sorted(settings.items()))


def _knows(verdicts: Verdicts) -> str:
    """What the attack may ask of the model."""
    return str(verdicts.job.get("knowledge", "gradients"))


def _said(verdicts: Verdicts) -> str:
    """The job, and the radius that is meant where it holds several."""
    radius = f" at {verdicts.job['norm']} {verdicts.job['radius_text']}"
    return str(verdicts.job["id"]) + (radius if len(verdicts.job.get("radii", ())) > 1 else "")
