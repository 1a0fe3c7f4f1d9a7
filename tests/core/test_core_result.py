"""The result: rows in the order given, traces, joining of populations, devices."""

from __future__ import annotations

import pytest
import torch

from blindspots import PGD, Result


def attack(victim, **call) -> Result:
    return PGD(0.04, steps=4, restarts=2)(victim.classifier(), victim.images, victim.labels, index=victim.index, **call)


def test_fields_have_one_row_an_image(victim) -> None:
    result = attack(victim)
    assert len(result) == 13
    for name, value in vars(result).items():
        if isinstance(value, torch.Tensor):
            assert len(value) == 13, name
    assert set(result.size) == {"linf", "l2", "l1", "l0"}
    assert result.targets is None
    assert torch.equal(result.labels, victim.labels)
    assert torch.equal(result.index, victim.index)
    assert result.trace == ()


def test_traces_join_and_say_what_was_not_asked(victim) -> None:
    whole, parts = attack(victim, trace=True), attack(victim, trace=True, population=5)
    assert len(whole.trace) == len(parts.trace) > 4
    for one, two in zip(whole.trace, parts.trace, strict=True):
        for key in one:
            torch.testing.assert_close(one[key], two[key], rtol=1e-9, atol=1e-12, equal_nan=True)
    asked = torch.stack([torch.isfinite(entry["loss"]) for entry in whole.trace]).sum(0)
    verified = whole.success.long()
    assert torch.equal(asked, whole.forwards - verified), "every charged query has an entry"
    sizes = torch.stack([entry["size"] for entry in whole.trace]).nan_to_num()
    assert sizes.max() <= 0.04 * (1 + 1e-6)


def test_a_trace_changes_nothing(victim) -> None:
    assert torch.equal(attack(victim).images, attack(victim, trace=True).images)


def test_to_moves_everything(victim) -> None:
    result = attack(victim, trace=True).to("cpu")
    assert isinstance(result, Result)
    assert torch.equal(result.images, attack(victim).images)
    assert len(result.trace) > 4


def test_a_result_prints_in_one_line(victim) -> None:
    text = repr(attack(victim))
    assert "\n" not in text
    assert "of 13 reached the goal, 2 were wrong before" in text
    assert "flags: none" in text


@pytest.mark.parametrize("targets", ["random", "least-likely", "second", 3])
def test_targets_are_reported(victim, targets) -> None:
    chosen = victim.labels != 3 if targets == 3 else torch.ones(13, dtype=torch.bool)
    result = PGD(0.2, steps=10)(
        victim.classifier(), victim.images[chosen], victim.labels[chosen], targets=targets, index=victim.index[chosen]
    )
    assert (result.targets != result.labels).all()
    assert torch.equal(result.success, result.prediction == result.targets)
    assert result.success.any()


def test_predicted_labels_are_those_of_the_model(victim) -> None:
    result = PGD(0.04)(victim.classifier(), victim.images, "predicted")
    assert torch.equal(result.labels, victim.module()(victim.images).argmax(1))
    assert result.clean_correct.all()
