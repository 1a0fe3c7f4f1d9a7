"""Szegedy's attack: closed forms on linear victims, the bracket of the weight, and its parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from blindspots import BlindspotsError, Classifier, Goal, LegacyL1, Szegedy
from blindspots.attacks.legacy_l1 import Clipped, RawL1
from blindspots.attacks.szegedy import Reach, Size, Split, Trade
from blindspots.noise import key
from blindspots.objectives import Point
from blindspots.oracle import Oracle

LABELS = torch.zeros(4, dtype=torch.int64)


def two_classes(margins: list[float]) -> tuple[Classifier, torch.Tensor, torch.Tensor]:
    """Grey images at these margins of z_0 - z_1 = <w, x> + b, far enough from the box for it to play no part."""
    draw = torch.Generator().manual_seed(5)
    w = torch.randn(16, generator=draw, dtype=torch.float64)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double()
    with torch.no_grad():
        net[1].weight.copy_(torch.stack([w, torch.zeros_like(w)]))
        net[1].bias.copy_(torch.tensor([-0.5 * float(w.sum()), 0.0]))
    away = torch.tensor(margins, dtype=torch.float64).view(-1, 1) * w / w.square().sum()
    return Classifier(net, classes=2, batch=4), (0.5 + away).view(-1, 1, 4, 4), w


@pytest.mark.parametrize("targets", [None, 1])
@pytest.mark.parametrize("loss", ["ce", "margin"])
@pytest.mark.parametrize(("norm", "squared"), [("l2", True), ("l2", False), ("l1", True)])
def test_distance_to_the_boundary(norm: Any, squared: bool, loss: Any, targets: int | None) -> None:
    """margin / ||w||_dual, never below it. Where the norm is not squared, cross entropy leaves logits of a few
    thousandths at a weight that is a few thousandths too large."""
    margins = [0.1, 0.4, 0.8, 1.2]
    model, images, w = two_classes(margins)
    dual = float(w.norm() if norm == "l2" else w.abs().max())
    distance = torch.tensor(margins, dtype=torch.float64) / dual
    attack = Szegedy(10, norm, squared, loss, rounds=10)
    result = attack(model, images, LABELS, targets=targets)
    assert result.success.all()
    assert (result.size[norm] >= distance * (1 - 1e-9)).all()
    torch.testing.assert_close(result.size[norm], distance, rtol=4e-3, atol=0.006 / dual)


@pytest.mark.parametrize("squared", [True, False])
def test_smallest_weight_that_succeeds(squared: bool) -> None:
    """With cross entropy the least weight is 4 d / ||w|| for the squared l2 norm and 2 / ||w|| for the norm itself."""
    margins = [0.1, 0.4, 0.8, 1.2]
    model, images, w = two_classes(margins)
    tried: list[torch.Tensor] = []
    verdicts: list[torch.Tensor] = []

    class Told(Szegedy):
        def _run(self, oracle: Oracle, theta: Any, weight: torch.Tensor, lowest: Any) -> torch.Tensor:
            tried.append(weight.clone())
            verdicts.append(super()._run(oracle, theta, weight, lowest))
            return verdicts[-1]

    Told(10, squared=squared, rounds=10, steps=200)(model, images, LABELS)
    distance = torch.tensor(margins, dtype=torch.float64) / w.norm()
    least = 4 * distance / w.norm() if squared else (2 / w.norm()).expand(4)
    weights, reached = torch.stack(tried), torch.stack(verdicts)
    found = torch.where(reached, weights, float("inf")).amin(0)
    failed = torch.where(reached, 0.0, weights)
    failed = torch.where(failed < found, failed, 0.0).amax(0)
    torch.testing.assert_close(found, least, rtol=5e-3, atol=0)
    assert (failed <= found).all()
    assert (failed >= least * 0.99).all()


def test_several_classes_and_the_box() -> None:
    """In the box the smallest l2 perturbation to a target solves a quadratic programme; scipy's answer is the judge."""
    import numpy as np
    from scipy.optimize import LinearConstraint, minimize

    draw = torch.Generator().manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()
    with torch.no_grad():
        net[1].weight.copy_(torch.randn(3, 16, generator=draw, dtype=torch.float64))
    images = torch.rand(6, 1, 4, 4, generator=draw, dtype=torch.float64)
    labels = net(images).argmax(1)
    targets = (labels + 1) % 3
    attack = Szegedy(10, loss="margin", rounds=10, steps=200)
    result = attack(Classifier(net, classes=3, batch=2), images, labels, targets=targets)
    assert result.success.all()
    weight, bias = net[1].weight.detach().numpy(), net[1].bias.detach().numpy()
    clipped = 0
    for i in range(6):
        x, t = images[i].flatten().numpy(), int(targets[i])
        gap, rest = np.delete(weight[t] - weight, t, 0), np.delete(bias[t] - bias, t)
        reaches = LinearConstraint(gap, -(gap @ x + rest), np.inf)
        best = minimize(
            lambda r: r @ r,
            0 * x,
            jac=lambda r: 2 * r,
            bounds=list(zip(-x, 1 - x, strict=True)),
            constraints=[reaches],
            method="SLSQP",
            options={"maxiter": 500, "ftol": 1e-14},
        )
        distance = float((best.x @ best.x) ** 0.5)
        assert distance * (1 - 1e-6) <= float(result.size["l2"][i]) <= distance * 1.02
        clipped += int(((best.x <= -x + 1e-9) | (best.x >= 1 - x - 1e-9)).any())
    assert clipped, "the box must play a part"


