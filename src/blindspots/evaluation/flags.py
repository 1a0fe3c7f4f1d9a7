"""Red flags: what in a finished run says that its numbers should not be believed as they stand.

The probes of the model (done by the run itself) come with the manifest; the flags here are derived from the
rows, by comparing what the attacks did with what no attack on a sound model should do.

Sources: Athalye, Carlini and Wagner, "Obfuscated gradients give a false sense of security" (2018,
arXiv 1802.00420); Carlini et al., "On evaluating adversarial robustness" (2019, arXiv 1902.06705).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .comparisons import comparison_flags
from .findings import SEVERITIES, Flag, Thresholds, flag
from .intervals import at_least
from .run import Run
from .verdicts import Verdicts

CHECKS = (  # what each check asks, to be read after "whether"
    "clean accuracy is better than guessing, and the model names more than one class",
    "gradients are zero, or losses or gradients not finite, while an attack searches",
    "a one-step attack fools images that a many-step attack with the same budget misses",
    "random noise fools images that every gradient attack with the same budget misses",
    "an attack without gradients fools images that every gradient attack with the same budget misses",
    "an attack within a radius and a search for the smallest change disagree by more than chance",
    "robust accuracy rises with the radius of an attack",
    "successes are mere ties between two classes",
)
PROBES = (
    "the model, probed before the attacks, gives logits and not probabilities, finite ones, the same on a second "
    "call and in another batch, has no layer in training mode, and has trained weights"
)


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
    found += _start_flags(jobs)
    found += comparison_flags(jobs, limits)
    found += _tie_flags(jobs, limits)
    return sorted(found, key=_rank)


def _probe_flags(run: Run, jobs: list[Verdicts]) -> list[Flag]:
    """The flags of the probes; that of a softmax inside the model says which attack failed for it."""
    found: list[Flag] = [dict(probe) for probe in run.manifest.get("probes", [])]
    stood = [(int((v.attacked & ~v.fooled).sum()), v) for v in jobs if not v.job["control"]]
    most, worst = max(stood, key=lambda entry: entry[0], default=(0, None))
    for one in found:
        if one["code"] == "probabilities" and worst is not None and most:
            of = f"{most} of {int(worst.attacked.sum())}"
            one["text"] += f" In {worst.job['id']}, {of} attacked images withstood, and this is the likely reason."
    return found


def _model_flags(run: Run, jobs: list[Verdicts], limits: Thresholds) -> list[Flag]:
    clean = run.clean()
    label, prediction = clean["label"].to_numpy(), clean["prediction"].to_numpy()
    right, count = int(clean["correct"].to_numpy().sum()), len(label)
    if count == 0:
        return [flag("nothing-attacked", "error", "There was no image", "The data holds no image. Check the data.")]
    found = []
    present = len(np.unique(label))
    choices = present if present > 1 else max(2, int(run.manifest["model"].get("classes") or 2))
    guessed = at_least(right, count, 1 / choices)
    if guessed > limits.chance:
        seen = f"{right} of {count} images are right, where guessing among {choices} classes gives {1 / choices:.1%}"
        if (1 / choices) ** count > limits.chance:
            text = f"{seen}. So few images cannot tell any model from guessing. Evaluate more images."
            found.append(flag("too-few-images", "warning", "Too few images to judge a model", text))
        else:
            text = (
                f"{seen}, and as good a score comes from guessing alone with probability {guessed:.2g}. A model that "
                "does not know the classes has no robustness to measure, and every number below is empty. Check that "
                "its weights are loaded, that mean and std are those it was trained with, and that its classes are "
                "in the order of the labels."
            )
            found.append(flag("no-model", "error", "The model does no better than guessing", text))
    named, times = np.unique(prediction, return_counts=True)
    top, most = int(named[times.argmax()]), int(times.max())
    if present > 1 and most / count >= limits.one_class and int((label == top).sum()) / count < limits.one_class:
        text = (
            f"{most} of {count} images are called {_class(run, top)}, whatever they show. The model looks at nothing "
            "that tells the classes apart. Check its weights, its mean and std, and that images lie in [0, 1]."
        )
        found.append(flag("one-class", "error", "The model names one class for nearly everything", text))
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
        found.append(flag("constant-output", "error", "The output is constant", text))
    if jobs and not any(verdict.attacked.any() for verdict in jobs):
        text = (
            "Attacks start from images that the model classifies rightly, and there is none, so nothing was attacked "
            "and the robust accuracy of 0 says nothing about attacks. Mend the clean accuracy first."
        )
        found.append(flag("nothing-attacked", "error", "Nothing was attacked", text))
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
        found.append(flag("zero-gradients", severity, "Many gradients are zero", text, worst.job["id"]))
    broken = [(int(v.bad_gradients[v.attacked].astype(bool).sum()), v) for v in jobs]
    for count, worst in sorted(broken, key=lambda entry: -entry[0])[:1]:
        if not count:
            break
        text = (
            f"In {worst.job['id']}, {count} of {int(worst.attacked.sum())} attacked images met a loss or a gradient "
            "that is infinite or not a number. The attack could not follow it, so the robust accuracy is too high. "
            "Look for a division, a logarithm or a square root at zero in the model, or an overflow in half precision."
        )
        found.append(flag("bad-gradients", "error", "Some losses or gradients are not finite", text, worst.job["id"]))
    return found


def _start_flags(jobs: list[Verdicts]) -> list[Flag]:
    found = []
    for verdict in jobs:
        count, of = int(verdict.unstarted[verdict.attacked].astype(bool).sum()), int(verdict.attacked.sum())
        if count:
            text = (
                f"In {verdict.job['id']}, no noise reached the goal for {count} of {of} attacked images, so the attack "
                "could not begin and says nothing about them, though they count as not fooled. Raise its draws, or use "
                "an attack that begins at the image."
            )
            found.append(flag("no-start", "warning", "No point to begin from", text, verdict.job["id"]))
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
    return [flag("tied-success", "info", "Some successes are ties", text, worst.job["id"])]


def _class(run: Run, number: int) -> str:
    names = run.manifest["class_names"]
    return f"'{names[number]}'" if number < len(names) else f"class {number}"


def _rank(found: Flag) -> tuple[Any, ...]:
    return SEVERITIES.index(found["severity"]), found["job"] is not None, found["code"], found["job"] or ""
