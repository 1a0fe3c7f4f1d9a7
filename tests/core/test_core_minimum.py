"""Minimum-norm attacks on linear networks, where the distance to the boundary is known, within the box too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import blindspots as bs
from blindspots import CW, DDN, EAD, FAB, FMN, PDPGD, BrendelBethge, Classifier, DeepFool, SigmaZero, halfspace
from blindspots.attack import Attack
from blindspots.training import cached_victim

PIXELS, COUNT = 16, 7
LARGEST = {"l2": 4.0, "linf": 1.0, "l1": 16.0, "l0": 16}

# Every attack in every norm, with settings that let it converge on an affine network.
ATTACKS: list[Attack] = [
    DeepFool(LARGEST["l2"], overshoot=1e-6),
    DeepFool(LARGEST["linf"], norm="linf", overshoot=1e-6),
    DDN(LARGEST["l2"], loss="margin"),
    *(FMN(LARGEST[norm], norm=norm) for norm in ("l2", "linf", "l1", "l0")),
    CW(LARGEST["l2"], steps=200, rounds=6),
    CW(LARGEST["linf"], norm="linf"),
    CW(LARGEST["l0"], norm="l0", rounds=15),
    EAD(LARGEST["l1"], beta=0.1),
    *(FAB(LARGEST[norm], norm=norm, steps=20, eta=1.01) for norm in ("linf", "l2", "l1")),
    FAB(LARGEST["l2"], norm="l2", steps=20, restarts=2, one_by_one=True),
    *(PDPGD(LARGEST[norm], norm=norm, steps=200) for norm in ("linf", "l2", "l1")),
    PDPGD(LARGEST["l1"], norm="l1", steps=200, inner=0),
    SigmaZero(LARGEST["l0"]),
    *(BrendelBethge(LARGEST[norm], norm=norm, steps=40) for norm in ("l2", "linf", "l1")),
]
NEAR = 1e-3


def name(attack: Any) -> str:
    kind = "-t" * getattr(attack, "one_by_one", False) + "-exact" * (getattr(attack, "inner", 1) == 0)
    return f"{attack.name}-{getattr(attack, 'norm', attack.norms[0])}{kind}"


def needed(slope: Tensor, gap: float, x: Tensor, norm: str) -> float:
    """The smallest size of d with <slope, d> <= -gap and x + d in the box, by bisection of the level, in float64."""
    room = torch.where(slope > 0, x, 1 - x)
    gain = slope.abs()
    if norm in ("l1", "l0"):
        left, used = gap, 0.0
        for i in (gain * room if norm == "l0" else gain).argsort(descending=True).tolist():
            if left <= 0:
                break
            part = min(float(room[i]), left / max(float(gain[i]), 1e-12))
            used, left = used + (part if norm == "l1" else 1), left - part * float(gain[i])
        return used if left <= 1e-12 else float("inf")
    unit = gain if norm == "l2" else torch.ones_like(gain)
    low, high = 0.0, 1e4
    for _ in range(200):
        level = (low + high) / 2
        enough = float((gain * torch.minimum(level * unit, room)).sum()) >= gap
        low, high = (low, level) if enough else (level, high)
    change = torch.minimum(high * unit, room)
    if float((gain * change).sum()) < gap - 1e-9:
        return float("inf")
    return float(change.norm() if norm == "l2" else change.max())


def problem(classes: int, tight: bool, seed: int = 4) -> tuple[Classifier, Tensor, Tensor, nn.Linear]:
    """An affine network and images of its first class: grey ones, or ones near the bounds of the box."""
    draw = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, classes)).double()
    images = torch.rand(COUNT, 1, 4, 4, generator=draw, dtype=torch.float64)
    images = 0.4 + 0.2 * images
    if tight:
        # Every other value has a few hundredths of room only, and is clamped on the way.
        images[..., ::2] = 0.1 * (images[..., ::2] - 0.4) + torch.tensor([0.01, 0.97])
    with torch.no_grad():
        net[1].weight.copy_(torch.randn(classes, PIXELS, generator=draw, dtype=torch.float64))
        net[1].bias.zero_()
        logits = net(images)
        net[1].bias.sub_(logits.mean(0))
        # Close enough together for the boundary to be in the box, and one rival ahead: which boundary gradients of the
        # margin lead to is another matter, see `test_deepfool_is_exact_in_one_step`.
        net[1].bias[0] += 1.5
        net[1].bias[2:] -= 2.0
        labels = net(images).argmax(1)
    return Classifier(net, classes=classes, batch=4), images, labels, net[1]


def distances(layer: nn.Linear, images: Tensor, labels: Tensor, norm: str) -> Tensor:
    """The distance (B,) to the nearest of the other classes."""
    weight, bias = layer.weight.detach(), layer.bias.detach()
    found = []
    for image, label in zip(images.flatten(1), labels.tolist(), strict=True):
        rivals = [j for j in range(len(bias)) if j != label]
        gaps = [float((weight[label] - weight[j]) @ image + bias[label] - bias[j]) for j in rivals]
        found.append(
            min(needed(weight[label] - weight[j], gap, image, norm) for j, gap in zip(rivals, gaps, strict=True))
        )
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("tight", [False, True], ids=["free", "tight"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("attack", ATTACKS, ids=name)
def test_the_distance_to_the_boundary_is_found(attack: Any, classes: int, tight: bool) -> None:
    model, images, labels, layer = problem(classes, tight)
    norm = getattr(attack, "norm", attack.norms[0])
    distance = distances(layer, images, labels, norm)
    assert torch.isfinite(distance).all()
    if tight and norm == "linf":
        assert int((distance > 0.03).sum()) >= 3, "no bound is met"
    result = attack(model, images, labels)
    assert result.success.all()
    assert (result.size[norm] >= distance * (1 - 1e-9)).all(), "nearer than the boundary"
    torch.testing.assert_close(result.size[norm], distance, rtol=NEAR, atol=0)


def test_proximal_steps_lead_to_the_exact_shrinkage() -> None:
    """d minimises pull ||d||_1 + sum_i metric_i (d_i - moved_i)^2 / 2: from above at first, exactly in the end."""
    draw = torch.Generator().manual_seed(2)
    moved = torch.randn(5, 1, 4, 4, generator=draw, dtype=torch.float64)
    metric = 0.2 + torch.rand(5, 1, 4, 4, generator=draw, dtype=torch.float64)
    pull = torch.linspace(0.05, 1.0, 5, dtype=torch.float64)
    exact = moved.sign() * (moved.abs() - pull.view(-1, 1, 1, 1) / metric).clamp(min=0)
    few, many = (PDPGD(9.0, norm="l1", inner=n)._shrink(moved, pull, metric) for n in (5, 400))
    torch.testing.assert_close(PDPGD(9.0, norm="l1", inner=0)._shrink(moved, pull, metric), exact)
    torch.testing.assert_close(many, exact, rtol=1e-9, atol=1e-9)
    assert (few.abs() >= exact.abs() - 1e-12).all()
    assert (few.abs() > exact.abs() + 1e-3).any()


def test_thinned_changes_are_all_needed() -> None:
    """On an affine network a change that is needed stays needed when others go. Long steps change too much at first."""
    model, images, labels, _ = problem(3, False)
    attack = SigmaZero(LARGEST["l0"], steps=3, tau=0.0, thin=PIXELS)
    result, whole = (replace(attack, thin=thin)(model, images, labels) for thin in (PIXELS, 0))
    assert result.success.all()
    assert (result.size["l0"] < whole.size["l0"]).all()
    for image, found, label in zip(images, result.images, labels, strict=True):
        places = (found != image).flatten().nonzero().squeeze(1)
        without = found.flatten().repeat(len(places), 1)
        without[torch.arange(len(places)), places] = image.flatten()[places]
        assert (model.logits(without.view(-1, *image.shape)).argmax(1) == label).all()


@pytest.mark.parametrize("attack", ATTACKS, ids=name)
def test_towards_a_target_the_boundary_between_two_classes_is_the_same(attack: Any) -> None:
    model, images, labels, layer = problem(2, False)
    norm = getattr(attack, "norm", attack.norms[0])
    result = attack(model, images, labels, targets=1 - labels)
    assert result.success.all()
    distance = distances(layer, images, labels, norm)
    torch.testing.assert_close(result.size[norm], distance, rtol=NEAR, atol=0)


@pytest.mark.parametrize("attack", ATTACKS, ids=name)
def test_one_search_answers_for_every_radius(attack: Any) -> None:
    """A radius says what counts and bends no path: sizes within it are those of the search without it."""
    model, images, labels, _ = problem(3, False)
    norm = getattr(attack, "norm", attack.norms[0])
    whole = attack(model, images, labels)
    middle = float(whole.size[norm].sort().values[3]) * (1 + 1e-9)
    part = replace(attack, radius=round(middle) if norm == "l0" else middle)(model, images, labels)
    inside = whole.size[norm] <= float(middle)
    assert torch.equal(part.success, inside)
    torch.testing.assert_close(part.size[norm][inside], whole.size[norm][inside], rtol=1e-9, atol=0)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("tight", [False, True], ids=["free", "tight"])
def test_deepfool_is_exact_in_one_step(norm: str, tight: bool) -> None:
    for classes in (2, 3):
        model, images, labels, layer = problem(classes, tight)
        result = DeepFool(LARGEST[norm], norm=norm, steps=1, stride=1, overshoot=1e-12, polish=0)(model, images, labels)
        assert result.success.all()
        assert (result.steps == 1).all()
        assert (result.backwards == classes - 1).all()
        torch.testing.assert_close(
            result.size[norm], distances(layer, images, labels, norm), rtol=1e-11, atol=0, msg=f"{classes} classes"
        )


def test_deepfool_goes_further_by_the_overshoot() -> None:
    model, images, labels, layer = problem(3, False)
    result = DeepFool(LARGEST["l2"], stride=1, polish=0)(model, images, labels)
    torch.testing.assert_close(result.size["l2"], 1.02 * distances(layer, images, labels, "l2"), rtol=1e-12, atol=0)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_deepfool_leaves_a_boundary_that_rounding_holds_it_on(norm: Any) -> None:
    """Without an overshoot a step ends where the gap is rounding, and a share of what is left leads nowhere."""
    model, images, labels, layer = problem(3, False)
    model.module.float()
    found = DeepFool(LARGEST[norm], norm=norm, overshoot=0, polish=0)(
        Classifier(model.module, classes=3, batch=4), images.float(), labels
    )
    assert found.success.all()
    assert int(found.steps.max()) <= 8
    expected = distances(layer.double(), images, labels, norm)
    torch.testing.assert_close(found.size[norm], expected, rtol=1e-3, atol=0)


def test_polishing_pulls_a_success_to_the_boundary_and_stays_clear_of_it() -> None:
    model, images, labels, layer = problem(3, False)
    distance = distances(layer, images, labels, "l2")
    rough = DeepFool(LARGEST["l2"], stride=1, overshoot=0.5, polish=0)(model, images, labels)
    fine = DeepFool(LARGEST["l2"], stride=1, overshoot=0.5, polish=5)(model, images, labels)
    torch.testing.assert_close(rough.size["l2"], 1.5 * distance, rtol=1e-9, atol=0)
    assert fine.success.all()
    assert (fine.size["l2"] <= distance * (1 + 3e-4)).all()
    assert (fine.size["l2"] >= distance * (1 + 0.9e-4)).all()
    assert (fine.forwards <= rough.forwards + 5).all()
    assert torch.equal(fine.backwards, rough.backwards)


def test_what_is_larger_than_the_radius_gives_the_image_back() -> None:
    model, images, labels, layer = problem(3, False)
    small = float(distances(layer, images, labels, "l2").min()) / 2
    for attack in (DDN(small, steps=5), FMN(small, steps=5), DeepFool(small)):
        result = attack(model, images, labels)
        assert not result.success.any()
        assert torch.equal(result.images, images)
        assert torch.equal(result.prediction, labels)
        assert (result.margin > 0).all()


@pytest.mark.parametrize("one_by_one", [False, True])
def test_fab_leaves_at_its_first_success_within_the_radius(victim, one_by_one: bool) -> None:
    """The same images fall as in the search for the smallest, at less cost, and those that stand cost as much."""
    attack = FAB(0.03, steps=6, restarts=4, one_by_one=one_by_one)
    whole, first = (
        replace(attack, keep=keep)(victim.classifier(), victim.images, victim.labels, index=victim.index)
        for keep in ("smallest", "first")
    )
    assert torch.equal(first.success, whole.success)
    changed = first.success & ~victim.wrong
    assert changed.any()
    assert not first.success.all()
    assert (first.forwards < whole.forwards)[changed].all()
    assert torch.equal(first.forwards[~changed], whole.forwards[~changed])


def test_runs_beyond_the_number_of_other_classes_are_cut() -> None:
    model, images, labels, _ = problem(3, False)
    small = {"norm": "l2", "steps": 4, "one_by_one": True, "polish": 0}
    two, nine = (FAB(1e-3, restarts=restarts, **small)(model, images, labels) for restarts in (2, 9))
    assert torch.equal(two.forwards, nine.forwards)
    assert (nine.backwards == 2 * 4).all()
    targeted = FAB(1e-3, restarts=9, **small)(model, images, labels, targets=(labels + 1) % 3)
    assert (targeted.backwards == 4).all()


@pytest.mark.parametrize(("norm", "most"), [("linf", 1.3), ("l2", 1.05)])
def test_brendel_bethge_stays_at_bent_boundaries(norm: Any, most: float) -> None:
    """A trained network: steps that a plane promises too much for once led off the boundary, never to come back."""
    model = bs.classifier(str(cached_victim("digits")), batch=16)
    images, labels, _ = bs.dataset("digits").batch(0, 16)
    walked = BrendelBethge(50.0 if norm == "l2" else 1.0, norm=norm, steps=60, restarts=2)(model, images, labels)
    other = FMN(50.0 if norm == "l2" else 1.0, norm=norm, steps=100)(model, images, labels)
    assert walked.success.all()
    assert walked.size[norm].median() <= most * other.size[norm].median()


def test_brendel_bethge_begins_where_it_is_told() -> None:
    model, images, labels, layer = problem(2, False)
    starts = images - 0.5 * (layer.weight[labels] - layer.weight[1 - labels]).sign().view_as(images)
    starts = starts.clamp(0, 1).detach()
    result = BrendelBethge(LARGEST["l2"], draws=0)(model, images, labels, starts=starts)
    assert result.success.all()
    torch.testing.assert_close(result.size["l2"], distances(layer, images, labels, "l2"), rtol=NEAR, atol=0)
    lost = BrendelBethge(LARGEST["l2"], draws=0)(model, images, labels)
    assert lost.unstarted.all()
    assert torch.equal(lost.images, images)


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_steps_onto_a_hyperplane(norm: str, dtype: torch.dtype) -> None:
    """Smallest, on the plane from both sides, in the box; to the corner where the plane is beyond it."""
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(40, PIXELS, generator=draw, dtype=torch.float64)
    x[::3] = x[::3].round()
    g = torch.randn(40, PIXELS, generator=draw, dtype=torch.float64)
    g[:, 0] = 0
    gap = torch.randn(40, generator=draw, dtype=torch.float64) * 3
    d = halfspace.step(norm, g.to(dtype), gap.to(dtype), x.to(dtype)).double()
    near = 1e-9 if dtype == torch.float64 else 1e-5
    assert (x + d >= -near).all()
    assert (x + d <= 1 + near).all()
    assert (d[:, 0] == 0).all()
    size = {"l2": d.norm(dim=1), "linf": d.abs().amax(1), "l1": d.abs().sum(1)}[norm]
    for row in range(40):
        sign = float(gap[row].sign())
        expected = needed(g[row] * sign, abs(float(gap[row])), x[row], norm)
        reached = float(g[row] @ d[row])
        if expected == float("inf"):
            assert abs(reached) < abs(float(gap[row]))
            corner = torch.where(g[row] * sign > 0, -x[row], 1 - x[row])
            torch.testing.assert_close(d[row][1:], corner[1:], rtol=0, atol=near)
        else:
            assert abs(reached + float(gap[row])) <= near * 20
            assert abs(float(size[row]) - expected) <= near * 20
    still = halfspace.step(norm, torch.zeros(1, PIXELS), torch.ones(1), torch.rand(1, PIXELS))
    assert not still.any()
