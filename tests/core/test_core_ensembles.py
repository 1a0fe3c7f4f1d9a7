"""Ensembles: the union of their attacks, who decided, what each added, and what it cost."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from blindspots import (
    APGD,
    FAB,
    FGSM,
    PGD,
    AutoAttack,
    BlindspotsError,
    Budget,
    Classifier,
    Ensemble,
    Square,
    ensemble,
)
from blindspots.attacks import ATTACKS
from blindspots.config import make_attack, make_attacks, parse_attack
from blindspots.settings import plain

RADIUS = 0.04
PARTS = (FGSM(RADIUS), PGD(RADIUS, steps=4, loss="dlr"), APGD(RADIUS, steps=10))


@pytest.mark.parametrize("targets", [None, "random", "second", "all"])
def test_the_verdict_is_the_union(victim, targets) -> None:
    """Each attack finds in the ensemble what it finds alone; the first that does is the one that decided."""
    call = {"index": victim.index, "targets": targets}
    whole = ensemble(PARTS)(victim.classifier(), victim.images, victim.labels, **call)
    alone = [attack(victim.classifier(), victim.images, victim.labels, **call) for attack in PARTS]
    assert torch.equal(whole.success, torch.stack([one.success for one in alone]).any(0))
    without = alone[0].success & (alone[0].size["linf"] == 0)
    for row in range(len(whole)):
        first = next((k for k, one in enumerate(alone) if one.success[row]), -1)
        assert whole.decided[row] == (-1 if without[row] else first)
        if first >= 0:
            assert torch.equal(whole.images[row], alone[first].images[row])
    assert sum(whole.added.values()) == int((whole.success & ~without).sum())
    assert list(whole.added) == ["fgsm", "pgd:steps=4,loss=dlr", "apgd:steps=10"]
    if targets is None:
        assert len({name for name, count in whole.added.items() if count}) >= 2, "the test needs several that decide"


def test_images_leave_when_they_are_fooled(victim) -> None:
    """Costs add up over the attacks that an image meets, and no further; the unchanged image is judged once.

    Alone, the second and the third attack would ask for it before they start at random.
    """
    whole = ensemble(PARTS)(victim.classifier(), victim.images, victim.labels, index=victim.index)
    alone = [attack(victim.classifier(), victim.images, victim.labels, index=victim.index) for attack in PARTS]
    for row in range(13):
        last = next((k for k, one in enumerate(alone) if one.success[row]), len(alone) - 1)
        for name in ("forwards", "backwards", "steps"):
            saved = last if name == "forwards" else 0
            assert getattr(whole, name)[row] == sum(getattr(one, name)[row] for one in alone[: last + 1]) - saved


def test_known_logits_of_the_images_are_not_asked_for(victim) -> None:
    """A forward less for the same finding; attacks that begin at the image itself ask there all the same."""
    model, given = victim.classifier(), (victim.images, victim.labels)
    known = model.logits(victim.images)
    for attack, saved in ((APGD(RADIUS, steps=5), 1), (FGSM(RADIUS), 0), (ensemble(PARTS[1:]), 1)):
        usual, told = attack(model, *given), attack(model, *given, clean_outputs=known)
        assert torch.equal(told.images, usual.images)
        assert torch.equal(told.clean_outputs, usual.clean_outputs)
        assert torch.equal(told.forwards + saved, usual.forwards)
        assert torch.equal(told.backwards, usual.backwards)
    for wrong in (known[:5], known[:, :3], known.argmax(1)):
        with pytest.raises(BlindspotsError, match="clean_outputs must be the model's logits of the images"):
            PARTS[1](model, *given, clean_outputs=wrong)


@pytest.mark.parametrize("limit", [3, 5, 8, 20])
def test_one_budget_for_all_attacks(victim, limit: int) -> None:
    for budget in (Budget(limit), Budget(None, limit), limit):
        whole = ensemble(PARTS)(victim.classifier(), victim.images, victim.labels, budget=budget, targets="second")
        if isinstance(budget, Budget) and budget.forwards is None:
            assert (whole.backwards <= limit).all()
            assert int(whole.backwards.max()) == min(limit, 15)
        else:
            assert (whole.forwards <= limit).all()


def test_limits_of_each_image(victim) -> None:
    """An attack may be told how much each image may cost; an image with less stops earlier."""
    attack = PGD(RADIUS, steps=10)
    free = attack(victim.classifier(), victim.images, victim.labels)
    limits = torch.full((13, 2), 1000)
    limits[:6] = torch.tensor([6, 2])
    bound = attack(victim.classifier(), victim.images, victim.labels, limits=limits)
    assert torch.equal(bound.images[6:], free.images[6:])
    assert (bound.forwards[:6] <= 6).all()
    assert (bound.backwards[:6] <= 2).all()
    tight = attack(victim.classifier(), victim.images, victim.labels, limits=limits, budget=Budget(4))
    assert int(tight.forwards.max()) == 4
    for wrong in (limits[:5], limits[:, 0], limits * 0):
        with pytest.raises(BlindspotsError, match="limits must hold for each image"):
            attack(victim.classifier(), victim.images, victim.labels, limits=wrong)


def test_company_changes_no_decision(victim) -> None:
    whole = ensemble(PARTS)(victim.classifier(), victim.images, victim.labels, index=victim.index)
    rows = [11, 0, 7, 3]
    for population in (None, 1, 3):
        part = ensemble(PARTS)(
            victim.classifier(),
            victim.images[rows],
            victim.labels[rows],
            index=victim.index[rows],
            population=population,
        )
        assert torch.equal(part.decided, whole.decided[rows])
        assert torch.equal(part.images, whole.images[rows])
        assert torch.equal(part.forwards, whole.forwards[rows])


def test_traces_are_strung_together(victim) -> None:
    whole = ensemble(PARTS)(victim.classifier(), victim.images, victim.labels, trace=True)
    first = PARTS[0](victim.classifier(), victim.images, victim.labels, trace=True)
    assert len(whole.trace) > len(first.trace)
    for one, other in zip(whole.trace, first.trace, strict=False):
        torch.testing.assert_close(one["loss"], other["loss"], equal_nan=True)
    assert all(len(entry["loss"]) == 13 for entry in whole.trace)
    done = whole.decided == 0
    assert torch.isnan(torch.stack([entry["loss"][done] for entry in whole.trace[len(first.trace) :]])).all()


def test_text_and_values() -> None:
    made = make_attack({**parse_attack("pgd:steps=20,loss=dlr+apgd"), "radius": "8/255"})
    assert made == Ensemble("8/255", attacks="pgd:steps=20,loss=dlr+apgd")
    assert [member.attack for member in made.members()] == [PGD("8/255", steps=20, loss="dlr"), APGD("8/255")]
    assert ensemble([member.attack for member in made.members()]) == Ensemble(
        "8/255", attacks="pgd:steps=20,loss=dlr+apgd"
    )
    assert ensemble([PGD("1/4", norm="l2", random_start=False)]) == Ensemble("1/4", "l2", "pgd:random_start=false")
    both = make_attacks([parse_attack("pgd+apgd"), parse_attack("fgsm")], None, ("0.1", "0.2"))
    assert [attack.name for attack in both] == ["ensemble", "fgsm"] * 2
    assert ensemble([AutoAttack(0.1, version="rand"), PGD(0.1)]).members()[0].attack == AutoAttack(0.1, version="rand")
    assert made.steps == 100
    with pytest.raises(BlindspotsError, match="needs attacks"):
        ensemble([])


def test_the_versions_hold_the_published_attacks_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Croce and Hein 2020, and the authors' code. What is not here is named."""
    rand = {member.name: member.attack for member in AutoAttack("8/255", version="rand").members()}
    assert rand == {
        "apgd-ce": APGD("8/255", eot=20, narrowing=False),
        "apgd-dlr": APGD("8/255", eot=20, narrowing=False, loss="dlr"),
    }
    fab_t = FAB("8/255", one_by_one=True, restarts=9, keep="first")
    standard = {member.name: member.attack for member in AutoAttack("8/255").members()}
    assert list(standard) == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert standard["fab-t"] == fab_t
    assert standard["square"] == Square("8/255", queries=5000, schedule=10_000)
    plus = {member.name: member.attack for member in AutoAttack("8/255", version="plus").members()}
    assert list(plus) == ["apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"]
    assert plus["fab"] == FAB("8/255", restarts=5, rivals=9, keep="first")
    assert plus["fab-t"] == fab_t
    monkeypatch.delitem(ATTACKS, "apgd-t")
    with pytest.raises(BlindspotsError, match="version standard needs the attack 'apgd-t'"):
        AutoAttack("8/255")


