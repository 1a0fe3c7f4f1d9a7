"""Several attacks as one: run in order, each on the images that all before it have left."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from .attack import Attack
from .case import Case, accept_outputs, check_budget, prepare
from .errors import BlindspotsError
from .lazy import torch
from .record import Budget, Knowledge
from .result import Result, continued

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .classifiers import Classifier


@dataclass(frozen=True)
class Member:
    """An attack of an ensemble, under the name it has there."""

    name: str
    attack: Attack | Several


@dataclass(frozen=True)
class Several(ABC):
    """What ensembles share: the call, as `Attack` has it. An ensemble's own file says which attacks it holds.

    An image leaves with its first success. What a member finds is what it finds by itself, with the same seed, so the
    verdict is the union of theirs. `Result.decided` tells which member fooled each image, `Result.added` how many each
    of them added. Where all failed, the image of the smallest margin is kept.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    norms: ClassVar[tuple[str, ...]]
    control: ClassVar[bool] = False
    knowledge: ClassVar[Knowledge] = "gradients"
    minimum: ClassVar[bool] = False

    @abstractmethod
    def members(self) -> tuple[Member, ...]:
        """The attacks, in the order in which they run."""

    def __call__(
        self,
        model: Classifier | nn.Module,
        images: Tensor,
        labels: Tensor | str,
        *,
        targets: Tensor | int | str | None = None,
        index: Tensor | None = None,
        seed: int = 0,
        budget: Budget | int | None = None,
        population: int | None = None,
        trace: bool = False,
        limits: Tensor | None = None,
        clean_outputs: Tensor | None = None,
    ) -> Result:
        """Attack the images; arguments, result and errors are those of `Attack.__call__`.

        The budget and the limits hold for all members together. The unchanged images are judged once: the members
        after the first are told their logits.
        """
        from .wrapping import classifier

        wrapped = classifier(model)
        if isinstance(budget, int):
            budget = Budget(forwards=budget)
        home = images.device if isinstance(images, torch.Tensor) else None
        with wrapped.session():
            clean = wrapped.accept(images)
            case = prepare(wrapped, clean, labels, targets, index, seed, limits)
            check_budget(budget, case.spent + 2)
            case = replace(case, limits=_tighter(case, budget))
            known = accept_outputs(clean_outputs, clean, wrapped)
            result: Result | None = None
            rows = torch.arange(len(case.image), device=clean.device)
            for number, member in enumerate(self.members()):
                if result is not None:
                    rows = _left(result, case)
                    if not len(rows):
                        break
                mine = case.take(rows)
                if result is not None:
                    outputs: Tensor | None = result.clean_outputs[rows]
                else:
                    outputs = None if known is None else known[mine.image]
                part = member.attack(
                    wrapped,
                    clean[mine.image],
                    mine.labels,
                    targets=mine.targets,
                    index=mine.index,
                    seed=seed,
                    population=population,
                    trace=trace,
                    limits=_remaining(mine, result, rows),
                    clean_outputs=outputs,
                )
                changed = part.success & (part.size["linf"] > 0)
                part = replace(part, decided=torch.where(changed, number, -1), members=())
                result = part if result is None else continued(result, part, rows)
        assert result is not None
        names = tuple(member.name for member in self.members())
        return replace(result, members=names, forwards=result.forwards + case.spent).to(home)


def _tighter(case: Case, budget: Budget | None) -> Tensor | None:
    """The limits (n, 2) of each row, and the budget of the call where that is less."""
    if budget is None or budget == Budget():
        return case.limits
    each = [_ENDLESS if most is None else most for most in (budget.forwards, budget.backwards)]
    whole = torch.tensor(each, device=case.index.device).expand(len(case.index), 2)
    return whole if case.limits is None else torch.minimum(case.limits, whole)


_ENDLESS = 1 << 62


def _left(result: Result, case: Case) -> Tensor:
    """The rows that are not fooled yet, and can afford to be judged once more and verified."""
    left = ~result.success & torch.isfinite(result.clean_outputs).all(1)
    if case.limits is not None:
        left &= result.forwards + case.spent + 2 <= case.limits[:, 0]
    return left.nonzero().squeeze(1)


def _remaining(mine: Case, result: Result | None, rows: Tensor) -> Tensor | None:
    """What the members before have left of the limits of these rows, (R, 2)."""
    if mine.limits is None:
        return None
    left = mine.limits - torch.tensor([mine.spent, 0], device=mine.limits.device)
    if result is None:
        return left
    return left - torch.stack((result.forwards[rows], result.backwards[rows]), 1)


def alike(attacks: tuple[Attack | Several, ...]) -> tuple[object, str]:
    """The radius and the norm that all of the attacks have.

    Raises:
        BlindspotsError: there are no attacks, or they differ in it.
    """
    if not attacks:
        raise BlindspotsError("an ensemble needs attacks: give at least one")
    found = {(getattr(attack, "radius", None), getattr(attack, "norm", attack.norms[0])) for attack in attacks}
    if len(found) > 1:
        told = ", ".join(sorted(f"{norm} {radius}" for radius, norm in found))
        raise BlindspotsError(
            f"the attacks of an ensemble must have one norm and one radius, got {told}: evaluate the others beside it"
        )
    return found.pop()
