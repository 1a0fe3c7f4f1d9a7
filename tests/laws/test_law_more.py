"""Law 3: more never hurts. Exact where the points of the smaller attack are among those of the larger one."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import pytest
from law_table import CASES, RADII, Case, build

from blindspots import Budget
from blindspots.attacks import ATTACKS

# Attack, field, settings that keep the points nested, and the growing values: the points judged with a smaller value
# are
# the first of those judged with a larger one, so no success can be lost.
NESTED: list[tuple[str, str, dict[str, Any], tuple[int, ...]]] = [
    ("uniform-noise", "draws", {}, (1, 2, 5, 9)),
    ("gaussian-noise", "draws", {}, (1, 2, 5, 9)),
    ("bim", "steps", {"step_size": 0.01}, (1, 3, 6)),
    ("mifgsm", "steps", {"step_size": 0.01}, (1, 3, 6)),
    ("pgd", "steps", {"step_size": 0.01, "restarts": 1}, (1, 3, 8)),
    ("pgd", "restarts", {"steps": 3}, (1, 2, 5)),
    ("apgd", "restarts", {"steps": 3}, (1, 2, 5)),
    ("apgd-t", "restarts", {"steps": 3}, (1, 2, 4)),
    ("apgd-t", "rivals", {}, (1, 2, 9)),
    ("apgd-nearest", "rivals", {}, (1, 2, 9)),
    ("fast", "rivals", {}, (1, 2, 9)),
    ("pgd", "rivals", {"restarts": 1, "steps": 3}, (1, 2, 9)),
    ("bisected-pgd", "rounds", {}, (0, 1, 3, 5)),
    ("szegedy", "steps", {"polish": 0}, (1, 3, 8)),
    ("szegedy", "rounds", {"polish": 0}, (0, 1, 3)),
    ("legacy-l1", "steps", {}, (1, 4, 12)),
    ("stadv", "steps", {}, (1, 3, 8)),
    ("deepfool", "steps", {}, (1, 2, 6)),
    ("cw", "rounds", {"polish": 0}, (1, 2, 4)),
    ("ead", "rounds", {"polish": 0}, (1, 2, 4)),
    ("fab", "steps", {}, (1, 2, 5)),
    ("fab", "restarts", {"polish": 0}, (1, 2, 4)),
    ("brendel-bethge", "steps", {}, (1, 4, 12)),
    ("brendel-bethge", "draws", {}, (0, 1, 5)),
    ("brendel-bethge", "restarts", {"polish": 0}, (0, 1, 3)),
    ("stadv", "halvings", {}, (0, 1, 3)),
    ("stadv", "restarts", {}, (0, 1, 2)),
    ("affine", "steps", {"solver": "random"}, (1, 4, 12)),
    ("affine", "steps", {"solver": "gradient", "step_size": 0.05}, (1, 3, 8)),
    ("affine", "restarts", {"solver": "gradient", "steps": 3}, (1, 2, 5)),
    ("flow-ball", "steps", {"step_size": 0.01, "restarts": 1}, (1, 3, 8)),
    ("flow-ball", "restarts", {"steps": 3}, (1, 2, 5)),
    ("simba", "queries", {}, (3, 8, 30)),
    ("boundary", "queries", {}, (3, 20, 60)),
    ("boundary", "draws", {}, (0, 1, 5)),
    ("hopskipjump", "queries", {}, (3, 30, 90)),
    ("hopskipjump", "draws", {}, (0, 1, 5)),
    ("geoda", "queries", {}, (3, 30, 90)),
    ("geoda", "draws", {}, (0, 1, 5)),
    ("nes", "queries", {}, (3, 20, 60)),
    ("spsa", "queries", {}, (3, 20, 60)),
    ("style", "draws", {}, (1, 2, 3)),
]
# Fields of which more means a longer search; an attack that has one must be in NESTED with it.
LONGER = {"steps", "restarts", "draws", "rounds", "halvings", "rivals", "queries"}
# steps set the size of each step there, or its checkpoints, or how fast the steps shrink, and queries of square the
# schedule, so the points are not nested.
NOT_NESTED = {(name, "steps") for name in ("bisected-pgd", "apgd", "apgd-t", "autoattack", "apgd-nearest", "fast")}
NOT_NESTED |= {(name, "steps") for name in ("ddn", "fmn", "cw", "ead", "pdpgd", "sigma-zero")}
NOT_NESTED |= {("square", "queries"), ("autoattack", "queries")}
# More boundaries that are looked at lead another way.
NOT_NESTED |= {("deepfool", "rivals"), ("fab", "rivals")}


def test_every_field_that_lengthens_a_search_is_covered() -> None:
    present = {(n, f.name) for n, kind in ATTACKS.items() for f in dataclasses.fields(kind) if f.name in LONGER}
    assert present == {(name, field) for name, field, _, _ in NESTED} | NOT_NESTED


@pytest.mark.parametrize("targets", [None, "random"])
@pytest.mark.parametrize(("name", "field", "settings", "values"), NESTED, ids=lambda v: v if isinstance(v, str) else "")
def test_a_longer_search_keeps_every_success(victim, name, field, settings, values, targets) -> None:
    """True by construction, image by image: the shorter search is a prefix of the longer one."""
    for norm in ATTACKS[name].norms:
        before = None
        for value in values:
            result = build(name, norm, **{**settings, field: value})(
                victim.classifier(), victim.images, victim.labels, index=victim.index, targets=targets
            )
            if before is not None:
                assert not (before.success & ~result.success).any()
                if field == "rounds":
                    assert (result.size[norm] <= before.size[norm])[before.success].all()
                assert (result.forwards >= before.forwards)[~result.success].all()
            before = result


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_larger_budget_keeps_every_success(victim, case: Case) -> None:
    """True by construction: a budget cuts the search of an image off and changes nothing before the cut."""
    before = None
    for forwards in (2, 4, 9, None):
        result = case.attack(
            victim.classifier(),
            victim.images,
            victim.labels,
            index=victim.index,
            targets=case.targets,
            budget=Budget(forwards=forwards),
        )
        if before is not None:
            assert not (before & ~result.success).any()
        before = result.success


@pytest.mark.parametrize("case", [c for c in CASES if not ATTACKS[c.attack.name].control], ids=str)
def test_a_larger_radius_fools_at_least_as_many(victim, case: Case) -> None:
    """Not true by construction (other steps, other points): a statistic on this fixed victim, with one image of
    tolerance between neighbouring radii, and all radii far enough apart for it to hold."""
    counts = []
    for factor in (0.0, 0.25, 1.0, 4.0):
        attack = dataclasses.replace(case.attack, radius=RADII[case.norm] * factor)
        result = attack(victim.classifier(), victim.images, victim.labels, index=victim.index, targets=case.targets)
        counts.append(int(result.success.sum()))
    assert all(b >= a - 1 for a, b in pairwise(counts)), counts
    assert counts[0] == (int(victim.wrong.sum()) if case.targets is None else counts[0])
    assert counts[-1] > counts[0]


@pytest.mark.parametrize("case", [c for c in CASES if c.targets is None], ids=str)
def test_radius_zero_changes_nothing(victim, case: Case) -> None:
    attack = dataclasses.replace(case.attack, radius=0)
    result = attack(victim.classifier(), victim.images, victim.labels, index=victim.index)
    assert (result.images == victim.images).all()
    assert (result.success == victim.wrong).all()
