"""Decision boundaries: the plane through an image, an adversarial one and a random direction, and the way to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, get_args

from .. import noise
from ..goal import Goal
from ..lazy import torch
from ..settings import above, at_least, one_of
from .planes import Plane, Random, ball_edge, box_edge, logits_at, plane
from .subjects import right_ones, subjects

if TYPE_CHECKING:
    from torch import Tensor

    from ..classifiers import Classifier
    from ..data import ImageData
    from ..result import Result
    from ..studies.page import Block
    from .page import Analysed

ANGLES = 720


@dataclass(frozen=True)
class Slices:
    """Where do the boundaries run? Planes through an image x, what an attack makes of it, and a random direction.

    On the plane x + a u + b v, with u the direction of the attack and v a random one at a right angle to it, every
    point is coloured by the class that the network answers, and the box of images and the radius of the attack are
    marked. On the straight way from x through the attacked image, and as far along v, the margin z_y - max_{j != y} z_j
    is followed: how often it changes its sign on the way, where first, and whether the random direction does it at all.

    Source: pictures of the kind in Goodfellow et al. 2015, arXiv:1412.6572, and Fawzi et al. 2018, arXiv:1705.09552.
    Differs from the papers: nothing is trained or fitted here; points outside the box are shown, and the box is drawn.
    """

    name: ClassVar[str] = "slices"
    title: ClassVar[str] = "Decision boundaries round an image"

    attack: str = "cw"
    """Attack that gives the first direction, as written for evaluate; without a radius it has the largest usual one."""
    images: int = 50
    """Number of images on whose way to the attacked one the margin is followed, the first that the network gets
    right."""
    shown: int = 3
    """Of how many of them that were fooled a plane is drawn."""
    reach: float = 3.0
    """How far to look, as a multiple of the distance from the image to the attacked one."""
    resolution: int = 61
    """Points of a plane in each direction, and of each way."""
    random: Random = "inward"
    """Second direction: gaussian, or inward (the same, turned away from the bounds that pixels are at, so that the
    plane holds images)."""

    def __post_init__(self) -> None:
        at_least(self, images=1, shown=1, resolution=3)
        above(self, reach=0)
        one_of(self, "random", get_args(Random))

    def __call__(self, model: Any, data: Any, *, seed: int = 0, out: str | Path | None = None) -> Analysed:
        """Attack, look along the ways, draw the planes.

        Args:
            model: a classifier, or anything that `bs.classifier` takes.
            data: labelled images, as `bs.dataset` takes them.
            seed: of the attack and of the random directions.
            out: folder to write page and JSON into.

        Raises:
            BlindspotsError: fewer images than asked for, or an attack that does not exist.
        """
        from ..evaluation.defaults import usual_attack
        from .page import analysed

        wrapped, images = subjects(model, data)
        attack = usual_attack(self.attack, images.name)
        victims = right_ones(wrapped, images, self.images, "Slices.images")
        result = attack(wrapped, victims.images, victims.labels, index=victims.index, seed=seed)
        keys = noise.key(seed, victims.index, "slices")
        fooled = [int(row) for row in result.success.nonzero().flatten()]
        clean, attacked, keys = wrapped.accept(victims.images), wrapped.accept(result.images), keys.to(wrapped.device)
        planes = {row: plane(clean[row], attacked[row], keys[row], self.random) for row in fooled}
        shares = torch.cat((torch.linspace(0, self.reach, self.resolution), torch.ones(1))).sort().values
        ways = {row: self._way(wrapped, *planes[row], victims.labels[row], shares) for row in fooled}
        for row, way in ways.items():
            # That of the attacked image itself: it may lie on the boundary, and its place on the way is rounded.
            way[0, shares == 1] = result.margin[row].cpu()
        values = {
            "attack": attack.name,
            "settings": str(attack),
            "random": self.random,
            "reach": self.reach,
            **_told(result, ways, shares),
        }
        drawn = {row: planes[row] for row in fooled[: self.shown]}
        blocks = self._blocks(wrapped, images, attack, result, drawn, ways, shares, values)
        return analysed(self.name, self.title, blocks, values, models=(wrapped,), data=images, seed=seed, out=out)

    def _way(self, model: Classifier, where: Plane, length: float, label: Tensor, shares: Tensor) -> Tensor:
        """The margin (2, N) at shares (N,) of the length along the attack, and along the random direction."""
        far = shares.to(where.origin) * length
        nought = torch.zeros_like(far)
        goal = Goal(label.to(where.origin.device).expand(len(far)))
        ways = ((far, nought), (nought, far))
        return torch.stack([goal.margin(logits_at(model, where, a, b)) for a, b in ways]).cpu()

    def _blocks(
        self,
        model: Classifier,
        data: ImageData,
        attack: Any,
        result: Result,
        drawn: dict[int, tuple[Plane, float]],
        ways: dict[int, Tensor],
        shares: Tensor,
        values: dict[str, Any],
    ) -> list[Block]:
        from ..evaluation.summary import class_name
        from ..report.words import spread
        from ..studies.page import Paragraph, Picture, Table, Title
        from ..studies.study import rate
        from .drawing import plane_picture, way_picture

        norm = attack.norm if getattr(attack, "norm", "") in ("linf", "l2", "l1") else None
        names = list(data.class_names)
        pictures: list[Block] = []
        angles = torch.linspace(0, 2 * torch.pi, ANGLES + 1, dtype=torch.float64)[:-1]
        for number, (row, (where, length)) in enumerate(drawn.items()):
            extent = self.reach * length
            side = torch.linspace(-extent, extent, self.resolution).to(where.origin)
            b, a = torch.meshgrid(side, side, indexing="ij")
            answers = logits_at(model, where, a.flatten(), b.flatten()).argmax(1).view(a.shape).cpu()
            edges = {"box": box_edge(where, angles)}
            if norm is not None:
                edges[f"{norm} {attack.radius}"] = ball_edge(where, norm, float(attack.radius), angles)
            label, answer = int(result.labels[row]), int(result.prediction[row])
            picture = plane_picture(
                answers, extent, length, angles, {name: edge.cpu() for name, edge in edges.items()},
                {int(c): class_name(names, int(c)) for c in set(answers.flatten().tolist())},
            )  # fmt: skip
            caption = (
                f"Image {int(result.index[row])}: {class_name(names, label)}, attacked: {class_name(names, answer)}; "
                f"l2 distance {length:.3g}"
            )
            pictures.append(Picture(f"plane-{number}.png", picture, caption))
        radius = "" if norm else " The radius of this attack is no ball of pixels, so that none is drawn."
        rows = [(word, rate(told["count"], told["of"])) for word, told in values["shares"].items()]
        blocks: list[Block] = [
            Title("Planes"),
            Paragraph(
                "Each picture is a plane: the image lies in its middle (circle), the attacked image to the right of it "
                "(cross), a random direction goes up. Axes are l2 distances in pixel units of [0, 1]. Colours are the "
                "classes that the network answers. The box holds the points that are images, with all values in "
                f"[0, 1]; outside it the network is asked all the same.{radius}"
            ),
            *(pictures or [Paragraph("The attack fooled no image: there is no plane to draw.")]),
        ]
        if ways:
            picture = way_picture(shares, torch.stack(list(ways.values())), (attack.name, f"random, {self.random}"))
            blocks += [
                Title("The way to the attacked image"),
                Paragraph(
                    "The margin, the logit of the label less the largest other one, on the straight way from the image "
                    "(0) to the attacked one (1) and beyond, and as far in the random direction. Thin lines are "
                    "images, the thick one is their median. "
                    f"The first change of the answer towards the attacked image comes at {spread(values['first'])} of "
                    "the way (mean, with Student's 95 % interval)."
                ),
                Picture("way.png", picture, "Margin along the attack and along a random direction"),
                Table(f"Of {self.images} images, along straight ways", ("what", "share of images"), rows),
            ]
        return blocks


def _told(result: Result, ways: dict[int, Tensor], shares: Tensor) -> dict[str, Any]:
    """What the margins on the ways say, in numbers; the grid of shares is what crossings are seen on."""
    from ..evaluation.intervals import mean, share

    if not ways:
        return {"first": mean([]), "shares": {"fooled by the attack": share(0, len(result))}}
    along, random = torch.stack(list(ways.values())).unbind(1)
    before = shares <= 1
    wrong = along[:, before] < 0
    changes = (wrong[:, 1:] != wrong[:, :-1]).sum(1)
    first = [float(shares[int(row.nonzero()[0])]) for row in along < 0 if bool(row.any())]
    every = len(along)
    return {
        "first": mean(first),
        "shares": {
            "fooled by the attack": share(every, len(result)),
            "of these: the answer changes once on the way to the attacked image": share(
                int((changes == 1).sum()), every
            ),
            "of these: still wrong at the end of the way beyond it": share(int((along[:, -1] < 0).sum()), every),
            "of these: wrong somewhere as far in the random direction": share(int((random < 0).any(1).sum()), every),
        },
    }
