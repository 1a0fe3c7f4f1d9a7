"""Red flags: what in a finished run says that its numbers should not be believed as they stand.

The probes of the model (done by the run itself) come with the manifest; the flags here are derived from the
rows, by comparing what the attacks did with what no attack on a sound model should do.

Sources: Athalye, Carlini and Wagner, "Obfuscated gradients give a false sense of security" (2018,
arXiv 1802.00420); Carlini et al., "On evaluating adversarial robustness" (2019, arXiv 1902.06705).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from .intervals import at_least
from .run import Run, Verdicts

Flag = dict[str, Any]
SEVERITIES = ("error", "warning", "info")

CHECKS = (  # what each check asks, to be read after "whether"
    "clean accuracy is better than guessing, and the model names more than one class",
    "gradients are zero, or losses or gradients not finite, while an attack searches",
    "a one-step attack fools images that a many-step attack with the same budget misses",
    "random noise fools images that every gradient attack with the same budget misses",
    "robust accuracy rises with the radius of an attack",
    "successes are mere ties between two classes",
)
PROBES = (
    "the model, probed before the attacks, gives logits and not probabilities, finite ones, the same on a second "
    "call and in another batch, has no layer in training mode, and has trained weights"
)


@dataclass(frozen=True)
class Thresholds:
    """When an observation becomes a flag; shares of the images concerned."""

    zero_gradients: float = 0.05  # a few saturated images are normal, one in twenty is not
    compared: float = 0.01  # between attacks, below this share: a note, for random starts differ a little
    chance: float = 0.01  # clean accuracy must beat guessing at this level of an exact binomial test
    one_class: float = 0.95
    tie: float = 1e-6  # logits closer than this may fall the other way on another machine


def red_flags(run: Run, verdicts: dict[str, Verdicts], thresholds: Thresholds | None = None) -> list[Flag]:
    """All flags of a finished run: those of the manifest's probes and those seen in the rows.

    Errors come first, and among equals those of the model before those of single jobs.
    A flag is `{"code", "severity", "title", "text", "job"}`; the text says what was seen, what it means and
    what to do.
    """
    limits = thresholds or Thresholds()
    jobs = list(verdicts.values())
    found = _probe_flags(run, jobs)
    found += _model_flags(run, jobs, limits)
    found += _gradient_flags(jobs, limits)
    found += _comparison_flags(jobs, limits)
    found += _radius_flags(jobs, limits)
    found += _tie_flags(jobs, limits)
    return sorted(found, key=_rank)


def _probe_flags(run: Run, jobs: list[Verdicts]) -> list[Flag]:
    """The flags of the probes; that of a softmax inside the model says which attack failed for it."""
    found: list[Flag] = [dict(flag) for flag in run.manifest.get("probes", [])]
    stood = [(int((v.attacked & ~v.fooled).sum()), v) for v in jobs if not v.job["control"]]
    most, worst = max(stood, key=lambda entry: entry[0], default=(0, None))
    for flag in found:
        if flag["code"] == "probabilities" and worst is not None and most:
            of = f"{most} of {int(worst.attacked.sum())}"
            flag["text"] += f" In {worst.job['id']}, {of} attacked images withstood, and this is the likely reason."
    return found


def _model_flags(run: Run, jobs: list[Verdicts], limits: Thresholds) -> list[Flag]:
    clean = run.clean()
    label, prediction = clean["label"].to_numpy(), clean["prediction"].to_numpy()
    right, count = int(clean["correct"].to_numpy().sum()), len(label)
    if count == 0:
        return [_flag("nothing-attacked", "error", "There was no image", "The data holds no image. Check the data.")]
    found = []
    present = len(np.unique(label))
    choices = present if present > 1 else max(2, int(run.manifest["model"].get("classes") or 2))
    guessed = at_least(right, count, 1 / choices)
    if guessed > limits.chance:
        seen = f"{right} of {count} images are right, where guessing among {choices} classes gives {1 / choices:.1%}"
        if (1 / choices) ** count > limits.chance:
            text = f"{seen}. So few images cannot tell any model from guessing. Evaluate more images."
            found.append(_flag("too-few-images", "warning", "Too few images to judge a model", text))
        else:
            text = (
                f"{seen}, and as good a score comes from guessing alone with probability {guessed:.2g}. A model that "
                "does not know the classes has no robustness to measure, and every number below is empty. Check that "
                "its weights are loaded, that mean and std are those it was trained with, and that its classes are "
                "in the order of the labels."
            )
            found.append(_flag("no-model", "error", "The model does no better than guessing", text))
    named, times = np.unique(prediction, return_counts=True)
    top, most = int(named[times.argmax()]), int(times.max())
    if present > 1 and most / count >= limits.one_class and int((label == top).sum()) / count < limits.one_class:
        text = (
            f"{most} of {count} images are called {_class(run, top)}, whatever they show. The model looks at nothing "
            "that tells the classes apart. Check its weights, its mean and std, and that images lie in [0, 1]."
        )
        found.append(_flag("one-class", "error", "The model names one class for nearly everything", text))
    confidence = clean["confidence"].to_numpy()
    if (
        count > 1
        and len(named) == 1
        and float(np.ptp(confidence)) <= limits.tie
        and float(np.ptp(clean["margin"])) == 0
    ):
        text = (
            f"All {count} images get the same answer with the same confidence ({float(confidence[0]):.3g}). The output "
            "does not depend on the input, so no attack can do anything. Check the weights and the wrapper."
        )
        found.append(_flag("constant-output", "error", "The output is constant", text))
    if jobs and not any(verdict.attacked.any() for verdict in jobs):
        text = (
            "Attacks start from images that the model classifies rightly, and there is none, so nothing was attacked "
            "and the robust accuracy of 0 says nothing about attacks. Mend the clean accuracy first."
        )
        found.append(_flag("nothing-attacked", "error", "Nothing was attacked", text))
    return found


def _gradient_flags(jobs: list[Verdicts], limits: Thresholds) -> list[Flag]:
    found = []
    seen = [(int(v.zero_gradients[v.attacked].astype(bool).sum()), int(v.attacked.sum()), v) for v in jobs]
    flat = [(zero / of, zero, of, v) for zero, of, v in seen if of and zero / of >= limits.zero_gradients]
    if flat:
        part, zero, of, worst = max(flat, key=lambda entry: entry[0])
        others = f" ({len(flat)} jobs are concerned; this is the worst)" if len(flat) > 1 else ""
        text = (
            f"In {worst.job['id']}, {zero} of {of} attacked images ({part:.1%}) met a gradient of exactly zero"
            f"{others}. Where the gradient is zero a gradient attack is blind: what looks robust may be gradient "
            "masking (rounding, a saturated softmax, a defence that hides the gradient). Attack with margin or DLR as "
            "objective, with random starts, and with an attack that needs no gradient."
        )
        severity = "error" if part >= 0.5 else "warning"
        found.append(_flag("zero-gradients", severity, "Many gradients are zero", text, worst.job["id"]))
    broken = [(int(v.bad_gradients[v.attacked].astype(bool).sum()), v) for v in jobs]
    for count, worst in sorted(broken, key=lambda entry: -entry[0])[:1]:
        if not count:
            break
        text = (
            f"In {worst.job['id']}, {count} of {int(worst.attacked.sum())} attacked images met a loss or a gradient "
            "that is infinite or not a number. The attack could not follow it, so the robust accuracy is too high. "
            "Look for a division, a logarithm or a square root at zero in the model, or an overflow in half precision."
        )
        found.append(_flag("bad-gradients", "error", "Some losses or gradients are not finite", text, worst.job["id"]))
    return found


def _comparison_flags(jobs: list[Verdicts], limits: Thresholds) -> list[Flag]:
    found = []
    gradient = [v for v in jobs if not v.job["control"]]
    for many in (v for v in gradient if v.job["steps"] > 1):
        text = (
            "Many small steps can do all that one large step does, so this points to masked gradients or to a "
            "many-step attack with a bad step size. Use smaller steps, more of them, and random restarts."
        )
        for one in (v for v in gradient if v.job["steps"] == 1 and _budget(v) == _budget(many)):
            found += _beaten("one-step-beats-many", one, [many], text, limits)
    for noise in (v for v in jobs if v.job["control"]):
        rivals = [v for v in gradient if _budget(v) == _budget(noise)]
        text = (
            "Noise searches blindly, so attacks that follow the gradient should never lose to it: the gradient leads "
            "them nowhere. Do not report the gradient attacks alone; attack without gradients, or mend the attack."
        )
        found += _beaten("noise-beats-gradients", noise, rivals, text, limits) if rivals else []
    return found


def _beaten(code: str, weak: Verdicts, strong: list[Verdicts], meaning: str, limits: Thresholds) -> list[Flag]:
    missed = weak.success & ~np.any([v.success for v in strong], axis=0)
    count, of = int(missed.sum()), int(weak.attacked.sum())
    if not count:
        return []
    rivals = ", ".join(v.job["id"] for v in strong)
    wins = all(weak.success.sum() > v.success.sum() for v in strong)
    seen = (
        f"{weak.job['id']} fools {count} of {of} attacked images ({count / of:.1%}) that {rivals} "
        f"{'misses' if len(strong) == 1 else 'all miss'}"
    )
    if count / of < limits.compared or count == 1:
        text = f"{seen}. So few can come from random starts; the worst case counts them as fooled."
        return [_flag(code, "info", "A weaker attack adds a few images", text, weak.job["id"])]
    name = "One step fools images that many steps miss"
    title = name if code == "one-step-beats-many" else "Noise fools images that gradients miss"
    return [_flag(code, "error" if wins else "warning", title, f"{seen}. {meaning}", weak.job["id"])]


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
            found.append(_flag("accuracy-rises", severity, title, text, large.job["id"]))
    return found


def _tie_flags(jobs: list[Verdicts], limits: Thresholds) -> list[Flag]:
    ties = [(int((v.success & (np.abs(v.margin) <= limits.tie)).sum()), v) for v in jobs]
    count, worst = max(ties, key=lambda entry: entry[0], default=(0, None))
    if worst is None or not count:
        return []
    text = (
        f"In {worst.job['id']}, {count} of {int(worst.success.sum())} successes are ties: the two best classes differ "
        "by almost nothing, and on another machine the answer may fall the other way. Ask for a margin (kappa) if the "
        "images are to be used elsewhere."
    )
    return [_flag("tied-success", "info", "Some successes are ties", text, worst.job["id"])]


def _budget(verdicts: Verdicts) -> tuple[Any, ...]:
    return verdicts.job["norm"], verdicts.job["radius"], verdicts.job["targets"]


def _family(verdicts: Verdicts) -> tuple[Any, ...]:
    job = verdicts.job
    settings = {name: value for name, value in job["settings"].items() if name != "radius"}
    return job["attack"], job["norm"], job["targets"], job["steps"], repr(sorted(settings.items()))


def _class(run: Run, number: int) -> str:
    names = run.manifest["class_names"]
    return f"'{names[number]}'" if number < len(names) else f"class {number}"


def _rank(flag: Flag) -> tuple[Any, ...]:
    return SEVERITIES.index(flag["severity"]), flag["job"] is not None, flag["code"], flag["job"] or ""


def _flag(code: str, severity: str, title: str, text: str, job: str | None = None) -> Flag:
    return {"code": code, "severity": severity, "title": title, "text": text, "job": job}
