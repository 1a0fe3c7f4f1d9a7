"""The page of the study of adversarial training: every question of the course with a number and its interval."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..evaluation.paired import difference
from ..report.comparison import chance, ends, points
from ..report.words import duration, number
from ..settings import Radius
from .notebook import Values
from .page import Block, Paragraph, Picture, Table, Title
from .pictures import grid, lines
from .study import rate

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Seen:
    """What a network says of N images, unchanged or attacked: is it right, its cross-entropy, the prediction and how
    sure that is, and the l2 size of the change; (N,) each."""

    right: Tensor
    loss: Tensor
    prediction: Tensor
    confidence: Tensor
    l2: Tensor | None = None

    @property
    def accuracy(self) -> str:
        return rate(int(self.right.sum()), len(self.right))

    @property
    def errors(self) -> str:
        """The mean certainty of wrong answers, with its interval."""
        return mean(self.confidence[~self.right], 100, " %")


# By network, and then by attack and radius; ("none", "") is the unchanged images.
Found = dict[str, dict[tuple[str, str], Seen]]


@dataclass(frozen=True)
class Scene:
    """What the page tells of: the radii, the one trained at, values of an image, steps of PGD, trainings by name, the
    names of the classes, and the class that every image is turned into."""

    sweep: tuple[str, ...]
    trained: str
    values: int
    steps: int
    named: dict[str, str]
    classes: tuple[str, ...]
    target: str


KINDS = ("sign", "normalised", "PGD", "normalised PGD", "noise")


def blocks(
    scene: Scene,
    trained: dict[str, Values],
    found: Found,
    aimed: dict[str, dict[tuple[str, str], Tensor]],
    shown: dict[str, dict[str, Tensor]],
) -> list[Block]:
    """The whole page."""
    asked = [(question, answer) for question, answer in answers(scene, found, aimed) if answer]
    return [
        Title("Questions and answers"),
        Paragraph(
            "The course trains an image classifier, attacks it with the gradient of its loss, trains on what comes "
            "out, and asks what that changes. Each answer is a number of the tables below with its 95 % interval: of "
            "Clopper and Pearson for a share; of the paired bootstrap for a difference between two networks or two "
            "attacks on the same images, in percentage points (pp), with p of McNemar's exact test; of the normal "
            "distribution for a mean. All networks are trained once: intervals tell of other images, not of other "
            "trainings."
        ),
        Table("What the course asks", ("question", "answer"), asked),
        *_bare(scene, found["plain"]),
        *_trainings(scene, trained, found),
        *_sweeps(scene, found),
        *_one_class(scene, aimed),
        *_pictures(scene, shown),
    ]


def answers(scene: Scene, found: Found, aimed: dict[str, dict[tuple[str, str], Tensor]]) -> Iterator[tuple[str, str]]:
    """Each question with its answer, in the order of the course; empty where the networks that it needs are missing."""
    at, bare = scene.trained, found["plain"]
    clean, sign, normal, many = bare["none", ""], bare["sign", at], bare["normalised", at], bare["PGD", at]
    size = number(round(_paired(scene, at), 3))
    yield (
        "Does the attack work: accuracy and loss on the test data, before and after?",
        f"Yes. A sign step of {at} takes accuracy from {clean.accuracy} to {sign.accuracy} and the mean loss from "
        f"{mean(clean.loss)} to {mean(sign.loss)}; a normalised step of the same l2 size takes them to "
        f"{normal.accuracy} and {mean(normal.loss)}."
        if sign.right.sum() < clean.right.sum()
        else f"No: accuracy is {clean.accuracy} before and {sign.accuracy} after.",
    )
    yield (
        "How small may epsilon be?",
        "; ".join(
            f"sign {radius} (l2 {number(round(_paired(scene, radius), 3))}): {bare['sign', radius].accuracy} stay right"
            for radius in scene.sweep
        ),
    )
    yield (
        "How sure is the network of its answers, before and after?",
        f"Of its errors without attack {clean.errors}, of those after a sign step of {at} {sign.errors}, "
        f"after PGD {many.errors}.",
    )
    yield (
        "Sign or normalised gradient, made comparable?",
        f"A sign step of {at} has l2 size {at} * sqrt({scene.values}) = {size}. At that size the accuracy left by sign "
        f"less that left by normalised is {changed(sign, normal)}.",
    )
    yield (
        "Are several small steps more effective than one?",
        f"PGD of {scene.steps} steps within the same {at} leaves {many.accuracy}: {changed(many, sign)} against one "
        f"sign step. In l2: {changed(bare['normalised PGD', at], normal)}.",
    )
    yield (
        "Does adversarial training help against the attack that it trained on, and how much?",
        _each(
            f"{name}: {changed(found[name][kind, at], bare[kind, at])}, to {found[name][kind, at].accuracy}"
            for name, kind in _OWN.items()
            if name in found
        ),
    )
    yield (
        "Does it help against attacks that it was not trained on?",
        _each(
            f"{name}: "
            + ", ".join(
                f"{kind} {changed(found[name][kind, at], bare[kind, at])}"
                for kind in ("sign", "normalised", "PGD", "normalised PGD")
                if kind != own
            )
            + f", stAdv {changed(found[name]['stAdv', ''], bare['stAdv', ''])}"
            for name, own in _OWN.items()
            if name in found and name in ("sign F2", "normalised F2", "PGD")
        ),
    )
    yield (
        "And against larger epsilons than it was trained at?",
        _each(
            f"{name}, {own} {radius}: {found[name][own, radius].accuracy}"
            for name, own in _OWN.items()
            if name in found and name in ("sign F2", "PGD")
            for radius in scene.sweep[scene.sweep.index(at) + 1 :]
        ),
    )
    yield (
        "Is the accuracy on unchanged images better, the same or worse?",
        _each(f"{name}: {changed(found[name]['none', ''], clean)}" for name in found if name != "plain"),
    )
    if {"sign only", "sign F2"} <= found.keys():
        both, only = found["sign F2"], found["sign only"]
        yield (
            "Is it better to train on original and adversarial images together than on adversarial ones alone?",
            f"Averaged (F2) against alone: unchanged images {changed(both['none', ''], only['none', ''])}, sign step "
            f"{changed(both['sign', at], only['sign', at])}, PGD {changed(both['PGD', at], only['PGD', at])}.",
        )
    yield (
        "Do the three ways to train on both differ?",
        _each(
            f"{name} against F2: unchanged {changed(found[name]['none', ''], found['sign F2']['none', ''])}, sign "
            f"{changed(found[name]['sign', at], found['sign F2']['sign', at])}, PGD "
            f"{changed(found[name]['PGD', at], found['sign F2']['PGD', at])}"
            for name in ("sign F1", "sign F3")
            if {name, "sign F2"} <= found.keys()
        ),
    )
    if "noise" in found:
        noisy = found["noise"]
        yield (
            "Does training on random noise help?",
            f"Against noise of {at}: {changed(noisy['noise', at], bare['noise', at])}. Against a sign step: "
            f"{changed(noisy['sign', at], sign)}. Against PGD: {changed(noisy['PGD', at], many)}.",
        )
    yield (
        f"Can everything be made a {scene.target}?",
        _each(
            f"{name}: of the images of other classes {_reached(each['PGD', at])} by PGD within {at}, "
            f"{_reached(each['sign', at])} by a sign step ({_reached(each['sign', ''])} without attack)"
            for name, each in aimed.items()
        ),
    )


# The attack that each training makes its own.
_OWN = {
    "sign only": "sign", "sign F1": "sign", "sign F2": "sign", "sign F3": "sign", "normalised F2": "normalised",
    "PGD": "PGD",
}  # fmt: skip


def _bare(scene: Scene, bare: dict[tuple[str, str], Seen]) -> list[Block]:
    rows = []
    for (kind, radius), seen in bare.items():
        size = "–" if seen.l2 is None else number(round(float(seen.l2.mean()), 3))
        rows.append((kind, radius or "–", size, seen.accuracy, mean(seen.loss), seen.errors))
    return [
        Title("The plain network, attack by attack"),
        Paragraph(
            "Every test image is replaced by its adversarial one, but for those that are wrong already, which stay "
            f"as they are. Sign steps of eps and normalised steps of eps * sqrt({scene.values}) have the same l2 norm "
            f"before clipping and stand at the same radius. PGD takes {scene.steps} steps. Of the points that an "
            "attack passes, the unchanged image too, that of highest loss counts; stAdv bends by at most a pixel and "
            "stops beyond the boundary, so that its loss says little."
        ),
        Table(
            "Accuracy, mean loss, and mean certainty of the errors",
            ("attack", "radius", "mean l2 size", "accuracy", "loss", "certainty of errors"),
            rows,
        ),
    ]


def _trainings(scene: Scene, trained: dict[str, Values], found: Found) -> list[Block]:
    at, clean = scene.trained, found["plain"]["none", ""]
    rows, losses = [], []
    for name, seen in found.items():
        kinds = [seen[kind, at] for kind in KINDS] + [seen["stAdv", ""]]
        gain = "–" if name == "plain" else changed(seen["none", ""], clean)
        told = [each.accuracy for each in kinds]
        rows.append(
            (name, scene.named[name], seen["none", ""].accuracy, gain, *told, duration(trained[name]["training"]))
        )
        each = [seen["none", ""], *kinds[:3]]
        losses.append((name, *(f"{mean(one.loss)}; {one.errors}" for one in each)))
    return [
        Title("Networks trained in different ways"),
        Paragraph(
            f"The same network, trained at radius {at} (normalised: {number(round(_paired(scene, at), 3))} in l2), and "
            "attacked at it. A one-step accuracy above that of PGD is a sign of masked gradients, which a step that is "
            "trained on invites: read the columns of PGD first."
        ),
        Table(
            f"Accuracy on unchanged images, and under attacks at radius {at}",
            ("trained", "on", "unchanged", "less plain", *KINDS, "stAdv", "time"),
            rows,
        ),
        Table(
            f"Mean loss, and mean certainty of the errors, unchanged and at radius {at}",
            ("trained", "unchanged", *KINDS[:3]),
            losses,
        ),
    ]


def _sweeps(scene: Scene, found: Found) -> list[Block]:
    tables = [
        Table(
            f"{kind}: accuracy by radius (linf; l2 steps are of radius * sqrt({scene.values}))",
            ("trained", *scene.sweep),
            [(name, *(seen[kind, radius].accuracy for radius in scene.sweep)) for name, seen in found.items()],
        )
        for kind in KINDS
    ]
    places = [0.0, *(float(Radius(radius)) for radius in scene.sweep)]
    panels = {
        kind: {
            name: [
                float(one.right.double().mean()) for one in (seen["none", ""], *(seen[kind, r] for r in scene.sweep))
            ]
            for name, seen in found.items()
        }
        for kind in ("sign", "normalised", "PGD")
    }
    picture = Picture(
        "radii.png", lines(places, panels), "Accuracy by linf radius; normalised steps at the same l2 size"
    )
    return [Title("Every radius"), Paragraph(f"All networks are trained at {scene.trained}."), picture, *tables]


def _one_class(scene: Scene, aimed: dict[str, dict[tuple[str, str], Tensor]]) -> list[Block]:
    rows = [
        (name, kind, *(_reached(each[kind, radius]) for radius in ("", *scene.sweep)))
        for name, each in aimed.items()
        for kind in dict.fromkeys(kind for kind, _ in each)
    ]
    return [
        Title(f"Everything is a {scene.target}"),
        Paragraph("Targeted attacks: the images of all other classes are to be taken for one."),
        Table(
            f"Share of the images of other classes that are taken for a {scene.target}",
            ("trained", "attack", "no attack", *scene.sweep),
            rows,
        ),
    ]


def _pictures(scene: Scene, shown: dict[str, dict[str, Tensor]]) -> list[Block]:
    rows = ["unchanged", *KINDS[:4], "noise", "stAdv", f"PGD, {scene.target}"]
    plates: list[Block] = [
        Title("Pictures"),
        Paragraph(
            f"The first test image of each class that the network gets right, attacked at radius {scene.trained}: "
            "below each image what the network says and how sure it is; wrong answers are framed."
        ),
    ]
    for name, kept in shown.items():
        places = [(row, column) for row in range(len(rows)) for column in range(len(kept["labels"]))]
        said = {
            place: f"{scene.classes[int(kept['prediction'][place])]}, {100 * float(kept['confidence'][place]):.0f} %"
            for place in places
        }
        wrong = {place for place in places if kept["prediction"][place] != kept["labels"][place[1]]}
        picture = grid(
            {place: kept["images"][place] for place in places},
            rows,
            [scene.classes[int(label)] for label in kept["labels"]],
            wrong,
            said,
        )
        plates.append(Picture(f"{name.lower().replace(' ', '-')}.png", picture, f"Trained: {name}"))
    return plates


def changed(new: Seen, old: Seen) -> str:
    """The accuracy of one less that of another on the same images, as "+3.4 pp [+1.2 to +5.6], p 0.002"."""
    found = difference(new.right.numpy(), old.right.numpy())
    return f"{points(found['difference'])} [{ends(found)}], p {chance(found['p'])}"


def mean(values: Tensor, factor: float = 1.0, unit: str = "") -> str:
    """A mean with its 95 % interval, as "0.31 [0.25–0.37]", that of the normal distribution; of one value none."""
    if not len(values):
        return "–"
    centre = factor * float(values.double().mean())
    if len(values) == 1:
        return f"{centre:.3g}{unit}"
    half = 1.959964 * factor * float(values.double().std()) / len(values) ** 0.5
    return f"{centre:.3g}{unit} [{centre - half:.3g}–{centre + half:.3g}]"


def _reached(reached: Tensor) -> str:
    return rate(int(reached.sum()), len(reached))


def _each(parts: Iterator[str] | Any) -> str:
    return "; ".join(parts) + "." if (parts := list(parts)) else ""


def _paired(scene: Scene, radius: str) -> float:
    return float(Radius(radius)) * math.sqrt(scene.values)
