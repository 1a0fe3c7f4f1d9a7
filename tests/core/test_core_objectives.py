"""Objectives: values by hand, signs, invariances and gradients."""

from __future__ import annotations

import math

import pytest
import torch

from blindspots import BlindspotsError, Goal
from blindspots.objectives import DLR, LOSSES, CrossEntropy, Margin, Point, SquaredSize, Weighted, loss


def value(objective, logits: list[float] | torch.Tensor, label: int = 0, target: int | None = None) -> float:
    logits = torch.as_tensor(logits, dtype=torch.float64).view(1, -1)
    goal = Goal(torch.tensor([label]), None if target is None else torch.tensor([target]))
    blank = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    return float(objective(Point(logits, goal, blank, blank, blank)))


def test_cross_entropy_signs() -> None:
    """Minimised: minus the cross entropy of the label, or the cross entropy of the target."""
    z = [1.0, 0.0, -1.0]
    total = math.log(sum(math.exp(v) for v in z))
    assert value(CrossEntropy(), z, 0) == pytest.approx(-(total - 1.0))
    assert value(CrossEntropy(), z, 0, 2) == pytest.approx(total + 1.0)


@pytest.mark.parametrize("margin", [5.0, 20.0, 60.0])
def test_cross_entropy_keeps_its_gradient_where_the_label_is_certain(margin: float) -> None:
    """In float32 the probability of the label rounds to 1 at a margin of 17; its complement does not round to 0."""
    logits = torch.tensor([[margin, 0.0, -1.0]], requires_grad=True)
    blank = torch.zeros(1, 1, 2, 2)
    loss_there = CrossEntropy()(Point(logits, Goal(torch.tensor([0])), blank, blank, blank))
    (gradient,) = torch.autograd.grad(loss_there.sum(), logits)
    # With s = exp(0) + exp(-1) and q = s / (exp(margin) + s), the gradient of -H is (q, -q exp(z_j) / s).
    total = 1 + math.exp(-1)
    rest = total / (math.exp(margin) + total)
    expected = [rest, -rest / total, -rest * math.exp(-1) / total]
    assert gradient[0].double().tolist() == pytest.approx(expected, rel=1e-5)


def test_margin_and_kappa() -> None:
    """Trap 27 in short words: kappa asks for confidence with the same sign for both goals."""
    z = [1.0, 4.0, 2.0]
    assert value(Margin(), z, 0) == -3.0
    assert value(Margin(), z, 0, 1) == -2.0
    assert value(Margin(), z, 0, 2) == 2.0
    assert value(Margin(kappa=0), z, 0) == 0.0
    assert value(Margin(kappa=1.5), z, 0) == -1.5
    assert value(Margin(kappa=50), z, 0) == -3.0
    with pytest.raises(BlindspotsError, match=r"Margin.kappa must not be negative \(it enters as"):
        Margin(kappa=-1)


@pytest.mark.parametrize(
    ("logits", "label", "target", "expected"),
    [
        ([1.0, 3.0], 0, None, -2.0),  # two classes: the margin alone
        ([1.0, 3.0], 0, 1, -2.0),
        ([4.0, 1.0, 3.0], 0, None, (4 - 3) / (4 - 1)),
        ([4.0, 1.0, 3.0], 0, 2, 1.0),  # targeted with three classes: the difference alone
        ([4.0, 1.0, 3.0, 2.0], 0, None, (4 - 3) / (4 - 2)),
        ([4.0, 1.0, 3.0, 2.0], 1, None, (1 - 4) / (4 - 2)),
        ([4.0, 1.0, 3.0, 2.0], 0, 1, (4 - 1) / (4 - 1.5)),
        ([4.0, 1.0, 3.0, 2.0, -7.0], 0, 4, (4 + 7) / (4 - 1.5)),
        ([2.0, 2.0, 2.0, 2.0], 0, None, 0.0),
        ([2.0, 2.0, 2.0, 2.0], 0, 1, 0.0),
    ],
)
def test_dlr_by_hand(logits: list[float], label: int, target: int | None, expected: float) -> None:
    """Traps 14 and 28: two, three and more classes, with and without a target."""
    assert value(DLR(), logits, label, target) == pytest.approx(expected)


