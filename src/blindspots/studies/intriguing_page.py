"""The page of the study of intriguing properties: every number of the paper beside the one found here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..analysis import transfer_page, units_page
from ..report.words import number, percent
from .notebook import Values
from .page import Block, Paragraph, Table, Title
from .study import rate
from .szegedy_nets import NETS

if TYPE_CHECKING:
    from ..analysis.units import Units
    from ..data import ImageData

NAMES = tuple(f"FC10({net.decay})" if net.network == "fc10" else net.name for net in NETS)
PARTS = ("FC100-100-10", "FC123-456-10", "FC100-100-10'")

# Errors in percent, rows and columns in the order of the paper; as recalled, some confirmed by secondary sources.
MODELS = (
    (100, 11.7, 22.7, 2, 3.9, 2.7),
    (87.1, 100, 35.2, 35.9, 27.3, 9.8),
    (71.9, 76.2, 100, 48.1, 47, 34.4),
    (28.9, 13.7, 21.1, 100, 6.6, 2),
    (38.2, 14, 23.8, 20.3, 100, 2.7),
    (23.4, 16, 24.8, 9.4, 6.6, 100),
)
MODELS_NOISE = ((5.0, 10.1, 18.3, 0, 0, 0.8), (15.6, 11.3, 22.7, 5, 4.3, 3.1))
HALVES = ((100, 26.2, 5.9), (6.25, 100, 5.1), (8.2, 8.2, 100))
HALVES_AMPLIFIED = ((100, 98, 43), (96, 100, 22), (27, 50, 100))
HALVES_NOISE = ((2.2, 2.6, 2.4), (2.6, 2.8, 2.7))
HALVES_ERRORS = ((0, 2.4, 2), (0, 2.5, 2.1), (2.3, 0, 2.1))
HALVES_DISTORTION = (0.062, 0.059, 0.058)
BESIDE = "paper (as recalled) / here, with 95 % intervals"
COUNTED = "Counted are the images that the source got right and that fooled it; of plain noise all images."


def networks(errors: Sequence[Values], rows: Sequence[Values]) -> list[Block]:
    """Table 1: errors and distortions."""
    made = _of(rows, "attack")
    lines = [
        (
            net.name, net.decay, f"{net.train_error} %", percent(found["train"]), f"{net.test_error} %",
            percent(found["test"]), str(net.distortion), number(row["distortion"]),
            rate(row["success"], row["attacked"]),
        )
        for net, found, row in zip(NETS, errors, made, strict=False)
    ]  # fmt: skip
    return [
        Title("Six networks"),
        Paragraph(
            "Sigmoid units, images in [0, 1], lambda * sum(w^2) / k added to the loss for each layer of k units. "
            "AE400-10 is trained as a whole here, without the paper's autoencoder. Distortion is sqrt(mean of squared "
            "changes): in the paper the level at which all images are misread, here the mean of the smallest found by "
            "box-constrained L-BFGS towards a random class, over the training images that reach it."
        ),
        Table(
            "Errors and distortions, paper and here",
            ("network", "lambda", "train error: paper", "here", "test error: paper", "here", "distortion: paper",
             "here", "targets reached"),
            lines,
        ),
    ]  # fmt: skip


def across_models(rows: Sequence[Values]) -> list[Block]:
    """Images made for one network, judged by the others."""
    names = NAMES[: len(_of(rows, "attack"))]
    return [
        Title("Across networks and weight decays"),
        Paragraph(
            f"Rows: what training images were made for; columns: who judges them. {COUNTED} Noise has its distortion "
            "after the clip to [0, 1]; whether the paper's was clipped is not said."
        ),
        beside(f"Error: {BESIDE}", _of(rows, "attack", "noise"), names, (*MODELS[: len(names)], *MODELS_NOISE)),
        _picture("models.png", _of(rows, "attack", "noise"), names),
        _plain("Noise of the distortion of each image, instead", _of(rows, "control"), names),
        _plain("Changes brought to a distortion of 0.1 (larger ones become smaller)", _of(rows, "amplified"), names),
        _plain(
            "Changes as they are, on images that source and judge got right before", _of(rows, "attack"), names, "both"
        ),
    ]


def simplified(rows: Sequence[Values]) -> list[Block]:
    """The same by the simplified attack."""
    names = NAMES[: len(_of(rows, "attack"))]
    reached = [(name, rate(row["success"], row["attacked"]), number(row["distortion"]))
               for name, row in zip(names, _of(rows, "attack"), strict=True)]  # fmt: skip
    return [
        Title("By the simplified attack"),
        Paragraph(
            "Adam on |r|_1 + loss with one weight, from noise (legacy-l1), on fewer of the same images and towards the "
            f"same classes. {COUNTED}"
        ),
        Table("Targets reached and distortion", ("network", "targets reached", "distortion"), reached),
        _plain("Error here", _of(rows, "attack"), names),
    ]


def across_halves(shares: Sequence[Sequence[float]], rows: Sequence[Values]) -> list[Block]:
    """Images made for networks of one half of the training set, judged by those of the other."""
    errors = [
        (name, *(f"{then} % / {percent(now)}" for then, now in zip(paper, here, strict=True)))
        for name, paper, here in zip(PARTS, HALVES_ERRORS, shares, strict=True)
    ]
    sizes = [
        (name, f"{paper} / {number(row['distortion'])}", rate(row["success"], row["attacked"]))
        for name, paper, row in zip(PARTS, HALVES_DISTORTION, _of(rows, "attack"), strict=True)
    ]
    low, high = _of(rows, "noise")
    return [
        Title("Across disjoint training sets"),
        Paragraph(
            "FC100-100-10 and FC123-456-10 learn from one half of the training images, FC100-100-10' from the other, "
            f"with other first weights. Test images are changed. {COUNTED} Amplified changes have a distortion of 0.1 "
            "before the clip to [0, 1]: the paper prints a factor that would give an l2 norm of 0.1, and speaks of a "
            "standard deviation of 0.1."
        ),
        Table(f"Errors on both halves and the test images: {BESIDE}", ("network", "P1", "P2", "test"), errors),
        Table(f"Distortion: {BESIDE}", ("network", "distortion", "targets reached"), sizes),
        beside(f"Error: {BESIDE}", [*_of(rows, "attack"), low], PARTS, (*HALVES, HALVES_NOISE[0])),
        beside(
            f"Error after amplification to a distortion of 0.1: {BESIDE}",
            [*_of(rows, "amplified"), high], PARTS, (*HALVES_AMPLIFIED, HALVES_NOISE[1]),
        ),
        _picture("halves.png", _of(rows, "attack", "amplified", "noise"), PARTS),
        _plain("Noise of the distortion of each image, instead", _of(rows, "control"), PARTS),
    ]  # fmt: skip


def units(look: Units, values: Values, data: ImageData) -> list[Block]:
    """Units and directions of the last hidden layer of FC100-100-10."""
    _, *rest = units_page.blocks(look, values, data)
    return [
        Title("Single units and random directions"),
        Paragraph(
            "The paper shows pictures and says that random directions look as coherent as single units; here it is "
            "measured, on the test images and the last hidden layer of FC100-100-10."
        ),
        *rest,
    ]


def detector(found: Values, made: dict[str, Values]) -> list[Block]:
    """The detector on filters that were learned without labels."""
    attack, control = made["attack"], made["control"]
    line = (
        percent(found["error"]),
        percent(found["share"]),
        rate(attack["success"], attack["attacked"]),
        number(attack["distortion"]),
        rate(control["wrong"]["fooled"][0], control["of"]["fooled"][0]),
    )
    return [
        Title("A detector on filters learned without labels"),
        Paragraph(
            "The paper fools a detector on a network of a billion weights that learned from video without labels "
            "(QuocNet). Here is a small relative: local filters that are nowhere shared, l2 pooling and local contrast "
            "normalisation, learned by reconstruction with a sparse penalty on the pools; a linear detector of the "
            "first class stands on top, and the filters stay as they are. Half of the images attacked are of the class."
        ),
        Table(
            "Detector of the first class, on test images",
            ("network", "test error", "share of the class", "fooled by box-constrained L-BFGS", "mean distortion",
             "fooled by noise of that distortion"),
            [("quocnet", *line)],
        ),
    ]  # fmt: skip


def beside(caption: str, rows: Sequence[Values], names: Sequence[str], paper: Sequence[Sequence[float]]) -> Table:
    """The matrix of errors, each entry after that of the paper."""
    lines = [
        (
            _title(row, names),
            *(
                f"{then} % / {rate(wrong, of)}"
                for then, wrong, of in zip(printed, row["wrong"]["fooled"], row["of"]["fooled"], strict=False)
            ),
        )
        for row, printed in zip(rows, paper, strict=True)
    ]
    return Table(caption, ("made for", *names), lines)


def _plain(caption: str, rows: Sequence[Values], names: Sequence[str], of: str = "fooled") -> Table:
    return transfer_page.matrix(caption, _named(rows, names), names, "wrong", of)


def _picture(file: str, rows: Sequence[Values], names: Sequence[str]) -> Block:
    return transfer_page.picture(file, "Error here, in percent", _named(rows, names), names, "fooled")


def _named(rows: Sequence[Values], names: Sequence[str]) -> list[Values]:
    """The rows under the paper's names of their sources."""
    return [row if row["source"] is None else {**row, "name": names[row["source"]]} for row in rows]


def _title(row: Values, names: Sequence[str]) -> str:
    return transfer_page.title(_named([row], names)[0])


def _of(rows: Sequence[Values], *variants: str) -> list[Values]:
    """The rows of these variants, in the order of the variants."""
    return [row for variant in variants for row in rows if row["variant"] == variant]
