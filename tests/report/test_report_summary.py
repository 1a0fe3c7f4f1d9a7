"""The statistics of a run of ten images, against numbers computed on paper."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report_run import job, write_run
from scipy.stats import beta, binomtest

from blindspots.evaluation.intervals import at_least, clopper_pearson
from blindspots.evaluation.run import Run
from blindspots.evaluation.summary import job_labels, seconds, summarise

LABELS = [0, 0, 0, 1, 1, 1, 2, 2, 2, 2]
PREDICTIONS = [0, 0, 0, 2, 1, 1, 2, 2, 2, 0]  # images 3 and 9 are wrong without attack


def hits(*places: int) -> list[bool]:
    return [place in places for place in range(10)]


def ten_images(path: Path) -> Path:
    sizes = [float("nan") if place in (3, 9) else 0.01 * (place + 1) for place in range(10)]
    jobs = [
        (
            job("00-uniform-linf-0.1", "uniform", 0.1, control=True, steps=1),
            {"success": hits(0), "backwards": [0] * 10},
        ),
        (job("01-fgsm-linf-0.1", "fgsm", 0.1, steps=1), {"success": hits(0, 1, 4)}),
        (job("02-pgd-linf-0.1", "pgd", 0.1), {"success": hits(0, 1, 4, 5, 6), "size_l2": sizes}),
        (job("03-pgd-linf-0.2", "pgd", 0.2), {"success": hits(0, 2, 4, 5, 6)}),
        (job("04-pgd-l2-1", "pgd", 1.0, norm="l2"), {"success": hits(7)}),
    ]
    return write_run(path, LABELS, PREDICTIONS, jobs)


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return summarise(Run(ten_images(tmp_path_factory.mktemp("summary") / "run")))


def test_clean_accuracy(summary: dict[str, Any]) -> None:
    ends = binomtest(8, 10).proportion_ci(0.95, "exact")
    expected = {"count": 8, "of": 10, "value": 0.8, "low": pytest.approx(ends.low), "high": pytest.approx(ends.high)}
    assert summary["clean"] == expected


def test_clean_mistakes_count_as_fooled_and_are_credited_to_no_attack(summary: dict[str, Any]) -> None:
    pgd = summary["jobs"][2]
    assert (pgd["robust"]["count"], pgd["robust"]["of"]) == (3, 10)
    assert (pgd["success"]["count"], pgd["success"]["of"]) == (5, 8)


def test_sizes_are_of_successes_only(summary: dict[str, Any]) -> None:
    sizes = summary["jobs"][2]["sizes"]["l2"]  # of images 0, 1, 4, 5, 6: 0.01, 0.02, 0.05, 0.06, 0.07
    assert sizes == {"median": pytest.approx(0.05), "mean": pytest.approx(0.042), "p90": pytest.approx(0.066)}


def test_cost_is_of_attacked_images(summary: dict[str, Any]) -> None:
    assert summary["jobs"][2]["forwards"] == {"total": 80, "mean": 10.0, "max": 10}
    assert summary["jobs"][0]["backwards"] == {"total": 0, "mean": 0.0, "max": 0}
    assert summary["model_calls"] == {"forwards": 8 + 8 + 80 * 3, "backwards": 8 + 80 * 3}


def test_worst_case_joins_all_attacks_within_the_radius(summary: dict[str, Any]) -> None:
    seen = [(point["norm"], point["radius"], point["robust"]["count"]) for point in summary["worst"]]
    # 0, 1, 4, 5, 6 at 0.1; 2 besides at 0.2, where image 1 stays fooled though pgd at 0.2 missed it
    assert seen == [("linf", 0.1, 3), ("linf", 0.2, 2), ("l2", 1.0, 7)]
    assert summary["worst"][1]["smaller_only"] == 1


def test_credits(summary: dict[str, Any]) -> None:
    credits = summary["worst"][0]["credits"]
    assert [(c["fooled"], c["first"], c["cheapest"], c["unique"]) for c in credits] == [
        (1, 1, 1, 0),  # noise took image 0 with one forward and no backward
        (3, 2, 2, 0),
        (5, 2, 2, 2),
    ]


def test_who_fooled_whom(summary: dict[str, Any]) -> None:
    assert summary["pairs"]["missed"] == [
        [0, 0, 0, 0, 1],
        [2, 0, 0, 1, 3],
        [4, 2, 0, 1, 5],
        [4, 3, 1, 0, 5],
        [1, 1, 1, 1, 0],
    ]
    assert summary["pairs"]["unique"] == [0, 0, 0, 1, 1]


def test_classes(summary: dict[str, Any]) -> None:
    rows = [
        (
            entry["name"],
            entry["count"],
            entry["clean"]["count"],
            [point["robust"]["count"] for point in entry["robust"]],
        )
        for entry in summary["classes"]
    ]
    assert rows == [("c0", 3, 3, [1, 0, 3]), ("c1", 3, 2, [0, 0, 2]), ("c2", 4, 3, [2, 2, 2])]


def test_confusion_is_of_turned_images_only(summary: dict[str, Any]) -> None:
    linf, l2 = summary["confusion"]
    assert (linf["norm"], linf["radius"], l2["norm"]) == ("linf", 0.2, "l2")
    pairs = [(pair["label"], pair["prediction"], pair["count"]) for pair in linf["pairs"]]
    assert pairs == [(0, 1, 3), (1, 2, 2), (2, 0, 1)]


def test_targeted_rows(tmp_path: Path) -> None:
    rows = {"place": [0, 0, 1, 1, 2, 2], "success": [1, 1, 0, 1, 0, 0], "target": [1, 2, 0, 2, 0, 1]}
    entry = job("00-pgd-linf-0.1", "pgd", 0.1, targets="all")
    found = summarise(Run(write_run(tmp_path / "run", [0, 1, 2], [0, 1, 1], [(entry, rows)])))["jobs"][0]
    assert (found["targets_reached"]["count"], found["targets_reached"]["of"]) == (3, 4), "image 2 was not attacked"
    assert (found["success"]["count"], found["success"]["of"]) == (2, 2)
    assert found["robust"]["count"] == 0


def test_summary_is_json_and_repeatable(tmp_path: Path) -> None:
    first, second = (summarise(Run(ten_images(tmp_path / name))) for name in ("one", "two"))
    assert json.dumps(first, allow_nan=False) == json.dumps(second, allow_nan=False)
    assert "seconds" not in json.dumps(first), "times would make identical runs differ"


def test_seconds(tmp_path: Path) -> None:
    times = seconds(Run(ten_images(tmp_path / "run")))
    assert times["jobs"]["clean"] == 0.75
    assert times["total"] == 0.75 + 5 * 4.5


def test_labels_name_settings_only_where_they_tell_jobs_apart() -> None:
    jobs = [
        job("a", "pgd", 0.1, settings={"radius": "0.1", "steps": 10, "seed": 0}),
        job("b", "pgd", 0.1, settings={"radius": "0.1", "steps": 40, "seed": 0}),
        job("c", "fgsm", 0.1, targets="random"),
    ]
    assert [names["label"] for names in job_labels(jobs).values()] == [
        "pgd (steps 10), linf 0.1",
        "pgd (steps 40), linf 0.1",
        "fgsm (targets random), linf 0.1",
    ]


@pytest.mark.parametrize(("count", "of"), [(0, 1), (0, 10), (10, 10), (3, 10), (484, 500), (9999, 10000)])
def test_interval_equals_the_exact_one(count: int, of: int) -> None:
    ends = binomtest(count, of).proportion_ci(0.95, "exact")
    assert clopper_pearson(count, of) == pytest.approx((ends.low, ends.high), abs=1e-12)


def test_interval_at_the_ends_has_a_closed_form() -> None:
    assert clopper_pearson(0, 20) == pytest.approx((0, 1 - 0.025 ** (1 / 20)))
    assert clopper_pearson(20, 20) == pytest.approx((0.025 ** (1 / 20), 1))
    assert clopper_pearson(0, 0) == (0.0, 1.0)
    assert clopper_pearson(7, 20, level=0.9)[0] == pytest.approx(beta.ppf(0.05, 7, 14))


def test_chance_equals_the_binomial_tail() -> None:
    expected = binomtest(13, 100, 0.1, alternative="greater").pvalue
    assert at_least(13, 100, 0.1) == pytest.approx(expected)
    assert at_least(0, 100, 0.1) == 1.0
