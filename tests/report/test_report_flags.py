"""Every red flag, raised by rows made for it, and none raised by a sound run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_run import job, write_run

from blindspots.evaluation.flags import Flag, red_flags
from blindspots.evaluation.run import Run

COUNT = 40
LABELS = [place % 4 for place in range(COUNT)]
FGSM = job("01-fgsm-linf-0.1", "fgsm", 0.1, steps=1)
PGD = job("02-pgd-linf-0.1", "pgd", 0.1)
FAR = job("03-pgd-linf-0.2", "pgd", 0.2)
NOISE = job("00-uniform-linf-0.1", "uniform", 0.1, steps=1, control=True)


def first(count: int, start: int = 0) -> list[bool]:
    return [start <= place < start + count for place in range(COUNT)]


def flags(path: Path, *jobs: tuple[dict[str, Any], dict[str, Any]], predictions: Any = None, **more: Any) -> list[Flag]:
    labels = more.pop("labels", LABELS)
    answers = labels if predictions is None else predictions
    run = Run(write_run(path / "run", labels, answers, list(jobs), shard=50, **more))
    return red_flags(run, {name: run.verdicts(name) for name in run.job_ids})


def codes(found: list[Flag]) -> list[tuple[str, str]]:
    return [(flag["code"], flag["severity"]) for flag in found]


def test_a_sound_run_raises_none(tmp_path: Path) -> None:
    jobs = [
        (NOISE, {"success": first(1)}),
        (FGSM, {"success": first(10)}),
        (PGD, {"success": first(20)}),
        (FAR, {"success": first(35)}),
    ]
    assert flags(tmp_path, *jobs) == []


def test_probes_come_first_as_they_are(tmp_path: Path) -> None:
    probe = {"code": "random-output", "severity": "error", "title": "t", "text": "x", "job": None}
    found = flags(tmp_path, (PGD, {"success": first(1), "bad_gradients": [1] * COUNT}), probes=[probe])
    assert found[0] == probe
    assert codes(found)[1:] == [("bad-gradients", "error")]


@pytest.mark.parametrize(
    ("blind", "expected"), [(1, []), (4, [("zero-gradients", "warning")]), (20, [("zero-gradients", "error")])]
)
def test_zero_gradients(tmp_path: Path, blind: int, expected: list[tuple[str, str]]) -> None:
    found = flags(tmp_path, (PGD, {"success": first(2), "zero_gradients": np.array(first(blind)) * 3}))
    assert codes(found) == expected
    if found:
        assert found[0]["job"] == PGD["id"]
        assert f"{blind} of 40 attacked images" in found[0]["text"]


def test_attacks_that_could_not_begin(tmp_path: Path) -> None:
    found = flags(tmp_path, (PGD, {"success": first(2), "unstarted": first(3)}))
    assert codes(found) == [("no-start", "warning")]
    assert "3 of 40 attacked images" in found[0]["text"]


def test_one_step_beats_many(tmp_path: Path) -> None:
    found = flags(tmp_path, (FGSM, {"success": first(8)}), (PGD, {"success": first(5)}))
    assert codes(found) == [("one-step-beats-many", "error")]
    assert "fools 3 of 40 attacked images (7.5%) that 02-pgd-linf-0.1 misses" in found[0]["text"]
    assert codes(flags(tmp_path / "b", (FGSM, {"success": first(8)}), (PGD, {"success": first(20, 3)}))) == [
        ("one-step-beats-many", "warning")  # fewer in all, but three that many steps miss
    ]
    one = flags(tmp_path / "c", (FGSM, {"success": first(8)}), (PGD, {"success": first(20, 1)}))
    assert codes(one) == [("one-step-beats-many", "info")]


def test_budgets_that_differ_are_not_compared(tmp_path: Path) -> None:
    l2 = {**PGD, "norm": "l2", "id": "02-pgd-l2-0.1"}
    targeted = {**PGD, "targets": "random", "id": "03-pgd-random"}
    jobs = [(FGSM, {"success": first(8)}), (l2, {"success": first(5)}), (targeted, {"success": first(1)})]
    assert flags(tmp_path, *jobs) == []


def test_noise_beats_gradients(tmp_path: Path) -> None:
    found = flags(
        tmp_path, (NOISE, {"success": first(9)}), (PGD, {"success": first(4)}), (FGSM, {"success": first(2, 3)})
    )
    assert ("noise-beats-gradients", "error") in codes(found)
    flag = next(flag for flag in found if flag["code"] == "noise-beats-gradients")
    assert "fools 4 of 40" in flag["text"]
    assert "02-pgd-linf-0.1, 01-fgsm-linf-0.1 all miss" in flag["text"]


def test_noise_alone_is_no_flag(tmp_path: Path) -> None:
    assert flags(tmp_path, (NOISE, {"success": first(9)})) == []


def test_accuracy_rises_with_the_radius(tmp_path: Path) -> None:
    found = flags(tmp_path, (PGD, {"success": first(9)}), (FAR, {"success": first(4)}))
    assert codes(found) == [("accuracy-rises", "warning")]
    assert found[0]["job"] == FAR["id"]
    other = {**FAR, "settings": {"radius": "0.2", "objective": "margin"}}
    assert flags(tmp_path / "b", (PGD, {"success": first(9)}), (other, {"success": first(4)})) == []


def test_a_model_that_guesses(tmp_path: Path) -> None:
    predictions = [(label + (place // 4)) % 4 for place, label in enumerate(LABELS)]  # right every fourth time
    found = flags(tmp_path, (PGD, {"success": first(40)}), predictions=predictions)
    assert codes(found) == [("no-model", "error")]
    assert "12 of 40 images are right, where guessing among 4 classes gives 25.0%" in found[0]["text"]


def test_one_class_whatever_it_sees(tmp_path: Path) -> None:
    found = flags(tmp_path, (PGD, {"success": first(0)}), predictions=[1] * 39 + [3])
    assert ("one-class", "error") in codes(found)
    assert ("constant-output", "error") not in codes(found), "the confidences differ"


def test_constant_output_and_nothing_attacked(tmp_path: Path) -> None:
    answer: dict[str, Any] = {"predictions": [3] * 30, "confidence": [0.25] * 30, "margin": [-0.5] * 30}
    found = flags(tmp_path, (PGD, {"success": [0] * 30}), labels=[0, 1, 2] * 10, **answer)
    assert {code for code, _ in codes(found)} == {"no-model", "one-class", "constant-output", "nothing-attacked"}
    assert {severity for _, severity in codes(found)} == {"error"}


def test_too_few_images_is_not_called_no_model(tmp_path: Path) -> None:
    found = flags(tmp_path, (PGD, {"success": [1, 0]}), labels=[0, 1])
    assert codes(found) == [("too-few-images", "warning")]


def test_ties_are_only_a_note(tmp_path: Path) -> None:
    margins = np.where(first(2), 0.0, -1.0)
    found = flags(tmp_path, (PGD, {"success": first(6), "margin": margins}))
    assert codes(found) == [("tied-success", "info")]
    assert "2 of 6 successes" in found[0]["text"]


def test_every_flag_says_what_was_seen_and_what_to_do(tmp_path: Path) -> None:
    jobs = [
        (NOISE, {"success": first(9)}),
        (FGSM, {"success": first(8), "zero_gradients": [1] * COUNT}),
        (PGD, {"success": first(5), "bad_gradients": [1] * COUNT}),
        (FAR, {"success": first(2)}),
    ]
    found = flags(tmp_path, *jobs)
    assert {code for code, _ in codes(found)} >= {
        "zero-gradients",
        "bad-gradients",
        "one-step-beats-many",
        "noise-beats-gradients",
        "accuracy-rises",
    }
    for flag in found:
        assert set(flag) == {"code", "severity", "title", "text", "job"}
        assert flag["text"].count(". ") >= 1, "what was seen, then what it means"
        assert any(character.isdigit() for character in flag["text"])