def test_weights_are_each_images_own() -> None:
    """Images of very different margins find what they find alone."""
    model, images, _ = two_classes([0.01, 0.3, 1.0, 2.0])
    together = Szegedy(10, rounds=6)(model, images, LABELS)
    for i in range(4):
        alone = Szegedy(10, rounds=6)(model, images[i : i + 1], LABELS[:1])
        assert torch.equal(alone.images[0], together.images[i])
        assert int(alone.forwards) == int(together.forwards[i])


def test_larger_perturbations_than_the_radius_do_not_count() -> None:
    model, images, w = two_classes([0.1, 0.4, 0.8, 1.2])
    radius = 0.6 / float(w.norm())
    result = Szegedy(radius)(model, images, LABELS)
    assert result.success.tolist() == [True, True, False, False]
    assert (result.size["l2"] <= radius * (1 + 1e-6)).all()
    free = Szegedy(10)(model, images, LABELS)
    torch.testing.assert_close(free.size["l2"][:2], result.size["l2"][:2], rtol=1e-2, atol=0)


def test_noise_starts_differ_and_lead_to_the_same_minimum() -> None:
    model, images, _ = two_classes([0.1, 0.4, 0.8, 1.2])
    attacks = [Szegedy(10, start=start, spread=0.1, rounds=10) for start in ("zero", "noise")]
    zero, noisy = (attack(model, images, LABELS) for attack in attacks)
    assert not torch.equal(zero.images, noisy.images)
    torch.testing.assert_close(zero.size["l2"], noisy.size["l2"], rtol=5e-3, atol=0)


def test_reach_is_the_cross_entropy_of_the_goal() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 15.0, 0.0]], dtype=torch.float64)
    labels, targets = torch.tensor([0, 1]), torch.tensor([1, 2])
    images = torch.zeros(2, 1, 2, 2)
    untargeted = Reach()(Point(logits, Goal(labels), images, images, images))
    targeted = Reach()(Point(logits, Goal(labels, targets), images, images, images))
    probability = logits.softmax(1)
    torch.testing.assert_close(untargeted, -torch.log(1 - probability[[0, 1], labels]), rtol=1e-6, atol=0)
    torch.testing.assert_close(targeted, nn.functional.cross_entropy(logits, targets, reduction="none"))


def test_sizes_and_their_gradients_at_zero() -> None:
    images = torch.rand(2, 1, 2, 2, dtype=torch.float64)
    theta = images.clone().requires_grad_()
    point = Point(torch.zeros(2, 2), Goal(torch.zeros(2, dtype=torch.int64)), theta, images, theta)
    for squared in (True, False):
        value = Size("l2", squared)(point)
        (gradient,) = torch.autograd.grad(value.sum(), theta)
        assert not value.any()
        assert not gradient.any()


