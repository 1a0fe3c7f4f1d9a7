"""Bent images in runs and reports: flows stored shard by shard, arrows over images, displacements and flow loss."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from bent_run import ATTACKS, COUNT, bent_run, victim
from rich.console import Console
from safetensors.torch import load_file, save_file

import blindspots as bs
from blindspots.evaluation import plan
from blindspots.evaluation.summary import QUANTILES, summarise
from blindspots.flows import FlowLoss, displacement, warp
from blindspots.report import print_summary
from blindspots.report.arrows import ACROSS, SHORTEST, arrows, stretch
from blindspots.report.pictures import gallery


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> bs.Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "SHARD_IMAGES", 8)
        return bent_run(tmp_path_factory.mktemp("bent") / "run")


def points(path: str) -> list[np.ndarray]:
    """The corners (7, 2) of every arrow of a path, x before y."""
    shapes = [shape for shape in path.split("z") if shape]
    return [np.array([[float(v) for v in corner.split()] for corner in shape[1:].split("L")]) for shape in shapes]


def test_stored_flows_bend_the_clean_images_into_the_attacked_ones(run: bs.Run) -> None:
    everyone = list(range(COUNT))
    clean, bent = run.images("clean", everyone), run.images(run.job_ids[0], everyone)
    flows = run.flows(run.job_ids[0], everyone)
    rows = run.rows(run.job_ids[0]).to_pydict()
    assert flows.keys() == bent.keys()
    assert len(flows) == COUNT
    for number, flow in flows.items():
        assert flow.shape == (2, 8, 8)
        assert torch.equal(warp(clean[number][None], flow[None])[0], bent[number])
        place = rows["index"].index(number)
        assert rows["size_flow"][place] == float(displacement(flow[None].double()).max())
        assert rows["size_flow_loss"][place] == pytest.approx(float(FlowLoss().of(flow[None].double())), rel=1e-12)


def test_only_jobs_that_bend_have_flows(run: bs.Run) -> None:
    bending, other = run.job_ids[:3], run.job_ids[3]
    for job in bending:
        assert len(run.flows(job, [0, 5, 19])) == 3
    assert run.flows(other, [0, 5]) == {}
    assert run.flows("clean", [0, 5]) == {}
    for file in (run.path / "images").rglob("*.safetensors"):
        assert ("flows" in load_file(file)) == (file.parent.name in bending)


@pytest.mark.parametrize("keep", ["all", "fooled", "none"])
def test_a_continued_run_is_the_same_file_for_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: str) -> None:
    monkeypatch.setattr(plan, "SHARD_IMAGES", 8)
    monkeypatch.setattr("bent_run.ATTACKS", ATTACKS[:2])
    path = bent_run(tmp_path / "run", keep_images=keep).path

    def files() -> dict[str, bytes]:
        found = [*path.rglob("*.safetensors"), *path.rglob("*.parquet"), path / "summary.json"]
        return {str(file.relative_to(path)): file.read_bytes() for file in found}

    before = files()
    run = bs.Run(path)
    rows = run.rows(run.job_ids[0]).to_pydict()
    kept = {"all": "attacked", "fooled": "success"}.get(keep)
    numbers = [n for n, stored in zip(rows["index"], rows[kept], strict=True) if stored] if kept else []
    assert sorted(run.flows(run.job_ids[0], list(range(COUNT)))) == sorted(numbers)
    for file in [*path.rglob("jobs/*/00001.parquet"), *path.rglob("jobs/00*/00002.parquet")]:
        file.unlink()
    for file in path.rglob("images/0*/00001.safetensors"):
        file.unlink()
    bent_run(path, keep_images=keep)
    assert files() == before


def test_every_target_has_its_flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bent_run.ATTACKS", (bs.StAdv(steps=10, halvings=1),))
    run = bent_run(tmp_path / "run", targets="all", keep_images="fooled")
    stored = load_file(run.path / "images" / run.job_ids[0] / "00000.safetensors")
    assert len(stored["flows"]) == len(stored["images"]) == int(np.sum(run.rows(run.job_ids[0])["success"]))
    clean = run.images("clean", list(range(COUNT)))
    base = torch.stack([clean[int(number)] for number in stored["index"]])
    assert torch.equal(warp(base, stored["flows"]), stored["images"])


def test_statistics_are_of_the_successes(run: bs.Run) -> None:
    summary = summarise(run)
    assert set(summary["jobs"][0]["bends"]) == {"flow", "flow_mean", "flow_loss"}
    assert {"rotation", "shift", "zoom", "affine"} <= set(summary["jobs"][1]["bends"])
    assert {"ball", "flow-linf"} <= set(summary["jobs"][2]["bends"])
    assert summary["jobs"][3]["bends"] == {}
    for job in summary["jobs"][:3]:
        rows = run.rows(job["id"])
        success = rows["success"].to_numpy()
        assert success.any()
        for name, told in job["bends"].items():
            values = np.sort(rows[f"size_{name}"].to_numpy()[success])
            assert told["count"] == len(values)
            assert told["mean"] == pytest.approx(values.mean())
            assert len(told["quantiles"]) == len(QUANTILES)
            assert told["quantiles"][0] == values[0]
            assert told["quantiles"][3] == pytest.approx(np.median(values))
            assert told["quantiles"][-1] == values[-1]
    assert json.loads(json.dumps(summary)) == summary


def test_the_page_tells_displacements_and_draws_arrows(run: bs.Run) -> None:
    page = (run.path / "report.html").read_text(encoding="utf-8")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page))
    for said in (
        "How far images are bent",
        "mean displacement, in pixels",
        "flow loss",
        "angle, in degrees",
        "zoom factor",
        "largest additive change of a pixel value",
        "how it bends",
        "Pixels moved by",
        "Turned by",
        "Added up to",
    ):
        assert said in text
    shown = gallery(run, {job: job for job in run.job_ids})
    pictures = [*shown.successes, *shown.failures]
    bent = [picture for picture in pictures if picture.arrows is not None]
    assert len(bent) == page.count('<svg class="flow"')
    assert {picture.job.split("-")[1] for picture in bent} == {"stadv", "affine", "flow"}
    for picture in pictures:
        assert (picture.arrows is None) == (1000 * picture.sizes.get("flow", 0.0) < SHORTEST), (
            "what moves nothing has none"
        )


def test_the_terminal_tells_the_median_size(run: bs.Run) -> None:
    console = Console(width=160, record=True)
    print_summary(run, summarise(run), console)
    said = console.export_text()
    assert all(name in said for name in ("stadv, flow 5.0", "affine, affine 1.0", "flow-ball, flow-linf 0.05"))


def test_bent_images_are_not_exported_and_others_still_are(run: bs.Run, tmp_path: Path) -> None:
    model, _, _ = victim()
    for job in run.job_ids[:3]:
        with pytest.raises(bs.BlindspotsError, match=f"the images of the job '{job}' are bent"):
            bs.export(run, tmp_path / "out", jobs=[job], model=model)
    done = bs.export(run, tmp_path / "out", jobs=run.job_ids[3:], model=model, format="npz")
    assert done.jobs[0].exported == int(np.sum(run.rows(run.job_ids[3])["success"]))


def test_a_report_without_stored_flows_draws_none(run: bs.Run, tmp_path: Path) -> None:
    """As of a run that was written before flows were kept."""
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(run.path, copy)
    for file in (copy / "images").rglob("*.safetensors"):
        save_file({name: value for name, value in load_file(file).items() if name != "flows"}, file)
    shown = gallery(bs.Run(copy), {job: job for job in run.job_ids})
    assert shown.successes
    assert all(picture.arrows is None for picture in shown.successes)


def test_arrows_of_a_shift_all_point_the_way_the_picture_moves() -> None:
    """Read one pixel to the right, the picture moves left: every arrow begins on the right and ends at its pixel."""
    flow = np.zeros((2, 28, 28))
    flow[1] = 1.0
    path, factor = arrows(flow)
    drawn = points(path)
    assert len(drawn) == ACROSS**2
    assert factor == 5
    for arrow in drawn:
        head, tail = arrow[0], arrow[3:5].mean(0)
        np.testing.assert_allclose(tail - head, (5, 0), atol=0.011)
        assert (head % 1 == 0.5).all(), "an arrow ends in the middle of a pixel"


def test_arrows_show_the_longest_displacement_of_each_square() -> None:
    flow = np.zeros((2, 28, 28))
    flow[0, 5, 8] = -0.4
    flow[0, 4, 9] = -0.1
    path, factor = arrows(flow)
    (arrow,) = points(path)
    assert factor == 10
    np.testing.assert_allclose(arrow[0], (8.5, 5.5), atol=0.006)
    np.testing.assert_allclose(arrow[3:5].mean(0), (8.5, 1.5), atol=0.011)


def test_arrows_of_nothing_and_of_far_ways() -> None:
    assert arrows(np.zeros((2, 8, 8))) == ("", 1)
    far = np.full((2, 28, 28), 9.0)
    path, factor = arrows(far)
    assert factor == 1
    assert len(points(path)) <= 36, "long arrows are drawn further apart"
    wide = np.zeros((2, 2, 300))
    wide[1] = 0.01
    assert len(points(arrows(wide)[0])) == 14
    assert len(arrows(np.random.default_rng(0).normal(size=(2, 224, 224)))[0]) < 30_000


def test_stretch_is_one_two_five() -> None:
    assert [stretch(longest, 2.0) for longest in (3.0, 1.0, 0.4, 0.2, 0.001, 1e-9, 0.0)] == [1, 2, 5, 10, 1000, 1000, 1]
