"""The page of the study of generated perturbations: what its cells found, as tables and pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..report.words import duration, number, percent
from .page import Block, Paragraph, Picture, Table, Title
from .pictures import grid
from .study import rate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from .gap import Line
    from .notebook import Values

BESIDE = ("what", "accuracy: report", "here", "size: report", "mean l2", "largest l2")


def systems(victim: Values, found: Sequence[tuple[Line, Values]], attacked: list[tuple[str, Values]]) -> list[Block]:
    """Every system, its variants and the baselines."""
    rows = []
    slow = attacked[0][1]["each"]
    for line, values in found:
        rows.append(
            (
                *_beside(line, values),
                number(values["rms"]),
                number(values["linf"]),
                duration(values["fit"]),
                f"{1e6 * values['each']:.0f}",
                number(slow / values["each"]),
            )
        )
    for name, values in attacked:
        sizes = (number(values["l2"]), number(values["most"]), "–", number(values["linf"]))
        cost = (f"{1e6 * values['each']:.0f}", number(slow / values["each"]))
        rows.append((name, "–", rate(values["right"], values["of"]), "–", *sizes, "–", *cost))
    columns = (
        *BESIDE, "rms", "mean linf", "fit", "microseconds an image", "times faster than PGD-40",
    )  # fmt: skip
    return [
        Title("Four systems, their variants, and attacks at the same size"),
        Paragraph(
            f"A network of {percent(victim['accuracy'])} test accuracy (99.1 % in the report). Everything is fitted on "
            "the training images and measured on the test images. The report does not say what it means by magnitude: "
            "here it is the mean l2 norm of the change in pixel units of [0, 1]. S1 makes the image and pays for its "
            "change, so that no image has a bound; S2 holds every change to the radius; S3, universal PGD and UAP are "
            "one change for all images, whose own size is the radius and of which the box cuts a part off: the mean "
            "size is that of what is left. A success of an attack is counted at its first wrong answer; the "
            "microseconds of PGD-40 with all steps are those of a generation of equal effort for every image."
        ),
        Table("Accuracy of the network on the changed test images, and what it costs", columns, rows),
    ]


def other(network: str, trained: Values, found: Sequence[tuple[Line, Values]]) -> list[Block]:
    """The figures of the report on a network of another kind."""
    rows = [(*_beside(line, values), duration(values["fit"])) for line, values in found]
    return [
        Title("The same on another network"),
        Paragraph(
            "The report does not say which network it fools. How far a change of a given size gets depends on it more "
            f"than on the system: this is {network}, of {percent(trained['accuracy'])} test accuracy. The two are as "
            "accurate, and differ most where one change is for all images."
        ),
        Table("Accuracy of the other network on the changed test images", (*BESIDE, "fit"), rows),
    ]


def _beside(line: Line, values: Values) -> tuple[str, ...]:
    """What the report says of a system and what was found here: the columns of `BESIDE`."""
    return (
        line.name,
        "–" if line.accuracy is None else f"{line.accuracy} %",
        rate(values["right"], values["of"]),
        "–" if line.size is None else str(line.size),
        number(values["l2"]),
        number(values["most"]),
    )


def shown(tensors: dict[str, dict[str, Tensor]]) -> list[Block]:
    """Some images as each system changes them, and the changes."""
    first = next(iter(tensors.values()))["clean"]
    names, images = ["original"], {(0, column): image for column, image in enumerate(first)}
    for name, kept in tensors.items():
        for words, pictures in ((name, kept["changed"]), ("its change", kept["changed"] - kept["clean"])):
            if words == "its change":
                most = pictures.abs().flatten(1).amax(1).clamp(min=1e-12).view(-1, 1, 1, 1)
                pictures = 0.5 + pictures / (2 * most)
            images |= {(len(names), column): image for column, image in enumerate(pictures)}
            names.append(words)
    columns = [""] * len(first)
    return [
        Title("What it looks like"),
        Picture(
            "images.png",
            grid(images, names, columns, set()),
            "Images as each system changes them, and the changes, stretched to all greys",
        ),
    ]


def floor(found: list[tuple[str, Values]]) -> list[Block]:
    """The claim that one change for all images cannot do better than guessing."""
    rows = [
        (
            name,
            rate(values["right"], values["of"]),
            rate(values["fooled"], values["of"]),
            percent(values["commonest"] / values["of"]),
            number(values["l2"]),
        )
        for name, values in found
    ]
    name, least = min(found, key=lambda entry: float(entry[1]["right"]))
    return [
        Title("How low one change for all images goes"),
        Paragraph(
            "The report argues that one change for all images cannot bring the accuracy below that of guessing, one in "
            "the number of classes. That is no bound: a change that sends every class to another one would bring it "
            "to zero. What is seen: the lowest accuracy of these is "
            f"{rate(least['right'], least['of'])} ({name}), where the commonest answer is given to "
            f"{percent(least['commonest'] / least['of'])} of the images. An accuracy near one in the number of classes "
            "together with one answer for nearly all images is the collapse that the argument has in mind; an accuracy "
            "below it is a counterexample."
        ),
        Table(
            "Accuracy under one change for all, and how many images get the commonest answer",
            ("change", "accuracy", "answers changed", "commonest answer", "mean l2 left by the box"),
            rows,
        ),
    ]


def joint(found: list[tuple[str, Values, Values]], radius: float) -> list[Block]:
    """Joint training under attacks that know nothing of its generator."""
    rows = [
        (
            name,
            duration(trained["training"]),
            percent(values["clean"] / values["of"]),
            rate(values["generated"], values["of"]),
            rate(values["stands"], values["attacked"]),
        )
        for name, trained, values in found
    ]
    return [
        Title("Classifier and generator trained against each other"),
        Paragraph(
            "Left to the future by the report. The classifier minimises half the cross entropy of the images and half "
            f"that of the generator's, the generator maximises the latter, within l2 {radius}. The comparison is PGD "
            "training with as many multiplications. Judged are both by a new generator that is fitted to the finished "
            "network, and by PGD with 100 steps of two losses: what withstands the generator alone has not been shown "
            "to be robust."
        ),
        Table(
            f"Accuracy within l2 {radius}",
            ("training", "time", "clean", "a new generator", "PGD-100 (cross entropy and margin)"),
            rows,
        ),
    ]
