from __future__ import annotations

import pytest
import torch
from law_table import CASES, SETTINGS

from blindspots.attacks import ATTACKS


def test_every_attack_has_settings_in_the_table() -> None:
    assert set(SETTINGS) == set(ATTACKS), "enter the attack in SETTINGS of law_table.py, with small settings"


def test_every_attack_and_norm_is_a_case() -> None:
    offered = {(name, norm) for name, kind in ATTACKS.items() for norm in kind.norms}
    assert {(case.attack.name, case.norm) for case in CASES if case.targets is None} == offered
    assert {(case.attack.name, case.norm) for case in CASES if case.targets} == offered


def test_case_names_are_unique() -> None:
    names = [str(case) for case in CASES]
    assert len(set(names)) == len(names)


def test_the_victim_puts_the_laws_to_the_test(victim) -> None:
    """Some images are wrong from the start, some fall early, some late, some never: else the laws would be idle."""
    from law_table import build

    result = build("pgd", "linf", restarts=1, random_start=False, steps=10)(
        victim.classifier(), victim.images, victim.labels
    )
    assert victim.wrong.nonzero().squeeze(1).tolist() == [2, 9]
    steps = result.steps[result.success & ~victim.wrong]
    assert len(steps.unique()) >= 3
    assert 2 <= int((~result.success).sum()) <= 9
    assert torch.equal(result.steps[~result.success], torch.full((int((~result.success).sum()),), 10))


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_describe_themselves(name: str) -> None:
    kind = ATTACKS[name]
    assert kind.name == name
    assert kind.summary
    assert set(kind.norms) <= {"linf", "l2", "l1", "l0", "flow", "affine", "flow-linf", "style"}
    assert kind.__doc__
