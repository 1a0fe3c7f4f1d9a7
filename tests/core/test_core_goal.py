"""Goals and targets: what counts as success, signs, and classes that are never the label."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from blindspots import BlindspotsError, Goal
from blindspots.goal import check_labels, choose_targets, shifted

NAN, INF = float("nan"), float("inf")


def test_untargeted_and_targeted_success() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [1.0, 3.0, 2.0], [1.0, 2.0, 3.0]])
    assert Goal(torch.zeros(3, dtype=torch.int64)).reached(logits).tolist() == [False, True, True]
    assert Goal(torch.zeros(3, dtype=torch.int64), torch.full((3,), 2)).reached(logits).tolist() == [False, False, True]


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_answers_that_are_not_finite_are_no_success(bad: float) -> None:
    logits = torch.tensor([[1.0, 2.0, bad], [bad, 2.0, 1.0], [bad, bad, bad]])
    assert not Goal(torch.tensor([0, 0, 2])).reached(logits).any()
    assert not Goal(torch.tensor([0, 0, 2]), torch.tensor([1, 1, 0])).reached(logits).any()


def test_margin_by_hand_with_negative_logits() -> None:
    """Trap 9: where all other logits are negative, a product with a mask would call the best of them 0."""
    logits = torch.tensor([[-1.0, -3.0, -2.0], [-5.0, -3.0, -2.0]])
    assert Goal(torch.tensor([0, 0])).margin(logits).tolist() == [1.0, -3.0]
    assert Goal(torch.tensor([0, 0]), torch.tensor([1, 1])).margin(logits).tolist() == [2.0, 1.0]


def test_margin_is_negative_exactly_when_the_goal_is_reached() -> None:
    logits = torch.randn(500, 4, dtype=torch.float64) - 5
    labels = torch.randint(0, 4, (500,))
    for goal in (Goal(labels), Goal(labels, (labels + 1) % 4)):
        assert torch.equal(goal.margin(logits) < 0, goal.reached(logits))


def test_margin_of_two_classes() -> None:
    """Trap 14."""
    logits = torch.tensor([[2.0, -1.0]])
    assert Goal(torch.tensor([0])).margin(logits).tolist() == [3.0]
    assert Goal(torch.tensor([0]), torch.tensor([1])).margin(logits).tolist() == [3.0]


def test_take_keeps_rows_together() -> None:
    goal = Goal(torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0]))
    part = goal.take(torch.tensor([2, 0]))
    assert part.labels.tolist() == [2, 0]
    assert part.targets.tolist() == [0, 1]
    assert Goal(torch.tensor([0, 1])).take(slice(1, 2)).targets is None


@pytest.mark.parametrize("classes", [2, 3, 4, 10])
@pytest.mark.parametrize("rule", ["random", "least-likely", "second"])
def test_targets_are_never_the_label(rule: str, classes: int) -> None:
    """Trap 43, also where the label itself is the least likely or the most likely class, and where logits are NaN."""
    index = torch.arange(600)
    labels = index % classes
    logits = torch.randn(600, classes)
    logits[:50] = NAN
    logits[50:80] = 1.0
    targets = choose_targets(rule, labels, logits, 0, index)
    assert (targets != labels).all()
    assert (targets >= 0).all()
    assert (targets < classes).all()
    if classes == 2:
        assert torch.equal(targets, 1 - labels)


def test_named_targets_by_hand() -> None:
    logits = torch.tensor([[5.0, 1.0, 3.0], [1.0, 5.0, 3.0]])
    labels, index = torch.tensor([1, 1]), torch.arange(2)
    assert choose_targets("least-likely", labels, logits, 0, index).tolist() == [2, 0]
    assert choose_targets("second", labels, logits, 0, index).tolist() == [0, 2]


def test_random_targets_are_uniform_over_the_other_classes() -> None:
    index = torch.arange(9000)
    targets = choose_targets("random", torch.full((9000,), 3), torch.empty(9000, 10), 0, index)
    counts = torch.bincount(targets, minlength=10)
    assert counts[3] == 0
    assert stats.chisquare(counts[torch.arange(10) != 3].numpy()).pvalue > 0.01


def test_random_targets_depend_on_seed_and_index_alone() -> None:
    index = torch.tensor([7, 3, 900])
    labels, logits = torch.tensor([0, 1, 2]), torch.empty(3, 10)
    whole = choose_targets("random", labels, logits, 0, index)
    assert torch.equal(choose_targets("random", labels[1:2], logits[1:2], 0, index[1:2]), whole[1:2])
    many = torch.arange(100)
    zeros = torch.zeros(100, dtype=torch.int64)
    one, two = (choose_targets("random", zeros, torch.empty(100, 10), seed, many) for seed in (0, 1))
    assert not torch.equal(one, two)


def test_shifts_reach_every_other_class_once() -> None:
    for classes in (2, 3, 5):
        found = {int(shifted(torch.tensor([1]), shift, classes)) for shift in range(1, classes)}
        assert found == set(range(classes)) - {1}


BAD_LABELS = [
    (torch.zeros(3), "labels must be a vector of whole numbers, one an image, got torch.float32 of shape (3,)"),
    (
        torch.zeros(3, dtype=torch.bool),
        "labels must be a vector of whole numbers, one an image, got torch.bool of shape (3,)",
    ),
    (
        torch.zeros(3, 1, dtype=torch.int64),
        "labels must be a vector of whole numbers, one an image, got torch.int64 of shape (3, 1)",
    ),
    (torch.zeros(2, dtype=torch.int64), "labels must be one an image: got 2 for 3 images"),
    (torch.tensor([0, 1, 5]), "labels must be from 0 to 4, the classes of this model; got values from 0 to 5"),
    (torch.tensor([0, -1, 4]), "labels must be from 0 to 4, the classes of this model; got values from -1 to 4"),
]


@pytest.mark.parametrize(("labels", "sentence"), BAD_LABELS)
def test_bad_labels_are_refused(labels: torch.Tensor, sentence: str) -> None:
    with pytest.raises(BlindspotsError) as caught:
        check_labels(labels, 3, 5)
    assert str(caught.value) == sentence


def test_unknown_target_rule() -> None:
    with pytest.raises(BlindspotsError, match="unknown target rule 'randm': did you mean 'random'"):
        choose_targets("randm", torch.tensor([0]), torch.zeros(1, 2), 0, torch.tensor([0]))
