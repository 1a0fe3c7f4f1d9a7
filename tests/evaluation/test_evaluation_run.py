"""`evaluate`: what is written, that the rows are true, and that nothing depends on how the work was cut."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from evaluation_victim import images, victim

import blindspots as bs
from blindspots import files
from blindspots.evaluation import plan
from blindspots.evaluation.run import Run
from blindspots.evaluation.summary import summarise

ATTACKS = [bs.UniformNoise("0.05", draws=2), bs.FGSM("0.05"), bs.PGD("0.05", steps=5), bs.PGD("0.1", steps=5)]
COUNT = 70


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "SHARD_IMAGES", 30)


def evaluated(out: Path, **settings: object) -> Run:
    arguments = {"attacks": ATTACKS, "batch": 8, **settings}
    return bs.evaluate(victim(), images(COUNT), out=out, **arguments)  # type: ignore[arg-type]


def result_files(path: Path) -> dict[str, bytes]:
    """The files that equal runs have in common: all but times, the report that shows them, and locks."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
        and not file.name.startswith(".")
        and file.parent.name != "timing"
        and file.name != "report.html"
    }


def same_rows(ours: pa.Table, theirs: pa.Table) -> bool:
    """Equal tables, bit for bit; sizes of images that were not attacked are NaN in both."""
    return ours.schema == theirs.schema and all(
        np.array_equal(ours[name].to_numpy(), theirs[name].to_numpy(), equal_nan=name.startswith("size_"))
        for name in ours.column_names
    )


