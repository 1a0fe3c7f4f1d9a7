"""The reader of run directories: what it gives, and the one sentence it says when a run cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from report_run import job, write_run

from blindspots.errors import BlindspotsError
from blindspots.evaluation.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    images = torch.arange(6).view(6, 1, 1, 1).expand(6, 1, 8, 8) / 10
    jobs = [(job("00-pgd-linf-0.1", "pgd", 0.1), {"success": [1, 0, 1, 0, 1, 0]})]
    return Run(write_run(tmp_path / "run", [0, 1, 2] * 2, [0, 1, 2, 0, 1, 0], jobs, images=images))


def test_reads_every_shard_in_order(run: Run) -> None:
    assert run.complete
    assert run.progress == (4, 4)
    assert run.clean()["index"].to_pylist() == [10, 11, 12, 13, 14, 15]
    assert run.rows("00-pgd-linf-0.1")["success"].to_pylist() == [True, False, True, False, True, False]


def test_gives_only_the_images_asked_for(run: Run) -> None:
    clean = run.images("clean", [15, 11])
    assert sorted(clean) == [11, 15]
    assert clean[15].shape == (1, 8, 8)
    assert clean[15].unique().tolist() == pytest.approx([0.5])
    attacked = run.images("00-pgd-linf-0.1", [14, 15])
    assert list(attacked) == [14], "image 15 was wrong without attack, so no attacked image is stored"
    assert attacked[14].unique().tolist() == pytest.approx([0.5])


def test_timings_are_summed_over_shards(run: Run) -> None:
    assert run.timings() == {"clean": 0.5, "00-pgd-linf-0.1": 3.0}


def test_several_targets_make_one_verdict(tmp_path: Path) -> None:
    rows = {"place": [0, 0, 1, 1], "target": [1, 2, 0, 2], "success": [0, 1, 0, 0], "prediction": [0, 2, 1, 1]}
    stored = torch.stack([torch.full((1, 8, 8), level) for level in (0.1, 0.2, 0.3, 0.4)])
    entry = job("00-pgd-linf-0.1", "pgd", 0.1, targets="all")
    run = Run(write_run(tmp_path / "run", [0, 1], [0, 1], [(entry, rows)], adversarial={entry["id"]: stored}))
    verdicts = run.verdicts(entry["id"])
    assert verdicts.success.tolist() == [True, False]
    assert verdicts.target.tolist() == [2, 0], "the first success speaks for its image, else the first row"
    assert verdicts.forwards.tolist() == [20, 20], "all targets were paid for"
    images = run.images(entry["id"], [10, 11])
    assert [images[number].mean().item() for number in (10, 11)] == pytest.approx([0.2, 0.3])


def test_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(BlindspotsError, match=r"there is no run at .*nowhere"):
        Run(tmp_path / "nowhere")


def test_directory_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(BlindspotsError, match=r"is not a run, for it has no manifest\.json"):
        Run(tmp_path)


def test_other_format(run: Run) -> None:
    manifest = {**run.manifest, "format": 2}
    (run.path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(BlindspotsError, match="has format 2, and this version reads format 1"):
        Run(run.path)


def test_unfinished_run_says_how_far_it_is(run: Run) -> None:
    (run.path / "jobs/00-pgd-linf-0.1/00001.parquet").unlink()
    again = Run(run.path)
    assert not again.complete
    with pytest.raises(BlindspotsError, match=r"3 of 4 pieces .*2 shards x 1 jobs.*same .* command again"):
        again.clean()


@pytest.mark.parametrize("name", ["manifest.json", "clean/00001.parquet", "jobs/00-pgd-linf-0.1/00000.parquet"])
def test_damaged_file_is_named(run: Run, name: str) -> None:
    (run.path / name).write_bytes(b"\x00 not this")
    with pytest.raises(BlindspotsError, match=f"{name}' is damaged"):
        Run(run.path).verdicts("00-pgd-linf-0.1")


def test_damaged_images_are_named(run: Run) -> None:
    (run.path / "images/clean/00000.safetensors").write_bytes(b"short")
    with pytest.raises(
        BlindspotsError, match=r"images/clean/00000.safetensors' is damaged.*delete '.*clean/00000.parquet'"
    ):
        run.images("clean", [10])


@pytest.mark.parametrize(("keep", "stored"), [("all", [10, 11, 12, 13]), ("fooled", [10, 12]), ("none", [])])
def test_images_that_were_not_kept_are_not_given(tmp_path: Path, keep: str, stored: list[int]) -> None:
    entry = job("00-pgd-linf-0.1", "pgd", 0.1)
    path = write_run(
        tmp_path / "run", [0, 1] * 2, [0, 1] * 2, [(entry, {"success": [1, 0, 1, 0]})], settings={"keep_images": keep}
    )
    assert sorted(Run(path).images(entry["id"], [10, 11, 12, 13])) == stored


def test_unknown_job_is_named(run: Run) -> None:
    with pytest.raises(BlindspotsError, match=r"unknown job '00-pgd-linf-0\.2': did you mean '00-pgd-linf-0\.1'"):
        run.rows("00-pgd-linf-0.2")
