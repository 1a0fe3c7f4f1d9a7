"""Red flags that the model itself raises: signs that a measured robustness cannot be trusted, in plain words.

Flags between attacks (one step beats many, noise beats gradients) are derived from a run, in `evaluation.flags`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from .lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from .classifiers import Classifier


@dataclass(frozen=True)
class Flag:
    """A finding: a code for programs, a title, and a text that says what was seen, what it means and what to do."""

    code: str
    severity: Literal["error", "warning", "info"]
    title: str
    text: str
    job: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def output_flags(logits: Tensor) -> tuple[Flag, ...]:
    """Flags that the outputs (B, K) for clean images raise by themselves."""
    flags: list[Flag] = []
    finite = torch.isfinite(logits).all(1)
    if not bool(finite.all()):
        flags.append(
            Flag(
                "bad-outputs",
                "error",
                "The model answers with NaN or infinity",
                f"{int((~finite).sum())} of {len(logits)} images get logits that are not finite. They count as "
                "mistakes, and nothing that is measured on them means anything. Check the weights and the range of "
                "the input.",
            )
        )
    good = logits[finite].double()
    if len(good) and bool((good >= 0).all()) and bool(((good.sum(1) - 1).abs() < 1e-3).all()):
        flags.append(
            Flag(
                "probabilities",
                "error",
                "The outputs look like probabilities, not logits",
                "Every output is non-negative and each image's outputs add up to 1, so the model seems to end in a "
                "softmax. Losses computed on them have almost no gradient and the model looks more robust than it "
                "is. Remove the softmax, or say outputs='probabilities' (--outputs probabilities).",
            )
        )
    if len(good) > 1 and bool((good == good[:1]).all()):
        flags.append(
            Flag(
                "constant-output",
                "error",
                "The output does not depend on the image",
                f"All {len(good)} images get exactly the same logits. There is nothing to attack; check the model and "
                "its input.",
            )
        )
    return tuple(flags)


def gradient_flags(attacked: Tensor, zero: Tensor, bad: Tensor, backwards: Tensor) -> tuple[Flag, ...]:
    """Flags of zero and non-finite gradients, from per-image counts (B,) of such queries."""
    count = int(attacked.sum())
    if not count:
        return ()
    flags: list[Flag] = []
    stuck = int((attacked & (zero * 2 > backwards)).sum())
    if stuck * 20 >= count:
        flags.append(
            Flag(
                "zero-gradients",
                "error",
                "Gradients are zero",
                f"For {stuck} of {count} attacked images more than half of the gradients are exactly zero, so the "
                "attack did not move. This is masking, not robustness: look for a softmax inside the model, "
                "saturated outputs, or a step without a gradient (rounding, thresholding), and try a margin loss or "
                "a black-box attack.",
            )
        )
    broken = int((attacked & (bad > 0)).sum())
    if broken:
        flags.append(
            Flag(
                "bad-gradients",
                "error",
                "Losses or gradients are not finite",
                f"For {broken} of {count} attacked images some losses or gradients are NaN or infinite; such points "
                "never count, and such gradients were left out of the steps. Look for square roots at zero, logarithms "
                "or divisions in the model.",
            )
        )
    return tuple(flags)


def blamed(flags: tuple[Flag, ...], withstood: int, attacked: int) -> tuple[Flag, ...]:
    """The flags, of which a softmax at the end of the model is named as the reason why attacks on it failed."""
    if not withstood:
        return flags
    reason = f" {withstood} of {attacked} attacked images withstood, and this is the likely reason."
    return tuple(replace(flag, text=flag.text + reason) if flag.code == "probabilities" else flag for flag in flags)


def start_flags(unstarted: Tensor) -> tuple[Flag, ...]:
    """The flag of images (B,) for which an attack found no point to begin from."""
    count = int(unstarted.sum())
    if not count:
        return ()
    return (
        Flag(
            "no-start",
            "warning",
            "No point to begin from",
            f"For {count} of {len(unstarted)} images no noise reached the goal, so the attack could not begin and says "
            "nothing about them. Raise draws, or give images that reach the goal as starts.",
        ),
    )


def probe(classifier: Classifier, images: Tensor) -> tuple[Flag, ...]:
    """Ask the model a few questions before it is attacked: is it deterministic, trained, independent of the batch?

    Args:
        classifier: the model.
        images: a few clean images (B, C, H, W), at least two.
    """
    flags: list[Flag] = []
    with classifier.session():  # one session, at the end of which the global random state is restored
        first, again = classifier.logits(images), classifier.logits(images)
    flags.extend(output_flags(first))
    if not torch.equal(first.nan_to_num(), again.nan_to_num()):
        flips = int((first.argmax(1) != again.argmax(1)).sum())
        flags.append(
            Flag(
                "random-output",
                "error",
                "The model answers differently when asked twice",
                f"The same {len(images)} images gave other logits the second time ({flips} other predictions), in "
                "eval mode. A single forward decides nothing then: a success may be luck, and gradients must be "
                "averaged.",
            )
        )
    elif not _close(first.flip(0), classifier.logits(images.flip(0))) or not _close(
        first[:1], classifier.logits(images[:1])
    ):
        flags.append(
            Flag(
                "batch-dependent",
                "error",
                "The answer for an image depends on the other images of its batch",
                "The same images in another order or alone give other logits. Batch normalisation without running "
                "statistics does this. The verdicts then belong to batches, not to images.",
            )
        )
    if classifier.was_training:
        names = ", ".join(classifier.was_training[:3]) + (" ..." if len(classifier.was_training) > 3 else "")
        flags.append(
            Flag(
                "train-mode",
                "warning",
                "The model was given in train mode",
                f"{len(classifier.was_training)} layers were in train mode ({names}). They were evaluated in eval "
                "mode and put back; call model.eval() first if that is what you mean.",
            )
        )
    if classifier.trained is False:
        flags.append(
            Flag(
                "untrained",
                "error",
                "The weights are random",
                f"{classifier.name} was built without weights. Its figures describe chance, not a model: give "
                "--weights.",
            )
        )
    return tuple(flags)


def _close(a: Tensor, b: Tensor) -> bool:
    # Loose: another place in the batch may round differently, another batch statistic moves far more.
    scale = float(a.nan_to_num().abs().max()) + 1e-6
    return bool(((a - b).nan_to_num().abs() <= 1e-3 * scale).all())