def test_a_run_holds_manifest_rows_images_summary_and_report(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run")
    assert run.complete
    assert [shard["stop"] - shard["start"] for shard in run.manifest["shards"]] == [30, 30, 10]
    assert run.clean().num_rows == COUNT
    assert (run.path / "report.html").stat().st_size > 10_000
    assert json.loads((run.path / "summary.json").read_text()) == json.loads(json.dumps(summarise(run)))
    assert not list(run.path.rglob(".tmp-*"))


def test_rows_are_true_of_the_stored_images(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run")
    pixels, labels = images(COUNT)
    model = bs.classifier(victim(), batch=16)
    for job in run.jobs:
        rows = run.rows(job["id"]).to_pydict()
        attacked = [i for i, tried in zip(rows["index"], rows["attacked"], strict=True) if tried]
        stored = run.images(job["id"], attacked)
        adversarial = torch.stack([stored[i] for i in attacked])
        prediction = model.logits(adversarial).argmax(1)
        success = torch.tensor(rows["success"])[attacked]
        assert torch.equal(prediction != labels[attacked], success)
        assert torch.equal(prediction, torch.tensor(rows["prediction"])[attacked])
        change = (adversarial.double() - pixels[attacked].double()).flatten(1).abs().amax(1)
        assert torch.allclose(change, torch.tensor(rows["size_linf"], dtype=torch.float64)[attacked], rtol=0, atol=0)
        assert float(change.max()) <= job["radius"] * (1 + 1e-6)
        assert float(adversarial.min()) >= 0
        assert float(adversarial.max()) <= 1


def test_clean_mistakes_count_as_fooled_and_are_never_attacked_or_credited(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run")
    wrong = [not right for right in run.clean()["correct"].to_pylist()]
    assert sum(wrong) == 7
    for job in run.job_ids:
        rows = run.rows(job).to_pydict()
        for i, mistake in enumerate(wrong):
            assert rows["attacked"][i] is not mistake
            if mistake:
                assert rows["fooled"][i]
                assert not rows["success"][i]
                assert rows["forwards"][i] == 0
    summary = summarise(run)
    assert summary["clean"]["count"] == COUNT - 7
    for job in summary["jobs"]:
        fooled = sum(run.rows(job["id"])["fooled"].to_pylist())
        assert job["robust"]["count"] == COUNT - fooled


@pytest.mark.parametrize("settings", [{}, {"targets": "random"}, {"targets": "all"}, {"targets": 3}, {"budget": 4}])
def test_parts_and_shards_do_not_change_a_row(tmp_path: Path, settings: dict[str, object]) -> None:
    whole = evaluated(tmp_path / "whole", **settings)
    for part in ((2, 2), (1, 2)):
        split = evaluated(tmp_path / "split", part=part, **settings)
    assert split.complete
    assert result_files(split.path) == result_files(whole.path)


def test_shard_size_does_not_change_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluated(tmp_path / "a")
    monkeypatch.setattr(plan, "SHARD_IMAGES", 11)
    other = evaluated(tmp_path / "b")
    for job in whole.job_ids:
        assert same_rows(whole.rows(job), other.rows(job))
        index = whole.rows(job).filter(whole.rows(job)["attacked"])["index"].to_pylist()
        ours, theirs = whole.images(job, index), other.images(job, index)
        assert all(torch.equal(ours[i], theirs[i]) for i in index)


def test_a_subset_has_the_rows_of_the_whole(tmp_path: Path) -> None:
    whole = evaluated(tmp_path / "whole")
    few = bs.dataset(images(COUNT), limit=20, seed=1)
    part = bs.evaluate(victim(), few, ATTACKS, out=tmp_path / "part", batch=8)
    for job in whole.job_ids:
        rows = whole.rows(job)
        chosen = rows.filter(pc.is_in(rows["index"], pa.array(few.index.tolist())))
        assert same_rows(part.rows(job), chosen)


def test_every_target_has_a_row_and_its_own_verdict(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run", targets="all", attacks=[bs.PGD("0.1", steps=3)])
    rows = run.rows(run.job_ids[0]).to_pydict()
    right = sum(run.clean()["correct"].to_pylist())
    assert len(rows["index"]) == right * 9 + (COUNT - right)
    for label, target, tried, reached, prediction in zip(
        rows["label"], rows["target"], rows["attacked"], rows["success"], rows["prediction"], strict=True
    ):
        assert (target == -1) is not tried
        assert target != label
        assert not reached or prediction == target


def test_a_fixed_target_leaves_its_own_class_alone(tmp_path: Path) -> None:
    target = int(images(COUNT)[1][1])
    run = evaluated(tmp_path / "run", targets=target, attacks=[bs.PGD("0.1", steps=3)])
    rows = run.rows(run.job_ids[0]).to_pydict()
    correct = run.clean()["correct"].to_pylist()
    own = [i for i, label in enumerate(rows["label"]) if label == target and correct[i]]
    assert own
    assert not any(rows["attacked"][i] or rows["fooled"][i] for i in own)


def test_budgets_hold_for_every_row(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run", budget=bs.Budget(forwards=5, backwards=3))
    for job in run.job_ids:
        rows = run.rows(job)
        assert max(rows["forwards"].to_pylist()) <= 5
        assert max(rows["backwards"].to_pylist()) <= 3


def test_a_finished_run_is_not_done_again(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run")
    before = {file: file.stat().st_mtime_ns for file in run.path.rglob("*.parquet")}
    events: list[object] = []
    evaluated(tmp_path / "run", progress=events.append)
    assert not events
    assert before == {file: file.stat().st_mtime_ns for file in run.path.rglob("*.parquet")}


def test_what_was_lost_is_made_again_bit_for_bit(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run")
    before = result_files(run.path)
    for name in ("jobs/02-pgd-linf-0.05/00001.parquet", "clean/00002.parquet", "summary.json"):
        (run.path / name).unlink()
    assert not Run(run.path).complete
    evaluated(tmp_path / "run")
    assert result_files(run.path) == before


@pytest.mark.parametrize(
    ("settings", "difference"),
    [
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"batch": 16}, "batch: 8 -> 16"),
        ({"targets": "random"}, "settings.targets: None -> random"),
        ({"budget": 9}, "settings.budget"),
        ({"attacks": [*ATTACKS[:3], bs.PGD("0.1", steps=6)]}, "jobs[3].settings.steps: 5 -> 6"),
        ({"attacks": ATTACKS[:2]}, "jobs: "),
    ],
)
def test_a_changed_setting_is_refused_by_name(tmp_path: Path, settings: dict[str, object], difference: str) -> None:
    run = evaluated(tmp_path / "run")
    before = result_files(run.path)
    with pytest.raises(bs.BlindspotsError, match="was made with other settings") as caught:
        evaluated(tmp_path / "run", **settings)
    assert difference in str(caught.value)
    assert result_files(run.path) == before


def test_a_changed_model_or_changed_data_is_refused(tmp_path: Path) -> None:
    evaluated(tmp_path / "run")
    other = victim()
    torch.nn.init.normal_(other[0].weight)  # type: ignore[arg-type]
    with pytest.raises(bs.BlindspotsError, match=r"model\.hash"):
        bs.evaluate(other, images(COUNT), ATTACKS, out=tmp_path / "run", batch=8)
    pixels, labels = images(COUNT)
    with pytest.raises(bs.BlindspotsError, match=r"data\.fingerprint"):
        bs.evaluate(victim(), (pixels.flip(2), labels), ATTACKS, out=tmp_path / "run", batch=8)


def test_the_run_keeps_the_batch_it_began_with(tmp_path: Path) -> None:
    run = bs.evaluate(victim(), images(COUNT), ATTACKS[:2], out=tmp_path / "run", batch=16)
    (run.path / "clean" / "00000.parquet").unlink()
    again = bs.evaluate(victim(), images(COUNT), ATTACKS[:2], out=tmp_path / "run")
    assert again.complete
    assert again.manifest["batch"] == 16


@pytest.mark.parametrize(("keep", "stored"), [("fooled", True), ("none", False)])
def test_images_can_be_kept_in_part(tmp_path: Path, keep: str, stored: bool) -> None:
    run = evaluated(tmp_path / "run", keep_images=keep, attacks=[bs.PGD("0.05", steps=3)])
    rows = run.rows(run.job_ids[0])
    fooled = rows.filter(rows["success"])["index"].to_pylist()
    resisted = rows.filter(pc.and_(rows["attacked"], pc.invert(rows["success"])))["index"].to_pylist()
    assert fooled
    assert resisted
    assert (len(run.images(run.job_ids[0], fooled)) == len(fooled)) is stored
    assert not run.images(run.job_ids[0], resisted)
    assert (run.path / "report.html").is_file()


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    network = victim().train()
    network[0].weight.requires_grad_(False)  # type: ignore[union-attr]
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    random = torch.get_rng_state()
    run = bs.evaluate(network, images(COUNT), ATTACKS[:2], out=tmp_path / "run", batch=8)
    assert all(module.training for module in network.modules())
    assert not network[0].weight.requires_grad  # type: ignore[union-attr]
    assert network[4].weight.requires_grad  # type: ignore[union-attr]
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert "train-mode" in {flag["code"] for flag in run.manifest["probes"]}


def test_wrong_input_writes_nothing(tmp_path: Path) -> None:
    pixels, labels = images(COUNT)
    broken = victim()
    torch.nn.init.constant_(broken[4].weight, float("nan"))  # type: ignore[arg-type]
    cases = [
        (victim(), (pixels, labels + 5), {}, "must be from 0 to 9"),
        (broken, (pixels, labels), {}, "NaN or infinite logits"),
        (victim(), (pixels, labels), {"attacks": []}, "there are no attacks"),
        (victim(), (pixels, labels), {"targets": "worst"}, "targets must be a class or one of"),
        (victim(), (pixels, labels), {"targets": 12}, "the target class must be from 0 to 9"),
        (victim(), (pixels, labels), {"part": (3, 2)}, "part must be"),
        (victim(), (pixels, labels), {"keep_images": "some"}, "keep_images must be one of"),
        (victim(), (pixels * 255, labels), {}, "divide by 255"),
    ]
    for model, data, settings, sentence in cases:
        with pytest.raises(bs.BlindspotsError, match=sentence):
            bs.evaluate(model, data, **{"attacks": ATTACKS, "out": tmp_path / "run", **settings})  # type: ignore[arg-type]
        assert not (tmp_path / "run").exists()


def test_a_directory_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(bs.BlindspotsError, match="holds other files and no run"):
        evaluated(tmp_path)
    assert {file.name for file in tmp_path.iterdir() if not file.name.startswith(".")} == {"notes.txt"}


def test_a_model_that_is_no_model_is_flagged(tmp_path: Path) -> None:
    pixels, labels = images(COUNT)
    run = bs.evaluate(victim(), (pixels, (labels * 7 + 3) % 10), ATTACKS[:2], out=tmp_path / "run", batch=8)
    codes = {flag["code"] for flag in summarise(run)["flags"]}
    assert "no-model" in codes


def test_a_run_that_another_process_writes_is_refused(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run", attacks=ATTACKS[:2])
    from filelock import FileLock

    with (
        FileLock(run.path / ".lock-1-of-1"),
        pytest.raises(bs.BlindspotsError, match="another process is writing the run"),
    ):
        evaluated(tmp_path / "run", attacks=ATTACKS[:2])


def test_a_finished_run_lets_go_of_its_lock_and_does_not_wait_for_the_collector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filelock import FileLock

    locks: list[FileLock] = []

    def kept(path: Path) -> FileLock:
        locks.append(FileLock(path))
        return locks[-1]

    monkeypatch.setattr(files, "FileLock", kept)
    run = evaluated(tmp_path / "run", attacks=ATTACKS[:2])
    bs.export(run.path, tmp_path / "images", repair=False, model=victim())
    assert len(locks) > 1
    assert not any(lock.is_locked for lock in locks)


def test_predictions_stand_in_for_labels_only_by_name(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run", labels_from="predictions", attacks=[bs.PGD("0.05", steps=3)])
    clean = run.clean().to_pydict()
    assert clean["label"] == clean["prediction"]
    assert clean["label"] != images(COUNT)[1].tolist()
    assert "predicted-labels" in {flag["code"] for flag in run.manifest["probes"]}
    rows = run.rows(run.job_ids[0]).to_pydict()
    assert all(rows["attacked"])
    with pytest.raises(bs.BlindspotsError, match="labels_from must be one of data, predictions, got 'me'"):
        evaluated(tmp_path / "other", labels_from="me")
