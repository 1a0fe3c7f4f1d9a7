"""Law 5: budgets hold, per image, forwards and backwards apart, counted by the module itself."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from law_table import CASES, Case
from torch import Tensor, nn

from blindspots import BlindspotsError, Budget, Classifier


class Counting(nn.Module):
    """Counts, for each image, the rows it sees and the rows it sends gradients back to.

    A row belongs to the clean image that is nearest to it, which is beyond doubt at radii this small. With a model
    batch
    of 1 every row is a question about one image. In larger batches of fixed shape there are also rows that fill up or
    overlap; those are not asked for by the attack, and their answers are not used.
    """

    def __init__(self, net: nn.Module, clean: Tensor) -> None:
        super().__init__()
        self.net, self.clean = net, clean.flatten(1)
        self.forwards = torch.zeros(len(clean), dtype=torch.int64)
        self.backwards = torch.zeros(len(clean), dtype=torch.int64)

    def forward(self, x: Tensor) -> Tensor:
        who = torch.cdist(x.detach().flatten(1), self.clean).argmin(1)
        self.forwards += torch.bincount(who, minlength=len(self.clean))
        if x.requires_grad:

            def count(_: Tensor) -> None:
                self.backwards += torch.bincount(who, minlength=len(self.clean))

            x.register_hook(count)
        return self.net(x)


LIMITS = [Budget(), Budget(2), Budget(3), Budget(None, 0), Budget(None, 1), Budget(9, 3)]


def name(budget: Budget) -> str:
    return f"{budget.forwards}-{budget.backwards}"


def told(case: Case, counts: Tensor) -> Tensor:
    """The counts, image by image; their sum where input transformations leave images that cannot be told apart."""
    return counts.sum(0, keepdim=True) if getattr(case.attack, "transforms", "") else counts


def apart(victim, case: Case) -> list[list[int]]:
    """All images at once, or one at a time for attacks that begin far from them: there the nearest says nothing."""
    everyone = list(range(len(victim.images)))
    return [[row] for row in everyone] if getattr(case.attack, "begins_far", False) else [everyone]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_counts_are_true_and_within_the_budget(victim, case: Case) -> None:
    """Trap 37: the success checks count too. With a model batch of 1 the reported numbers are those of the module."""
    for rows, budget in product(apart(victim, case), LIMITS):
        images = victim.images[rows]
        counter = Counting(victim.module(), images)
        result = case.attack(
            Classifier(counter, classes=5, batch=1),
            images,
            victim.labels[rows],
            index=victim.index[rows],
            targets=case.targets,
            budget=budget,
        )
        assert torch.equal(told(case, counter.forwards), told(case, result.forwards)), name(budget)
        assert torch.equal(told(case, counter.backwards), told(case, result.backwards)), name(budget)
        if budget.forwards is not None:
            assert (result.forwards <= budget.forwards).all(), name(budget)
        if budget.backwards is not None:
            assert (result.backwards <= budget.backwards).all(), name(budget)
        with torch.no_grad():
            assert torch.equal(victim.module()(result.images).argmax(1), result.prediction)
        assert torch.equal(result.clean_correct, ~victim.wrong[rows])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_filling_up_a_batch_is_not_charged(victim, case: Case) -> None:
    """In model batches of 4 the module sees at least the rows reported, and the report is as in batches of 1."""
    for rows in apart(victim, case):
        results = []
        for batch in (1, 4):
            counter = Counting(victim.module(), victim.images[rows])
            results.append(
                case.attack(
                    Classifier(counter, classes=5, batch=batch),
                    victim.images[rows],
                    victim.labels[rows],
                    index=victim.index[rows],
                    targets=case.targets,
                    budget=Budget(7, 3),
                )
            )
            assert (told(case, counter.forwards) >= told(case, results[-1].forwards)).all()
            assert (told(case, counter.backwards) >= told(case, results[-1].backwards)).all()
        assert torch.equal(results[0].forwards, results[1].forwards)
        assert torch.equal(results[0].backwards, results[1].backwards)


@pytest.mark.parametrize("rule", ["second", "least-likely"])
def test_forwards_spent_on_choosing_targets_count(victim, rule: str) -> None:
    from law_table import build

    for budget in (Budget(3), Budget(4), Budget(8)):
        counter = Counting(victim.module(), victim.images)
        result = build("pgd", "linf")(
            Classifier(counter, classes=5, batch=1), victim.images, victim.labels, targets=rule, budget=budget
        )
        assert torch.equal(counter.forwards, result.forwards)
        assert (result.forwards <= budget.forwards).all()


def test_forwards_of_predicted_labels_count(victim) -> None:
    from law_table import build

    counter = Counting(victim.module(), victim.images)
    result = build("fgsm", "linf")(Classifier(counter, classes=5, batch=1), victim.images, "predicted")
    assert torch.equal(counter.forwards, result.forwards)
    assert result.clean_correct.all()


def test_mixed_precision_counts_its_checks(victim) -> None:
    from law_table import build

    for budget in (Budget(), Budget(2), Budget(3), Budget(6)):
        counter = Counting(victim.module(torch.float32), victim.images.float())
        result = build("pgd", "linf")(
            Classifier(counter, classes=5, batch=1, amp="bfloat16"), victim.images.float(), victim.labels, budget=budget
        )
        assert torch.equal(counter.forwards, result.forwards)
        assert budget.forwards is None or (result.forwards <= budget.forwards).all()


def test_a_number_is_a_budget_of_forwards(victim) -> None:
    from law_table import build

    attack, model = build("pgd", "linf"), victim.classifier()
    one = attack(model, victim.images, victim.labels, budget=5)
    two = attack(model, victim.images, victim.labels, budget=Budget(forwards=5))
    assert torch.equal(one.forwards, two.forwards)
    assert int(one.forwards.max()) <= 5


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"forwards": 1}, "Budget.forwards must be at least 2, got 1"),
        ({"forwards": 0}, "Budget.forwards must be at least 2, got 0"),
        ({"backwards": -1}, "Budget.backwards must be at least 0, got -1"),
    ],
)
def test_a_budget_that_is_too_small_is_refused(settings: dict[str, int], sentence: str) -> None:
    with pytest.raises(BlindspotsError) as caught:
        Budget(**settings)
    assert str(caught.value) == sentence


def test_a_budget_must_pay_for_the_labels_and_targets_too(victim) -> None:
    """Choosing targets, judging the image and verifying it are three forwards."""
    from law_table import build

    attack, model = build("pgd", "linf"), victim.classifier()
    with pytest.raises(BlindspotsError, match="at least 3 here, to label or target, judge and verify an image; got 2"):
        attack(model, victim.images, victim.labels, targets="second", budget=2)
