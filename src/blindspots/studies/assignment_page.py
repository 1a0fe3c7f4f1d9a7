"""The page of the study of adversarial training: the answers, and the tables and pictures that they are read from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..report.words import duration, number
from ..settings import Radius
from .assignment_answers import Found, Scene, Seen, answers, changed, l2_of, mean, share_of
from .notebook import Values
from .page import Block, Paragraph, Picture, Table, Title
from .pictures import grid, lines

if TYPE_CHECKING:
    from torch import Tensor

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
    size = number(round(l2_of(scene.values, at), 3))
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
            f"The same network, trained at radius {at} (normalised: {size} in l2), and attacked at it. Where accuracy "
            "stays high under a sign step and falls under PGD, training on single steps has taught the network to "
            "resist that step and no more; where PGD leaves more right than the sign step, the gradient is masked. So "
            "read the columns of PGD first."
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
        (name, kind, *(share_of(each[kind, radius]) for radius in ("", *scene.sweep)))
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
