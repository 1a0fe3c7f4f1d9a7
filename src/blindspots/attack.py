"""An attack: a frozen dataclass of plain values that searches a space for images that reach the goal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from . import noise
from .errors import BlindspotsError
from .goal import TARGET_RULES, Goal, check_labels, choose_targets, shifted
from .lazy import torch
from .oracle import Oracle
from .record import Budget, Rule
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

        Raises:
            BlindspotsError: images, labels, targets or budget that cannot be used, or a model that answers with NaN.
        """
        from .wrapping import classifier

        wrapped = classifier(model)
        if isinstance(budget, int):
            budget = Budget(forwards=budget)
        home = images.device if isinstance(images, torch.Tensor) else None
        if population is not None and population < 1:
            raise BlindspotsError(f"population must be at least 1, got {population}")
        with wrapped.session():
            clean = wrapped.accept(images)
            case = _prepare(wrapped, clean, labels, targets, index, seed)
            _check_budget(budget, case.spent + 2)
            size = population or default_population(clean, wrapped.size(clean))
            every = torch.arange(len(case.image), device=clean.device)
            parts = [
                self._attack(wrapped, clean[case.image[rows]], case.take(rows), seed, budget, trace)
                for rows in (every[start : start + size] for start in range(0, len(every), size))
            ]
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
        """Which point of each image is kept, see `Oracle`."""
        return "first"

    @abstractmethod
    def search(self, oracle: Oracle) -> None:
        """Query the oracle; what it kept is the result. The first query must judge the unchanged images."""

    def _attack(
        self, wrapped: Classifier, images: Tensor, case: Case, seed: int, budget: Budget | None, trace: bool
    ) -> Result:
        goal = Goal(case.labels, case.targets)
        stream = case.targets + 1 if case.targets is not None else torch.zeros_like(case.index)
        keys = noise.key(seed, case.index, self.name)
        keys = noise.key(0, keys ^ stream)
        space = self.space(images)
        oracle = Oracle(
            wrapped, images, goal, space, self.objective(), keys,
            keep=self.rule, budget=budget, spent=case.spent, traced=trace,
        )  # fmt: skip
        self.search(oracle)
        record = oracle.record
        oracle.verify(space.within(record.theta))
        return result_of(record, goal, case.index, images, space)


@dataclass(frozen=True)
class Case:
    """The images to attack, as positions into those given, with label, target and stable index of each."""

    image: Tensor
    labels: Tensor
    targets: Tensor | None
    index: Tensor
    spent: int

    def take(self, rows: Tensor) -> Case:
        targets = None if self.targets is None else self.targets[rows]
        return Case(self.image[rows], self.labels[rows], targets, self.index[rows], self.spent)


def _check_budget(budget: Budget | None, least: int) -> None:
    if budget is not None and budget.forwards is not None and budget.forwards < least:
        raise BlindspotsError(
            f"Budget.forwards must be at least {least} here, to label or target, judge and verify an image; got "
            f"{budget.forwards}"
        )


def default_population(images: Tensor, batch: int) -> int:
    """As many images as about 64 MiB hold, at least one model batch and at most 4096, in whole model batches."""
    fit = (64 << 20) // (images[0].numel() * images.element_size())
    return max(batch, min(4096, fit) // batch * batch)


def _prepare(
    wrapped: Classifier,
    images: Tensor,
    labels: Tensor | str,
    targets: Tensor | int | str | None,
    index: Tensor | None,
    seed: int,
) -> Case:
    """Check labels and index, and turn a target rule into targets."""
    count, device = len(images), images.device
    classes = wrapped.count(images)
    logits: Tensor | None = None
    if isinstance(labels, str):
        if labels != "predicted":
            raise BlindspotsError(f"labels must be a tensor or the word 'predicted', got '{labels}'")
        logits = wrapped.logits(images)
        labels = logits.argmax(1)
    elif not isinstance(labels, torch.Tensor):
        raise BlindspotsError(
            f"labels must be a tensor (B,) of classes or the word 'predicted', got {type(labels).__name__}"
        )
    check_labels(labels, count, classes)
    # Copies, since tensors made in inference mode could not take part in gradients.
    labels = labels.to(device, torch.int64, copy=True)
    if index is None:
        index = torch.arange(count)
    elif not isinstance(index, torch.Tensor):
        raise BlindspotsError(f"index must be a tensor (B,) of whole numbers, got {type(index).__name__}")
    elif index.shape != (count,) or index.is_floating_point():
        raise BlindspotsError(
            f"index must hold one whole number an image, got {index.dtype} of shape {tuple(index.shape)}"
        )
    index = index.to(device, torch.int64)
    position = torch.arange(count, device=device)
    if targets == "all":
        shift = torch.arange(1, classes, device=device).repeat(count)
        position = position.repeat_interleave(classes - 1)
        labels, index = labels[position], index[position]
        return Case(position, labels, shifted(labels, shift, classes), index, spent=int(logits is not None))
    if isinstance(targets, str):
        if targets not in TARGET_RULES:
            choose_targets(targets, labels, labels.unsqueeze(1), seed, index)
        if logits is None and targets != "random":
            logits = wrapped.logits(images)
        shape = logits if logits is not None else torch.empty(count, classes, device=device)
        chosen: Tensor | None = choose_targets(targets, labels, shape, seed, index)
    elif isinstance(targets, int):
        chosen = torch.full_like(labels, targets)
    elif targets is None or isinstance(targets, torch.Tensor):
        chosen = targets
    else:
        raise BlindspotsError(
            f"targets must be a tensor (B,) of classes, one class, or one of {', '.join(TARGET_RULES)}, got "
            f"{type(targets).__name__}"
        )
    if chosen is not None:
        check_labels(chosen, count, classes, "targets")
        chosen = chosen.to(device, torch.int64, copy=True)
        same = int((chosen == labels).sum())
        if same:
            raise BlindspotsError(
                f"targets must differ from the labels, but {same} of {count} are equal: leave those images out or "
                "choose other targets"
            )
    return Case(position, labels, chosen, index, spent=int(logits is not None))
