"""Closed forms: on linear models the best attack of every norm is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from blindspots import BIM, FGM, FGSM, MIFGSM, PGD, BisectedPGD, Classifier

GREY = torch.full((6, 1, 4, 4), 0.5, dtype=torch.float64)


def two_classes(bias: float = 0.0) -> tuple[Classifier, torch.Tensor, float]:
    """z_0 - z_1 = <w, x - grey> + bias; at grey the margin of label 0 is the bias."""
    draw = torch.Generator().manual_seed(5)
    w = torch.randn(16, generator=draw, dtype=torch.float64)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double()
    with torch.no_grad():
        net[1].weight.copy_(torch.stack([w, torch.zeros_like(w)]))
        net[1].bias.copy_(torch.tensor([bias - 0.5 * float(w.sum()), 0.0]))
    return Classifier(net, classes=2, batch=4), w, bias


def dual(w: torch.Tensor, norm: str) -> float:
    return float({"linf": w.abs().sum(), "l2": w.norm(), "l1": w.abs().max()}[norm])


LABELS = torch.zeros(6, dtype=torch.int64)


@pytest.mark.parametrize("loss", ["ce", "margin", "dlr"])
@pytest.mark.parametrize(("attack", "norm"), [(FGSM, "linf"), (FGM, "l2")])
def test_one_step_lowers_the_margin_by_the_dual_norm(attack, norm: str, loss: str) -> None:
    """Unclipped: radius * ||w||_1 for the sign step, radius * ||w||_2 for the normalised one."""
    model, w, bias = two_classes(bias=12.0)
    result = attack(0.1, loss=loss)(model, GREY, LABELS)
    torch.testing.assert_close(
        result.margin, torch.full((6,), bias - 0.1 * dual(w, norm), dtype=torch.float64), rtol=1e-9, atol=0
    )
    torch.testing.assert_close(result.size[norm], torch.full((6,), 0.1, dtype=torch.float64), rtol=1e-9, atol=0)


def test_every_value_of_fgsm_moves_by_exactly_the_radius() -> None:
    model, w, _ = two_classes(bias=12.0)
    result = FGSM("8/255")(model, GREY, LABELS)
    expected = GREY - 8 / 255 * w.sign().view(1, 1, 4, 4)
    torch.testing.assert_close(result.images, expected, rtol=0, atol=1e-15)
    torch.testing.assert_close(result.size["l2"], torch.full((6,), 8 / 255 * 4, dtype=torch.float64))


def test_clipping_at_the_box_is_part_of_the_step() -> None:
    model, w, _ = two_classes(bias=12.0)
    images = torch.where(w.view(1, 1, 4, 4) > 0, 0.04, 0.97).expand(6, -1, -1, -1).double()
    result = FGSM(0.1)(model, images, LABELS)
    assert torch.equal(result.images, torch.where(w.view(1, 1, 4, 4) > 0, 0.0, 1.0).double().expand(6, -1, -1, -1))


@pytest.mark.parametrize("random_start", [False, True])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_pgd_reaches_the_optimum(norm: str, random_start: bool) -> None:
    """min <w, d> over ball and box is minus the dual norm times the radius where no bound is met.

    Small steps wander along the l2 sphere from a random start: they come near the optimum only with a total length of
    many radii, hence the step size.
    """
    model, w, bias = two_classes(bias=12.0)
    radius = 0.4
    settings = {"linf": {"steps": 40}, "l2": {"steps": 40, "step_size": 0.4}, "l1": {"steps": 300}}[norm]
    attack = PGD(radius, norm=norm, keep="lowest", random_start=random_start, **settings)
    result = attack(model, GREY, LABELS)
    expected = torch.full((6,), bias - radius * dual(w, norm), dtype=torch.float64)
    torch.testing.assert_close(result.margin, expected, rtol=1e-4, atol=0)


def test_iterated_sign_steps_reach_the_corner() -> None:
    model, w, bias = two_classes(bias=12.0)
    for attack in (BIM(0.2), MIFGSM(0.2), MIFGSM(0.2, decay=0.0)):
        result = attack(model, GREY, LABELS)
        torch.testing.assert_close(result.margin, torch.full((6,), bias - 0.2 * dual(w, "linf"), dtype=torch.float64))
    result = MIFGSM(0.2, norm="l2")(model, GREY, LABELS)
    torch.testing.assert_close(result.margin, torch.full((6,), bias - 0.2 * dual(w, "l2"), dtype=torch.float64))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("classes", [2, 5])
def test_bisection_finds_the_distance_to_the_boundary(norm: str, classes: int) -> None:
    """The distance is min_j (z_y - z_j) / ||w_y - w_j||_dual: to 1e-3, and never below it."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, classes)).double()
    with torch.no_grad():
        # Margins small enough for the boundary to be nearer than the bounds of the box.
        net[1].weight *= 0.5
    draw = torch.Generator().manual_seed(2)
    images = 0.4 + 0.2 * torch.rand(8, 1, 4, 4, generator=draw, dtype=torch.float64)
    with torch.no_grad():
        logits = net(images)
        # The bias brings the classes close together at these images.
        net[1].bias -= logits.mean(0)
        logits = net(images)
    labels = logits.argmax(1)
    weight = net[1].weight.detach()
    distance = torch.full((8,), float("inf"), dtype=torch.float64)
    for row in range(8):
        y = int(labels[row])
        for j in set(range(classes)) - {y}:
            gap = float(logits[row, y] - logits[row, j])
            distance[row] = min(float(distance[row]), gap / dual(weight[y] - weight[j], norm))
    # With two classes any descent direction is the right one; with more, PGD may walk to a class that is not the
    # nearest.
    attack = BisectedPGD(float(distance.max()) * 1.5, norm=norm, steps=60, rounds=14, loss="margin")
    result = attack(Classifier(net, classes=classes, batch=4), images, labels)
    found = result.size[norm]
    assert result.success.all()
    assert (found >= distance * (1 - 1e-6)).all()
    if classes == 2:
        torch.testing.assert_close(found, distance, rtol=1e-3, atol=0)
    else:
        assert (found <= distance * 1.3).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_targeted_attacks_walk_to_the_target(norm: str) -> None:
    """Trap 29: with the target as the only goal, PGD lowers z_y - z_t in closed form too."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 4)).double()
    with torch.no_grad():
        net[1].bias[0] += 100
    gap = (net[1].weight[1] - net[1].weight[0]).detach()
    targets = torch.ones(6, dtype=torch.int64)
    steps = 300 if norm == "l1" else 40
    attack = PGD(0.4, norm=norm, steps=steps, keep="lowest", loss="margin", random_start=False)
    result = attack(Classifier(net, classes=4, batch=4), GREY, LABELS, targets=targets)
    start = float(Classifier(net, classes=4, batch=4).logits(GREY[:1])[0] @ torch.tensor([1.0, -1.0, 0, 0]).double())
    torch.testing.assert_close(
        result.margin, torch.full((6,), start - 0.4 * dual(gap, norm), dtype=torch.float64), rtol=1e-4, atol=0
    )


def test_scale_free_losses_and_steps_ignore_the_scale_of_the_logits() -> None:
    """Trap 40: margin and DLR attack c * logits just as logits."""
    draw = torch.Generator().manual_seed(1)
    images = torch.rand(10, 1, 4, 4, generator=draw, dtype=torch.float64)
    weight = torch.randn(5, 16, generator=draw, dtype=torch.float64)
    results = []
    for scale in (1.0, 2.0**10, 2.0**-10):
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 5, bias=False)).double()
        with torch.no_grad():
            net[1].weight.copy_(weight * scale)
        labels = net(images).argmax(1)
        for loss in ("margin", "dlr"):
            for norm, radius in (("linf", 0.05), ("l2", 0.2)):
                results.append(
                    PGD(radius, norm=norm, loss=loss, steps=5)(Classifier(net, classes=5, batch=4), images, labels)
                )
    for first, scaled in zip(results[:4] * 2, results[4:], strict=True):
        assert torch.equal(first.success, scaled.success)
        torch.testing.assert_close(first.images, scaled.images, rtol=0, atol=1e-9)
