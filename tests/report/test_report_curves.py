"""Searches for the smallest change in the report: the curve, the table at every radius, and where attacks disagree."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_run import job, write_run
from rich.console import Console
from scipy.stats import binomtest

from blindspots.evaluation.run import Run
from blindspots.evaluation.summary import summarise
from blindspots.report import print_summary, write_report
from blindspots.report.figures import curves

COUNT = 40
LABELS = [place % 4 for place in range(COUNT)]
SIZES = 0.01 * (np.arange(COUNT) + 1)  # image k falls at 0.01 (k + 1)
FMN = job("00-fmn-linf-0.3", "fmn", 0.3, radii=["0.1", "0.2", "0.3"])
FEW = job("01-pgd-linf-0.1", "pgd", 0.1)
PGD = job("02-pgd-linf-0.2", "pgd", 0.2)
SQUARE = job("03-square-linf-0.2", "square", 0.2, knowledge="scores", steps=5000)


def first(count: int, start: int = 0) -> list[bool]:
    return [start <= place < start + count for place in range(COUNT)]


def smallest(until: int = 30, sizes: Any = SIZES) -> dict[str, Any]:
    return {"success": first(until), "size_linf": sizes}


def run_of(path: Path, *jobs: tuple[dict[str, Any], dict[str, Any]]) -> Run:
    return Run(write_run(path / "run", LABELS, LABELS, list(jobs), shard=50))


def disagreements(path: Path, *jobs: tuple[dict[str, Any], dict[str, Any]]) -> list[dict[str, Any]]:
    return [flag for flag in summarise(run_of(path, *jobs))["flags"] if flag["code"] == "attacks-disagree"]


def test_robust_accuracy_at_every_radius_follows_from_the_sizes(tmp_path: Path) -> None:
    summary = summarise(run_of(tmp_path, (FMN, smallest()), (PGD, {"success": first(25)})))
    counts = {point["radius"]: [c["robust"]["count"] for c in point["credits"]] for point in summary["worst"]}
    assert counts == {0.1: [30], 0.2: [20, 15], 0.3: [10]}
    assert [point["robust"]["count"] for point in summary["worst"]] == [30, 15, 10]
    assert [point["jobs"] for point in summary["worst"]][2] == [FMN["id"], PGD["id"]]
    assert summary["jobs"][0]["curve"][:3] == [(0.0, 40), (0.01, 39), (0.02, 38)]
    assert summary["jobs"][0]["curve"][-1] == (pytest.approx(0.3), 10)
    worst = summary["curves"][0]["curve"]
    assert next(right for radius, right in worst if radius >= 0.199) == 15
    assert min(right for _, right in worst) == 10
    assert summary["worst"][1]["credits"][1]["missed"] == [5, 0]


def test_a_radius_of_another_attack_has_a_row_too(tmp_path: Path) -> None:
    single = job("00-fmn-linf-0.3", "fmn", 0.3, radii=["0.3"])
    summary = summarise(run_of(tmp_path, (single, smallest()), (FEW, {"success": first(4)})))
    assert [(p["radius"], [c["job"] for c in p["credits"]]) for p in summary["worst"]] == [
        (0.1, [single["id"], FEW["id"]]),
        (0.3, [single["id"]]),
    ]
    assert summary["worst"][0]["robust"]["count"] == 30


def test_page_and_terminal_show_every_radius(tmp_path: Path) -> None:
    run = run_of(tmp_path, (FMN, smallest()), (PGD, {"success": first(20)}))
    summary = summarise(run)
    page = write_report(run, summary, tmp_path / "r.html").read_text(encoding="utf-8")
    text = re.sub(r"[ \n]+", " ", re.sub(r"<[^>]+>", " ", page))
    for radius, percent in (("0.1", "75.0"), ("0.2", "50.0"), ("0.3", "25.0")):
        assert re.search(rf"fmn linf {radius} {percent}\u202f%", text)
    assert "A line of steps is an attack that looks for the smallest change" in text
    assert "fmn, linf up to 0.3" in text
    written = io.StringIO()
    print_summary(run, summary, Console(file=written, width=120))
    assert re.search(r"linf 0\.1\s+75\.0\u202f%", written.getvalue())
    assert re.search(r"fmn, linf up to 0\.3\s+25\.0\u202f%", written.getvalue())


def test_the_curve_is_drawn_in_steps(tmp_path: Path) -> None:
    plain = curves(summarise(run_of(tmp_path / "a", (PGD, {"success": first(20)}))), "linf", wide=True)
    drawn = curves(summarise(run_of(tmp_path / "b", (FMN, smallest()))), "linf", wide=True)

    def corners(svg: str) -> int:
        return max(len(re.findall(r"\bL ", path)) for path in re.findall(r' d="([^"]+)"', svg))

    assert corners(drawn) > 55, "two corners for each of thirty steps"
    assert corners(plain) < 10


def test_equal_attacks_raise_nothing(tmp_path: Path) -> None:
    assert disagreements(tmp_path, (FMN, smallest()), (PGD, {"success": first(20)})) == []


def test_a_weak_search_for_the_smallest_change_is_named(tmp_path: Path) -> None:
    (flag,) = disagreements(tmp_path, (FMN, smallest(sizes=SIZES * 2)), (PGD, {"success": first(20)}))
    assert (flag["severity"], flag["job"]) == ("warning", FMN["id"])
    assert "02-pgd-linf-0.2 fools 10 of 40 attacked images that 00-fmn-linf-0.3 misses, and misses none" in flag["text"]
    assert "fmn is the weak one here" in flag["text"]
    assert "its curve is too high" in flag["text"]


def test_a_weak_attack_within_a_radius_is_named(tmp_path: Path) -> None:
    (flag,) = disagreements(tmp_path, (FMN, smallest()), (PGD, {"success": first(11)}))
    assert (flag["severity"], flag["job"]) == ("warning", PGD["id"])
    assert "pgd is the weak one here" in flag["text"]
    assert "lies within its radius, and it did not find it" in flag["text"]


@pytest.mark.parametrize("missed", [1, 5, 6])
def test_what_chance_explains_is_a_note(tmp_path: Path, missed: int) -> None:
    (flag,) = disagreements(tmp_path, (FMN, smallest()), (PGD, {"success": first(20 - missed)}))
    sure = binomtest(missed, missed, 0.5).pvalue <= 0.05
    assert flag["severity"] == ("warning" if sure else "info")
    assert sure == (missed == 6)


def test_of_several_radii_the_one_of_most_difference_is_told(tmp_path: Path) -> None:
    flags = disagreements(tmp_path, (FMN, smallest()), (FEW, {"success": first(9)}), (PGD, {"success": first(8)}))
    assert len(flags) == 1
    assert "Within linf 0.2" in flags[0]["text"]


def test_an_attack_that_knows_less_may_find_less(tmp_path: Path) -> None:
    assert disagreements(tmp_path / "a", (FMN, smallest()), (SQUARE, {"success": first(5)})) == []
    (flag,) = disagreements(tmp_path / "b", (FMN, smallest(10)), (SQUARE, {"success": first(20)}))
    assert "fmn is the weak one" in flag["text"]


def test_without_gradients_more_than_with(tmp_path: Path) -> None:
    flags = summarise(run_of(tmp_path, (PGD, {"success": first(5)}), (SQUARE, {"success": first(15)})))["flags"]
    assert [(flag["code"], flag["severity"]) for flag in flags] == [("blind-beats-gradients", "error")]
    reverse = summarise(run_of(tmp_path / "b", (PGD, {"success": first(15)}), (SQUARE, {"success": first(5)})))
    assert reverse["flags"] == []


def test_what_was_taken_over_is_credited_with_the_calls_that_found_it(tmp_path: Path) -> None:
    over = {**PGD, "carries": FEW["id"]}
    other = job("04-apgd-linf-0.2", "apgd", 0.2)
    jobs = [
        (FEW, {"success": first(10), "forwards": [6] * COUNT}),
        (over, {"success": first(20), "carried": first(10), "forwards": [0] * 10 + [6] * 30}),
        (other, {"success": first(20), "forwards": [3] * COUNT}),
    ]
    summary = summarise(run_of(tmp_path, *jobs))
    assert [job.get("carried") for job in summary["jobs"]] == [None, 10, None]
    assert [credit["cheapest"] for credit in summary["worst"][1]["credits"]] == [0, 20]
