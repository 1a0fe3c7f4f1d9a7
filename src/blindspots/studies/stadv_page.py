"""The page of the study of spatially transformed adversarial examples: its tables, pictures and what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..report.words import duration, number, percent
from .notebook import Values
from .page import Block, Paragraph, Picture, Table, Title
from .pictures import flows, grid
from .study import rate

if TYPE_CHECKING:
    from torch import Tensor

Which = tuple[str, str]
Fixed = list[tuple[str, Values, "dict[str, Tensor]"]]

# Accuracy and success in percent: of the paper (tables 4 and 1), and of the reproduction, which attacked 200 images
# and counted every change of the prediction.
PAPER = {"a": (98.58, 99.95), "b": (98.94, 99.98), "c": (99.11, 100.00)}
REPRODUCTION = {"a": (93.95, 41.0), "b": (83.04, 50.5), "c": (91.11, 53.5)}


def headline(
    trained: dict[Which, Values], attacked: dict[Which, dict[str, Values]], others: dict[Which, dict[str, Values]]
) -> list[Block]:
    """Accuracy and success: the paper, the reproduction, here."""
    rows = []
    for which, runs in (attacked | others).items():
        letter, preset = which
        targeted, untargeted = runs["targeted"], runs["untargeted"]
        paper, earlier = PAPER[letter], REPRODUCTION[letter]
        printed, copied = which in attacked, preset == "maxpool" or which == ("a", "paper")
        rows.append(
            (
                f"{letter.upper()} ({preset})",
                f"{paper[0]} %" if printed else "–",
                f"{earlier[0]} %" if copied else "–",
                percent(trained[which]["accuracy"]),
                f"{paper[1]} %" if printed else "–",
                f"{earlier[1]} %" if copied else "–",
                rate(targeted["success"], targeted["of"]),
                rate(untargeted["success"], untargeted["of"]),
                number(targeted.get("flow_mean")),
                number(targeted.get("flow_loss")),
                number(targeted["gradients"]),
                duration(targeted["seconds"]),
            )
        )
    columns = (
        "network", "accuracy: paper", "reproduction", "here", "success: paper", "reproduction", "here, targeted",
        "here, untargeted", "mean move (pixels)", "flow loss", "gradients an image", "time, targeted",
    )  # fmt: skip
    return [
        Title("The paper, a reproduction, and here"),
        Paragraph(
            "Networks A, B and C of the paper are trained and attacked with flows of the pixels. Targets are random; "
            "only images that the network gets right are attacked, and a success is the target itself. The attack "
            "looks for the smallest flow loss: it starts at tau = 0.05 and halves tau for the images that survive, "
            "and of all flows that it has seen it keeps the best that succeeds. The reproduction is that of Grotepass "
            "and van Moergestel, who gave B and C max pooling, attacked 200 images and report success of a first try "
            "below 10 % and of a second, from random flows, of 20 to 30 %; the figures here are their final ones, "
            "which count every change of the prediction."
        ),
        Table("Accuracy on the test images, and the share of attacked images that reach the goal", columns, rows),
    ]


def pictures(kept: dict[str, Tensor], reached: list[int]) -> list[Block]:
    """Every source class bent into every other, and some of the flows."""
    names = [str(int(c)) for c in kept["classes"]]
    place = {int(c): row for row, c in enumerate(kept["classes"])}
    shown = {(row, int(c)): image for row, (c, image) in enumerate(zip(kept["classes"], kept["clean"], strict=True))}
    marked = {(row, int(c)) for row, c in enumerate(kept["classes"])}
    for image, label, target in zip(kept["images"], kept["labels"], kept["targets"], strict=True):
        shown[place[int(label)], int(target)] = image
    width = 1 + max(int(kept["targets"].max()), int(kept["classes"].max()))
    size = kept["flow"].norm(dim=1).flatten(1).mean(1)
    order = [
        int(i) for i in size.masked_fill(~kept["success"], float("inf")).argsort() if bool(kept["success"][int(i)])
    ]
    chosen = [order[0], order[len(order) // 2], order[-1]] if order else []
    cases = [
        (
            kept["clean"][place[int(kept["labels"][i])]],
            kept["images"][i],
            kept["flow"][i],
            f"{int(kept['labels'][i])} read as {int(kept['targets'][i])}",
        )
        for i in chosen
    ]
    blocks: list[Block] = [
        Title("Every digit bent into every other"),
        Paragraph(
            f"Network A: one image of each class (framed) and what it is bent into; columns are the targets. "
            f"{reached[0]} of {reached[1]} reach their target."
        ),
        Picture(
            "grid.png", grid(shown, names, [str(c) for c in range(width)], marked), "Rows: source. Columns: target"
        ),
    ]
    if cases:
        caption = "The smallest, the median and the largest flow of the grid; arrows show where the ink moves"
        blocks.append(Picture("flows.png", flows(cases), caption))
    return blocks


def ablation(lines: list[tuple[str, dict[str, Values]]]) -> list[Block]:
    """What every setting costs, and which of them keep a reproduction below 10 %."""
    rows = []
    for name, runs in lines:
        targeted, untargeted = runs["targeted"], runs["untargeted"]
        rows.append(
            (
                name,
                rate(targeted["success"], targeted["of"]),
                percent(targeted["changed"] / targeted["of"]),
                percent(untargeted["success"] / untargeted["of"]),
                number(round(targeted["margin"], 4)),
                number(targeted.get("flow_mean")),
                number(targeted.get("flow")),
                percent(targeted["ended"] / targeted["of"]),
                number(targeted["gradients"]),
            )
        )
    columns = (
        "setting", "target reached", "of these runs: any change", "untargeted run", "median margin left",
        "mean move (pixels)", "largest move", "solver ended by itself", "gradients an image",
    )  # fmt: skip
    return [
        Title("Why a reproduction sees under 10 %"),
        Paragraph(
            "Network A, the same images in every line; one thing changes at a time. With a softmax inside the network "
            "the margin is one of probabilities: it is at most 1, and its gradient vanishes on a confident network, "
            "so that the flow loss keeps the flow at zero. With kappa added instead of subtracted the objective is "
            "flat from a margin of +kappa down, before the boundary. At kappa = 0 the minimum lies on the boundary, "
            "so that the final iterate of the solver succeeds by chance where the best one of the same run does not. "
            "As a sum over the image the flow loss at tau = 0.05 is stiffer than the margin of many images; zero "
            "padding makes even a shift expensive. A start from N(0,1) tears the image before the search begins: "
            "compare what it gains untargeted and targeted. That the solver ended by itself says nothing of success. "
            "L-BFGS begins with the identity, as usual, but where a line says smoothing: there its first inverse "
            "Hessian is that of a smooth flow, and it finds the shifts, which cost the flow loss nothing and to which "
            "it does not come in 200 evaluations otherwise."
        ),
        Table("Targeted and untargeted runs of the same images, setting by setting", columns, rows),
    ]


def fixed_taus(fixed: dict[Which, Fixed]) -> list[Block]:
    """Fixed taus against the search over them."""
    rows = []
    for (letter, _), runs in fixed.items():
        for name, values, _ in runs:
            reached, loss = rate(values["success"], values["of"]), number(values.get("flow_loss"))
            rows.append((letter.upper(), name, reached, loss, number(values["gradients"])))
    verdicts = []
    for (letter, _), runs in fixed.items():
        best, search = best_fixed(runs), runs[-1][1]
        if best is None:
            verdicts.append(f"on {letter.upper()} no fixed tau succeeds as often as the search")
        else:
            verdicts.append(
                f"on {letter.upper()} the best of them has {number(best[1])} (tau {best[0]}), the search "
                f"{number(search['flow_loss'])}"
            )
    return [
        Title("One tau for all, or one for each image"),
        Paragraph(
            "A tau that succeeds for all images is weaker than most of them need. Mean flow loss of fixed taus that "
            f"succeed as often as the search: {'; '.join(verdicts)}."
        ),
        Table(
            "Success and mean flow loss (sum, of the successes), targeted",
            ("network", "tau", "target reached", "mean flow loss", "gradients an image"),
            rows,
        ),
    ]


def best_fixed(runs: Fixed) -> tuple[str, float] | None:
    """Of the fixed taus that succeed as often as the search, the one of smallest mean flow loss, and that loss."""
    *fixed, (_, search, _) = runs
    equal = [
        (name, float(v["flow_loss"])) for name, v, _ in fixed if v["success"] and v["success"] >= search["success"]
    ]
    return min(equal, key=lambda entry: entry[1]) if equal else None


def defences(blurred: dict[Which, list[tuple[str, Values]]]) -> list[Block]:
    """What a change of the image before the network does."""
    rows = [
        (
            letter.upper(),
            text,
            percent(values["clean"] / values["of"]),
            rate(values["kept"], values["examples"]),
            rate(values["restored"], values["examples"]),
            rate(values["adaptive"], values["adaptive_of"]),
        )
        for (letter, _), each in blurred.items()
        for text, values in each
    ]
    columns = ("network", "defence", "clean accuracy", "target kept", "label restored", "attack through it")
    return [
        Title("Blur and other defences"),
        Paragraph(
            "Flows (global flow loss) are found on the bare network and then shown to the network behind a defence: "
            "how many still reach their target, and how many are read rightly again. The last column attacks through "
            "the defence. The paper, as recalled, keeps 59, 64 and 80 % on A, B and C after a mean blur of 3 x 3 "
            "pixels and close to 100 % when it attacks through it. Clean accuracy is of images that the bare network "
            "gets right."
        ),
        Table("Defences against flows that do not know of them, and that do", columns, rows),
    ]
