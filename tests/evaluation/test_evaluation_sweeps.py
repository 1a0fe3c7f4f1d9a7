"""Several radii: one run of a search for the smallest change answers for all, other attacks take successes over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_victim import images, victim

import blindspots as bs
from blindspots.evaluation import plan
from blindspots.evaluation.curves import STEPS, at_every_radius, smallest_curve
from blindspots.evaluation.defaults import default_attacks
from blindspots.evaluation.jobs import describe_jobs, in_turn, plan_jobs
from blindspots.evaluation.run import Run
from blindspots.evaluation.summary import summarise

COUNT = 60
RADII = ("0.02", "0.05", "0.1")
SPENT = ("forwards", "backwards", "steps", "zero_gradients", "bad_gradients")


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "SHARD_IMAGES", 25)


def evaluated(out: Path, attacks: list[Any], **settings: Any) -> Run:
    return bs.evaluate(victim(), images(COUNT), attacks, out=out, **{"batch": 8, **settings})


def sweep(radii: tuple[str, ...] = RADII) -> list[Any]:
    return [bs.PGD(radius, steps=4) for radius in radii]


def smallest() -> list[Any]:
    return [bs.FMN(radius, "linf", steps=6) for radius in RADII]


def by_radius(run: Run) -> dict[float, dict[str, np.ndarray]]:
    return {
        job["radius"]: {name: rows[name].to_numpy() for name in rows.column_names}
        for job in run.jobs
        for rows in [run.rows(job["id"])]
    }


def files(path: Path) -> dict[str, bytes]:
    """What equal runs have in common, byte for byte."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for folder in ("clean", "images", "jobs")
        for file in sorted((path / folder).rglob("*"))
        if file.is_file() and not file.name.startswith(".")
    }