def test_split_space_holds_increase_and_decrease() -> None:
    images = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    space = Split(images, "l1", 100)
    low, high = space.bounds()
    assert torch.equal(space.apply(space.zero(), slice(None)), images)
    assert torch.equal(low, torch.zeros(3, 2, 1, 4, 4))
    full = high.clone()
    full[:, 1] = 0
    assert space.within(full).all()
    torch.testing.assert_close(space.apply(full, slice(None)), torch.ones_like(images))
    wild = 4 * torch.rand(3, 2, 1, 4, 4) - 2
    inside = space.project(wild)
    assert ((inside >= low) & (inside <= high)).all()
    assert torch.equal(space.project(inside), inside)
    small = Split(images, "l1", 0.5)
    assert (small.size(small.project(wild)) <= 0.5 * (1 + 1e-6)).all()
    assert small.within(small.project(wild)).all()
    torch.testing.assert_close(small.narrow(torch.tensor([2])).zero(), small.zero()[2:])


def test_l1_perturbations_are_sparse() -> None:
    model, images, _ = two_classes([0.1, 0.4, 0.8, 1.2])
    assert (Szegedy(10, "l1")(model, images, LABELS).size["l0"] == 1).all()


def test_legacy_l1_is_sparse_and_judged_by_its_own_target() -> None:
    draw = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).double()
    with torch.no_grad():
        net[1].weight.mul_(40)
    images = torch.rand(4, 1, 8, 8, generator=draw, dtype=torch.float64)
    model = Classifier(net, classes=4, batch=4)
    labels = model.logits(images).argmax(1)
    result = LegacyL1(1000, rate=0.02, steps=300)(model, images, labels, targets="all")
    assert len(result) == 12
    assert torch.equal(result.success, model.logits(result.images).argmax(1) == result.targets)
    assert result.success.any()
    best = Szegedy(1000, "l1")(model, images, labels, targets="all")
    both = result.success & best.success
    assert (best.size["l1"] <= result.size["l1"] * (1 + 1e-6))[both].all()


def test_legacy_l1_penalises_what_the_clip_hides() -> None:
    images = torch.full((1, 1, 2, 2), 0.75, dtype=torch.float64)
    space = Clipped(images, "l1", 100)
    start = space.start(key(0, torch.arange(1)))
    assert ((start - images >= 0) & (start - images < 1)).all()
    beyond = images + 0.5
    assert torch.equal(space.project(beyond), beyond)
    assert torch.equal(space.apply(beyond, slice(None)), torch.ones_like(images))
    point = Point(torch.zeros(1, 2), Goal(LABELS[:1]), beyond.clamp(0, 1), images, beyond)
    assert float(RawL1()(point)) == 2.0
    assert float(space.size(beyond)) == 1.0
    near = Clipped(images, "l1", 0.5)
    assert near.within(near.project(beyond)).all()
    assert not near.within(beyond).any()


def test_objectives_that_are_pursued_value_anew_what_was_kept() -> None:
    model, images, _ = two_classes([0.1, 0.4, 0.8, 1.2])
    attack = Szegedy(10)
    oracle = Oracle(model, images, Goal(LABELS), attack.space(images), Reach(), key(0, torch.arange(4)), keep="lowest")
    with model.session():
        oracle.judge_clean()
        before = oracle.record.loss.clone()
        weights = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)

        oracle.pursue(Trade(Size("l2", True), Reach(), weights))
    torch.testing.assert_close(oracle.record.loss, before * weights)
    assert (oracle.record.forwards == 1).all()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"norm": "linf"}, "Szegedy.norm must be one of l2, l1, got 'linf'"),
        ({"loss": "dlr"}, "Szegedy.loss must be one of ce, margin, got 'dlr'"),
        ({"start": "one"}, "Szegedy.start must be one of zero, noise, got 'one'"),
        ({"steps": 0}, "Szegedy.steps must be at least 1, got 0"),
        ({"rounds": -1}, "Szegedy.rounds must be at least 0, got -1"),
        ({"spread": -1.0}, "Szegedy.spread must be at least 0, got -1.0"),
    ],
)
def test_impossible_settings_are_told_in_a_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BlindspotsError) as caught:
        Szegedy(10, **settings)
    assert str(caught.value) == sentence


def test_models_that_answer_with_nan_are_refused() -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, :2] * float("nan")

    with pytest.raises(BlindspotsError, match="the model answers every image with NaN or infinite logits"):
        Szegedy(10, steps=2)(Classifier(Broken(), classes=2, batch=4), torch.rand(4, 1, 4, 4), LABELS)