@pytest.mark.parametrize("target", [None, 3])
def test_dlr_ignores_shift_and_scale(target: int | None) -> None:
    z = torch.randn(6, dtype=torch.float64)
    first = value(DLR(), z, 0, target)
    assert value(DLR(), z * 1000 + 7, 0, target) == pytest.approx(first)
    assert value(DLR(), z * 1e-3 - 40, 0, target) == pytest.approx(first)


@pytest.mark.parametrize("name", LOSSES)
def test_lower_is_nearer_to_the_goal(name: str) -> None:
    """At every step from the label's logits to the target's, every loss falls, targeted and untargeted."""
    start, end = torch.tensor([4.0, 0.0, -1.0, -2.0, -3.0]), torch.tensor([0.0, 4.0, -1.0, -2.0, -3.0])
    for target in (None, 1):
        values = [value(loss(name), start + (end - start) * t / 10, 0, target) for t in range(11)]
        assert values == sorted(values, reverse=True)
        assert values[0] > values[-1]


@pytest.mark.parametrize("objective", [CrossEntropy(), Margin(), Margin(kappa=1.0), DLR()])
@pytest.mark.parametrize("classes", [2, 3, 4, 7])
@pytest.mark.parametrize("targeted", [False, True])
def test_gradients(objective, classes: int, targeted: bool) -> None:
    logits = torch.randn(5, classes, dtype=torch.float64, requires_grad=True)
    labels = torch.arange(5) % classes
    goal = Goal(labels, (labels + 1) % classes if targeted else None)
    blank = torch.zeros(5, 1, 2, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: objective(Point(z, goal, blank, blank, blank)), (logits,))


@pytest.mark.parametrize("objective", [CrossEntropy(), Margin(), Margin(kappa=1.0), DLR()])
def test_one_number_an_image_and_rows_apart(objective) -> None:
    """Trap 7: (B,) times (B, 1) would give (B, B)."""
    logits = torch.randn(6, 5, dtype=torch.float64)
    labels = torch.arange(6) % 5
    blank = torch.zeros(6, 1, 2, 2, dtype=torch.float64)
    whole = objective(Point(logits, Goal(labels), blank, blank, blank))
    assert whole.shape == (6,)
    for row in range(6):
        one = slice(row, row + 1)
        alone = objective(Point(logits[one], Goal(labels[one]), blank[one], blank[one], blank[one]))
        torch.testing.assert_close(whole[one], alone, rtol=1e-14, atol=1e-14)


def test_squared_size_and_weights() -> None:
    clean = torch.rand(3, 1, 2, 2, dtype=torch.float64)
    images = (clean + 0.1).requires_grad_()
    logits = torch.tensor([[1.0, 0.0]] * 3, dtype=torch.float64)
    point = Point(logits, Goal(torch.zeros(3, dtype=torch.int64)), images, clean, images)
    torch.testing.assert_close(SquaredSize()(point), torch.full((3,), 0.04, dtype=torch.float64))
    mixed = Weighted(((2.0, SquaredSize()), (-0.5, Margin())))(point)
    torch.testing.assert_close(mixed, torch.full((3,), 0.08 - 0.5, dtype=torch.float64))
    # At the clean image the gradient is zero, not NaN.
    start = clean.clone().requires_grad_()
    (slope,) = torch.autograd.grad(SquaredSize()(Point(logits, point.goal, start, clean, start)).sum(), start)
    assert not slope.any()
    with pytest.raises(BlindspotsError, match="at least one"):
        Weighted(())


def test_unknown_loss() -> None:
    with pytest.raises(BlindspotsError, match="unknown loss 'crossentropy': known: ce, dlr, margin"):
        loss("crossentropy")
