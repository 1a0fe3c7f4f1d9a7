"""What the course on adversarial training asks, each question answered with a number and its interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..evaluation.paired import difference
from ..report.comparison import chance, ends, points
from ..report.words import number
from ..settings import Radius
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


def answers(scene: Scene, found: Found, aimed: dict[str, dict[tuple[str, str], Tensor]]) -> Iterator[tuple[str, str]]:
    """Each question with its answer, in the order of the course; empty where the networks that it needs are missing."""
    at, bare = scene.trained, found["plain"]
    clean, sign, normal, many = bare["none", ""], bare["sign", at], bare["normalised", at], bare["PGD", at]
    size = number(round(l2_of(scene.values, at), 3))
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
            f"sign {radius} (l2 {number(round(l2_of(scene.values, radius), 3))}): {bare['sign', radius].accuracy} "
            "stay right"
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
            f"{name}: of the images of other classes {share_of(each['PGD', at])} by PGD within {at}, "
            f"{share_of(each['sign', at])} by a sign step ({share_of(each['sign', ''])} without attack)"
            for name, each in aimed.items()
        ),
    )


# The attack that each training makes its own.
_OWN = {
    "sign only": "sign", "sign F1": "sign", "sign F2": "sign", "sign F3": "sign", "normalised F2": "normalised",
    "PGD": "PGD",
}  # fmt: skip


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


def share_of(reached: Tensor) -> str:
    """The share of images (N,) that reached a goal, with its interval."""
    return rate(int(reached.sum()), len(reached))


def l2_of(values: int, radius: str) -> float:
    """The l2 size eps * sqrt(n) of a sign step on n values before clipping, to which normalised steps are paired."""
    return float(Radius(radius)) * math.sqrt(values)


def _each(parts: Iterable[str]) -> str:
    """One answer after the other; empty where there is none."""
    told = list(parts)
    return "; ".join(told) + "." if told else ""
