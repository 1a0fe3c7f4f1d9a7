"""An attack: a frozen dataclass of plain values that searches a space for images that reach the goal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from . import noise
from .case import Case, accept_outputs, check_budget, default_population, prepare, tighter
from .errors import BlindspotsError
from .goal import Goal
from .lazy import torch
from .oracle import Oracle
from .record import Budget, Knowledge, Rule
from .result import Result, join, result_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .classifiers import Classifier
    from .objectives import Objective
    from .spaces import Space


@dataclass(frozen=True)
class Attack(ABC):
    """What all attacks share: the call. An attack's own file gives its fields, its space, its objective, its search.

    >>> import torch, blindspots as bs
    >>> model = bs.classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3)), batch=2)
    >>> result = bs.PGD("0.3", steps=5)(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 1]))
    >>> result.success.shape
    torch.Size([2])
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    norms: ClassVar[tuple[str, ...]]
    control: ClassVar[bool] = False
    knowledge: ClassVar[Knowledge] = "gradients"
    # Does the search begin at a point that reaches the goal already, which may be given?
    begins_far: ClassVar[bool] = False
    # Can it look for the smallest change of each image (by default, or with keep="smallest"), on a path that no radius
    # bends, so that one run at a large radius answers for all smaller ones?
    minimum: ClassVar[bool] = False

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
        starts: Tensor | None = None,
        clean_outputs: Tensor | None = None,
    ) -> Result:
        """Attack the images.

        Args:
            model: a classifier, or any module from images in [0, 1] to logits.
            images: (B, C, H, W) in [0, 1].
            labels: (B,) int64; or "predicted" to take the model's own predictions as labels.
            targets: None (untargeted), classes (B,), one class for all, or a rule: "random", "least-likely", "second",
                or "all", which attacks every image once for each of the K - 1 other classes (B * (K - 1) results,
                those of one image side by side).
            index: the stable number (B,) of each image, the key of its randomness; its position by default.
            seed: the other key of all randomness.
            budget: model calls per image, a `Budget` or a number of forwards.
            population: images attacked together; chosen by memory by default. It changes no result.
            trace: record loss, size and gradient size of every query.
            limits: (B, 2), the forwards and backwards allowed for each image, where they differ; beside the budget.
            starts: (B, C, H, W), a point for each image that reaches its goal already, where an attack that begins far
                from the image may do so; where it does not reach the goal, noise is tried.
            clean_outputs: (B, K), the model's logits of the images, in full precision, where they are known, as in
                `Result.clean_outputs`: an attack that would judge the unchanged images first does not ask for them.

        Raises:
            BlindspotsError: images, labels, targets or budget that cannot be used, or a model that answers with NaN.
        """
        from .wrapping import classifier

        wrapped = classifier(model)
        if wrapped.per_pixel:
            raise BlindspotsError(
                f"{self.name} needs one answer an image, and '{wrapped.name}' answers every pixel: fit a generative "
                "method to it, or give a model of whole images"
            )
        if isinstance(budget, int):
            budget = Budget(forwards=budget)
        home = images.device if isinstance(images, torch.Tensor) else None
        if population is not None and population < 1:
            raise BlindspotsError(f"population must be at least 1, got {population}")
        with wrapped.session():
            clean = wrapped.accept(images)
            case = prepare(wrapped, clean, labels, targets, index, seed, limits)
            budget = tighter(budget, self.allowance)
            check_budget(budget, case.spent + 2)
            begin = self._accept_starts(wrapped, clean, starts)
            known = accept_outputs(clean_outputs, clean, wrapped)
            size = population or default_population(clean, wrapped.size(clean), self.width)
            every = torch.arange(len(case.image), device=clean.device)
            parts = [
                self._attack(
                    wrapped, clean[case.image[rows]], case.take(rows), seed, budget, trace,
                    *(None if each is None else each[case.image[rows]] for each in (begin, known)),
                )
                for rows in (every[start : start + size] for start in range(0, len(every), size))
            ]  # fmt: skip
        result = join(parts)
        if not bool(torch.isfinite(result.clean_outputs).any()):
            raise BlindspotsError(
                "the model answers every image with NaN or infinite logits: check its weights and its input"
            )
        return result.to(home)

    @abstractmethod
    def space(self, images: Tensor) -> Space:
        """What the attack may change of these images (N, C, H, W)."""

    @abstractmethod
    def objective(self) -> Objective:
        """What the attack minimises."""

    @property
    def rule(self) -> Rule:
        """Which point of each image is kept, see `Oracle`: the field `keep`, where an attack has one."""
        keep: Rule = getattr(self, "keep", "first")
        return keep

    @property
    def allowance(self) -> int | None:
        """Forwards that an image may cost: the field `queries`, where an attack has one; None is no limit."""
        queries: int | None = getattr(self, "queries", None)
        return queries

    @property
    def width(self) -> int:
        """How many points of an image are asked at once: populations are smaller for it, so that memory stays flat."""
        return 1

    @abstractmethod
    def search(self, oracle: Oracle) -> None:
        """Query the oracle; what it kept is the result. The first query must judge the unchanged images."""

    def _attack(
        self,
        wrapped: Classifier,
        images: Tensor,
        case: Case,
        seed: int,
        budget: Budget | None,
        trace: bool,
        starts: Tensor | None,
        known: Tensor | None,
    ) -> Result:
        goal = Goal(case.labels, case.targets)
        stream = case.targets + 1 if case.targets is not None else torch.zeros_like(case.index)
        keys = noise.key(seed, case.index, self.name)
        keys = noise.key(0, keys ^ stream)
        space = self.space(images)
        oracle = Oracle(
            wrapped, images, goal, space, self.objective(), keys,
            keep=self.rule, budget=budget, limits=case.limits, spent=case.spent, traced=trace,
            knowledge=self.knowledge, starts=starts, known=known,
        )  # fmt: skip
        self.search(oracle)
        record = oracle.close()
        oracle.verify(space.within(record.theta))
        return result_of(record, goal, case.index, images, space)

    def _accept_starts(self, wrapped: Classifier, images: Tensor, starts: Tensor | None) -> Tensor | None:
        if starts is None:
            return None
        if not self.begins_far:
            raise BlindspotsError(
                f"starts were given, but {self.name} begins at the image itself: leave them out, or choose an attack "
                "that begins far from it, such as boundary or brendel-bethge"
            )
        starts = wrapped.accept(starts)
        if starts.shape != images.shape:
            raise BlindspotsError(
                f"starts must have the shape of the images, {tuple(images.shape)}, got {tuple(starts.shape)}"
            )
        return starts