@pytest.mark.parametrize("targets", [None, "random"])
@pytest.mark.parametrize(("norm", "radius"), [("linf", 0.03), ("l2", 0.15)])
def test_the_standard_version_is_the_union_of_its_attacks(victim, norm, radius, targets) -> None:
    attack = AutoAttack(radius, norm, steps=5, queries=20)
    call = {"index": victim.index, "targets": targets}
    whole = attack(victim.classifier(), victim.images, victim.labels, **call)
    alone = [
        member.attack(victim.classifier(), victim.images, victim.labels, **call).success for member in attack.members()
    ]
    assert torch.equal(whole.success, torch.stack(alone).any(0))
    assert whole.success.any()
    assert not whole.success.all()
    # 4 other classes, or the target: both Auto-PGD, a run of FAB for each class, and what is left to Square.
    runs = 4 if targets is None else 1
    fab, square = 1 + runs * 2 * 5 + 3, 20
    assert (whole.forwards[~whole.success] <= 1 + 6 + 1 + runs * 6 + fab + square).all()


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_few_classes(classes: int) -> None:
    """Trap 14: K - 1 rivals; no ratio needs classes that are not there."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, classes))
    images = torch.rand(12, 1, 4, 4) * 0.2 + 0.4
    labels = net(images).argmax(1)
    attack = Ensemble(0.05, attacks="apgd:loss=dlr,steps=10+apgd-t:steps=10")
    result = attack(Classifier(net, classes=classes, batch=4), images, labels)
    standing = ~result.success
    assert (result.forwards[standing] == 1 + 11 + (classes - 1) * 11).all()
    assert plain(attack)["attacks"] == "apgd:loss=dlr,steps=10+apgd-t:steps=10"
