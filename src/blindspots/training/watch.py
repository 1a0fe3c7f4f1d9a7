"""How the network stands against one step, a short PGD and, in the end, a strong attack, on a few held-out images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .alarms import Watched
from .measure import BATCH
from .methods.inner import ball_ascent, random_start, step_size
from .rows import Rows
from .step import Step, frozen
from .team import Team

if TYPE_CHECKING:
    from .preparation import Setup

# The strong attack in the end: short runs of `fast`.
STRONG = {"opening": 10, "steps": 20, "closing": 20}


def watched(
    network: nn.Module,
    logits_of: Callable[[Tensor], Tensor],
    rows: Rows,
    count: int,
    ball: tuple[str, float],
    steps: int,
    team: Team,
    seed: int,
) -> Watched:
    """Accuracy on the first `count` of the rows, clean, after one step of the radius, and after PGD of `steps` steps.

    The points at the end of each are judged, in evaluation mode; every epoch starts PGD from the same random points.
    """
    norm, radius = ball
    hits = torch.zeros(3, device=team.device, dtype=torch.float64)
    count = min(count, len(rows))
    for start in range(team.rank * BATCH, count, BATCH * team.count):
        images, labels, index = (
            value.to(team.device) for value in rows.batch(torch.arange(start, min(start + BATCH, count)))
        )
        step = Step(network, logits_of, images, labels, index, seed=seed, team=team)
        once = ball_ascent(step, norm, radius, 1, radius)  # type: ignore[arg-type]
        begin = random_start(step, norm, radius)  # type: ignore[arg-type]
        often = ball_ascent(step, norm, radius, steps, step_size(None, radius, steps), begin)  # type: ignore[arg-type]
        with frozen(network), torch.no_grad():
            for place, points in enumerate((images, once, often)):
                hits[place] += (step.logits(points).argmax(1) == labels).sum()
    team.sum(hits)
    clean, one_step, robust = (hits / count).tolist()
    return Watched(clean, one_step, robust)


def strong_accuracy(network: nn.Module, setup: Setup, count: int, ball: tuple[str, float], seed: int) -> float:
    """Accuracy on the first `count` held-out images against a short form of the attack `fast`."""
    from ..attacks import Fast
    from ..classifiers import Classifier

    assert setup.validation is not None
    norm, radius = ball
    images, labels, index = setup.validation.batch(torch.arange(min(count, len(setup.validation))))
    model = Classifier(
        network, mean=setup.mean, std=setup.std, classes=setup.data.classes, device=setup.device,
        batch=min(BATCH, len(images)),
    )  # fmt: skip
    attack = Fast(radius, norm, **STRONG)  # type: ignore[arg-type]
    result = attack(model, images, labels, index=index, seed=seed)
    return float((result.prediction == labels.to(result.prediction.device)).double().mean())