def test_what_is_fooled_within_a_radius_is_taken_over_at_no_cost(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run", sweep())
    assert "carries" not in run.jobs[0]
    assert "carried" not in run.rows(run.job_ids[0]).column_names
    for small, large in zip(run.jobs, run.jobs[1:], strict=False):
        assert large["carries"] == small["id"]
        before, after = run.rows(small["id"]).to_pydict(), run.rows(large["id"]).to_pydict()
        assert after["carried"] == before["success"]
        assert 0 < sum(after["carried"]) < sum(after["success"])
        numbers = [i for i, over in zip(after["index"], after["carried"], strict=True) if over]
        for name in before.keys() - {*SPENT, "carried"}:
            assert [after[name][i] for i in numbers] == [before[name][i] for i in numbers], name
        assert not any(after[name][i] for name in SPENT for i in numbers)
        ours, theirs = run.images(large["id"], numbers), run.images(small["id"], numbers)
        assert all(torch.equal(ours[i], theirs[i]) for i in numbers)
    summary = summarise(run)
    assert [job.get("carried") for job in summary["jobs"]] == [
        None, *(summary["jobs"][k]["success"]["count"] for k in (0, 1)),
    ]  # fmt: skip
    assert "taken over" in (run.path / "report.html").read_text()


def test_what_is_left_is_attacked_as_it_would_be_alone(tmp_path: Path) -> None:
    run, alone = evaluated(tmp_path / "run", sweep()), evaluated(tmp_path / "alone", sweep(RADII[2:]))
    assert "carries" not in alone.jobs[0]
    ours, theirs = by_radius(run)[0.1], by_radius(alone)[0.1]
    left = ~ours["carried"]
    for name in theirs:
        assert np.array_equal(ours[name][left], theirs[name][left], equal_nan=name.startswith("size_")), name
    assert (theirs["success"] <= ours["success"]).all()


def test_the_order_of_the_radii_changes_nothing(tmp_path: Path) -> None:
    up, down = evaluated(tmp_path / "up", sweep()), evaluated(tmp_path / "down", sweep(RADII[::-1]))
    assert [job["radius_text"] for job in down.jobs] == list(RADII[::-1])
    ours, theirs = by_radius(up), by_radius(down)
    for radius, found in ours.items():
        assert found.keys() == theirs[radius].keys()
        for name, column in found.items():
            assert np.array_equal(column, theirs[radius][name], equal_nan=name.startswith("size_"))


@pytest.mark.parametrize(
    "settings",
    [{}, {"targets": "all"}, {"targets": "least-likely"}, {"keep_images": "fooled"}, {"keep_images": "none"}],
    ids=str,
)
def test_parts_and_loss_change_no_byte(tmp_path: Path, settings: dict[str, Any]) -> None:
    attacks = [*sweep(RADII[1:]), *smallest()]
    whole = evaluated(tmp_path / "whole", attacks, **settings)
    for part in ((2, 2), (1, 2)):
        split = evaluated(tmp_path / "split", attacks, part=part, **settings)
    assert files(split.path) == files(whole.path)
    before = files(whole.path)
    for job in whole.job_ids:
        (whole.path / "jobs" / job / "00001.parquet").unlink()
    evaluated(tmp_path / "whole", attacks, **settings)
    assert files(whole.path) == before


def test_every_target_is_taken_over_by_itself(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run", sweep(RADII[1:]), targets="all")
    before, after = (run.rows(job).to_pydict() for job in run.job_ids)
    assert after["target"] == before["target"]
    assert after["carried"] == before["success"]
    assert sum(after["success"]) > sum(before["success"])


def test_bent_images_are_taken_over_with_their_flows(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run", [bs.FlowBall(radius, steps=4) for radius in RADII[1:]])
    numbers = [i for i, over in enumerate(run.rows(run.job_ids[1])["carried"].to_pylist()) if over]
    assert numbers
    ours, theirs = (run.flows(job, numbers) for job in run.job_ids)
    assert all(torch.equal(ours[i], theirs[i]) for i in numbers)


def test_ensembles_take_over_who_decided(tmp_path: Path) -> None:
    attacks = [bs.ensemble([bs.FGSM(radius), bs.PGD(radius, steps=3)]) for radius in RADII]
    run = evaluated(tmp_path / "run", attacks)
    before, after = (run.rows(job) for job in run.job_ids[1:])
    over = after["carried"].to_numpy()
    assert (after["decided"].to_numpy()[over] == before["decided"].to_numpy()[over]).all()
    assert set(after["decided"].to_numpy()[over]) <= {0, 1}


def test_noise_and_the_strongest_images_are_not_taken_over() -> None:
    attacks = [
        *(bs.UniformNoise(radius) for radius in RADII),
        *(bs.PGD(radius, keep="lowest") for radius in RADII),
        *(bs.PGD(radius, norm="l2") for radius in RADII[:1]),
        *(bs.PGD(radius) for radius in RADII[1:2]),
        *(bs.PGD(radius, steps=3) for radius in RADII[2:]),
    ]
    assert all("carries" not in job for job in describe_jobs(plan_jobs(attacks), None))


@pytest.mark.parametrize(("keep", "jobs"), [("first", 3), ("smallest", 1)])
def test_attacks_that_have_a_choice_are_run_once_only_for_the_smallest(keep: Any, jobs: int) -> None:
    planned = plan_jobs([bs.Boundary(radius, keep=keep) for radius in RADII])
    assert len(planned) == jobs
    assert [job.carries for job in planned] == [None, 0, 1][:jobs]


def test_a_job_is_done_after_the_one_that_it_takes_over() -> None:
    jobs = describe_jobs(plan_jobs([*sweep(("0.1", "0.02", "0.05")), bs.FGSM("0.1")]), None)
    assert [entry.get("carries") for entry in jobs] == ["02-pgd-linf-0.05", None, "01-pgd-linf-0.02", None]
    assert in_turn(jobs) == ["01-pgd-linf-0.02", "02-pgd-linf-0.05", "00-pgd-linf-0.1", "03-fgsm-linf-0.1"]


def test_the_smallest_changes_are_looked_for_once_for_all_radii(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run", [bs.FMN("0.1", "linf", steps=6), bs.FGSM("0.05"), *smallest()])
    assert run.job_ids == ["00-fmn-linf-0.1", "01-fgsm-linf-0.05"]
    assert run.jobs[0]["radii"] == list(RADII)
    views = {view.job["radius"]: view for view in at_every_radius([run.verdicts(run.job_ids[0])])}
    assert list(views) == [0.02, 0.05, 0.1]
    for attack in smallest():
        alone = evaluated(tmp_path / str(attack.radius), [attack])
        verdicts = alone.verdicts(alone.job_ids[0])
        assert verdicts.success.sum() > 0
        assert np.array_equal(views[float(attack.radius)].success, verdicts.success)
        assert np.array_equal(views[float(attack.radius)].fooled, verdicts.fooled)
    counts = [view.success.sum() for view in views.values()]
    assert counts == sorted(counts)
    assert counts[0] < counts[2]


def test_the_curve_counts_the_sizes(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run", [*smallest(), *sweep(RADII[1:2])])
    verdicts = run.verdicts(run.job_ids[0])
    summary = summarise(run)
    curve = summary["jobs"][0]["curve"]
    assert curve[0] == (0.0, summary["clean"]["count"])
    for radius, right in curve[1:]:
        assert right == (~verdicts.fooled | (verdicts.success & (verdicts.size > radius))).sum()
    for point in summary["worst"]:
        credit = next(c for c in point["credits"] if c["job"] == run.job_ids[0])
        inside = verdicts.success & (verdicts.size <= point["radius"] * (1 + 1e-6))
        assert credit["success"]["count"] == credit["fooled"] == inside.sum()
    worst = dict(summary["curves"][0]["curve"])
    for point in summary["worst"]:
        reached = [right for radius, right in worst.items() if radius <= point["radius"] * (1 + 1e-6)]
        assert min(reached) == point["robust"]["count"]


def test_a_long_curve_is_thinned_from_end_to_end(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run", smallest())
    few = run.verdicts(run.job_ids[0])
    many = {name: np.repeat(getattr(few, name), 100) for name in ("success", "fooled", "attacked")}
    size = np.linspace(0.001, 0.1, len(many["success"]))
    changed = type(few)(**{**vars(few), **many, "sizes": {"linf": size}})
    curve = smallest_curve(changed)
    assert len(curve) == STEPS + 1
    assert curve[-1][1] == (~changed.fooled).sum()
    assert [right for _, right in curve] == sorted((right for _, right in curve), reverse=True)


def test_the_smallest_of_several_targets_speaks_for_its_image(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run", smallest()[2:], targets="all")
    job = run.job_ids[0]
    size, success = run.rows(job)["size_linf"].to_numpy(), run.rows(job)["success"].to_numpy()
    index = run.rows(job)["index"].to_numpy()
    verdicts = run.verdicts(job)
    for place, number in enumerate(run.clean()["index"].to_pylist()):
        mine = success & (index == number)
        if mine.any():
            assert verdicts.size[place] == size[mine].min()


def test_the_default_is_noise_a_strong_attack_and_bending() -> None:
    names = [attack.name for attack in default_attacks("digits")]
    assert names == ["uniform-noise", "fast"] * 3 + ["stadv"]
    assert [attack.name for attack in default_attacks("digits", "l2", ("0.5",))] == ["uniform-noise", "fast", "stadv"]
