"""From a run to files and back: every file is the image that was verified."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms.functional import to_tensor

from blindspots.attacks import FGSM, PGD, BisectedPGD
from blindspots.classifiers import Classifier
from blindspots.data import dataset
from blindspots.errors import BlindspotsError
from blindspots.evaluation.driver import evaluate
from blindspots.exporting import ExportProgress, export
from blindspots.geometry import sizes
from blindspots.models import build, save_model
from blindspots.wrapping import classifier

CLASSES, SIZE = 4, 6
ATTACKS = (
    BisectedPGD("0.2", steps=5, rounds=6),
    BisectedPGD("1.0", "l2", steps=5, rounds=6),
    BisectedPGD("8.0", "l1", steps=5, rounds=6),
    PGD("2/255", steps=5),
)


def pictures(channels: int, count: int = 24) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, SIZE, SIZE), generator=generator).float() / 255


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A gray network in a file, so that a run knows where its model is."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "net.safetensors"
    network = build("fc10", classes=CLASSES, channels=1, size=SIZE)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
    save_model(
        path, network, network="fc10", settings={}, mean=(0.5,), std=(0.25,), shape=(1, SIZE, SIZE),
        classes=CLASSES, info={},
    )  # fmt: skip
    return str(path)


@pytest.fixture(scope="module")
def gray(saved: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, images = classifier(saved, batch=8), pictures(1)
    data = dataset((images, model.logits(images).argmax(1)))
    return evaluate(model, data, ATTACKS, out=tmp_path_factory.mktemp("gray") / "run").path


def colour_model() -> Classifier:
    torch.manual_seed(1)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 16), nn.Tanh(), nn.Linear(16, CLASSES))
    return Classifier(layers, batch=8)


@pytest.fixture(scope="module")
def targeted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colour, every other class as a target, a model without a name."""
    model, images = colour_model(), pictures(3, count=10)
    data = dataset((images, model.logits(images).argmax(1)))
    attacks = [BisectedPGD("0.05", steps=5, rounds=5), BisectedPGD("0.3", "l2", steps=5, rounds=5)]
    return evaluate(model, data, attacks, targets="all", out=tmp_path_factory.mktemp("colour") / "run").path


def listed(folder: Path) -> list[dict[str, str]]:
    with (folder / "index.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def contents(out: Path) -> dict[str, bytes]:
    files = (file for file in out.rglob("*") if file.is_file() and file.name != ".lock")
    return {str(file.relative_to(out)): file.read_bytes() for file in files}


def check(job: dict, rows: list[dict[str, str]], images: torch.Tensor, clean: torch.Tensor, model: Classifier) -> None:
    """The table tells the truth about images that were read back from files."""
    logits = model.logits(images)
    change = images.double() - clean.double()
    for number, row in enumerate(rows):
        assert int(row["prediction"]) == int(logits[number].argmax())
        hit = row["prediction"] == row["target"] if row["target"] else row["prediction"] != row["label"]
        assert row["fooled"] == str(hit).lower()
        for norm, size in sizes(change[number : number + 1]).items():
            assert float(row[f"size_{norm}"]) == pytest.approx(float(size), abs=1e-5)
        assert row["inside"] == "true"
        assert float(row[f"size_{job['norm']}"]) <= job["radius"] + 1e-8


def test_export_png_reads_back_as_the_verified_images(gray: Path, saved: str, tmp_path: Path) -> None:
    report = export(gray, tmp_path / "png")
    jobs = json.loads((gray / "manifest.json").read_text())["jobs"]
    clean, model = pictures(1), classifier(saved, batch=8)
    assert [job.job for job in report.jobs] == [job["id"] for job in jobs]
    for done, job in zip(report.jobs, jobs, strict=True):
        rows = listed(done.folder)
        assert len(rows) == done.exported == done.fooled
        assert {row["file"] for row in rows} == {file.name for file in done.folder.glob("*.png")}
        images = torch.stack([to_tensor(Image.open(done.folder / row["file"])) for row in rows])
        check(job, rows, images, clean[[int(row["index"]) for row in rows]], model)
        lost = [row for row in rows if row["fooled_rounded"] == "false"]
        assert done.lost == len(lost)
        assert done.repaired == sum(row["fooled"] == "true" for row in lost)
        assert done.still_lost == tuple(row["file"] for row in lost if row["fooled"] == "false")
        assert all("-lost" in name for name in done.still_lost)
        assert done.summary.startswith(f"{job['id']}: {done.exported} images")
    # The smallest changes barely fool the model: rounding loses some, and the search finds most of them again.
    smallest = report.jobs[:3]
    assert sum(job.lost for job in smallest) >= 5
    assert sum(job.repaired for job in smallest) >= 0.8 * sum(job.lost for job in smallest)


def test_export_without_repair_loses_more(gray: Path, tmp_path: Path) -> None:
    plain = export(gray, tmp_path / "plain", repair=False)
    whole = export(gray, tmp_path / "whole")
    assert [job.lost for job in plain.jobs] == [job.lost for job in whole.jobs]
    assert sum(job.repaired for job in plain.jobs) == 0
    assert sum(len(job.still_lost) for job in plain.jobs) > sum(len(job.still_lost) for job in whole.jobs)


def test_export_npz_holds_what_the_png_files_hold(gray: Path, tmp_path: Path) -> None:
    png = export(gray, tmp_path / "png")
    npz = export(gray, tmp_path / "npz", format="npz")
    for left, right in zip(png.jobs, npz.jobs, strict=True):
        rows = listed(left.folder)
        files = [np.asarray(Image.open(left.folder / row["file"])) for row in rows]
        with np.load(right.folder / "images.npz") as archive:
            assert archive["images"].dtype == np.uint8
            assert np.array_equal(archive["images"], np.stack(files)[:, None])
            assert archive["labels"].tolist() == [int(row["label"]) for row in rows]
            assert archive["index"].tolist() == [int(row["index"]) for row in rows]
            assert archive["fooled"].tolist() == [row["fooled"] == "true" for row in rows]
        assert (left.lost, left.repaired) == (right.lost, right.repaired)
    reopened = dataset(str(npz.jobs[0].folder / "images.npz"))
    assert len(reopened) == npz.jobs[0].exported


def test_export_targeted_runs_count_the_target_and_keep_every_row(targeted: Path, tmp_path: Path) -> None:
    model, clean = colour_model(), pictures(3, count=10)
    report = export(targeted, tmp_path / "out", model=model, only="attacked")
    jobs = json.loads((targeted / "manifest.json").read_text())["jobs"]
    for done, job in zip(report.jobs, jobs, strict=True):
        rows = listed(done.folder)
        assert len(rows) == len({row["file"] for row in rows}) == 10 * (CLASSES - 1)
        images = torch.stack([to_tensor(Image.open(done.folder / row["file"])) for row in rows])
        check(job, rows, images, clean[[int(row["index"]) for row in rows]], model)
        assert 0 < done.fooled < done.exported
        failed = [row for row in rows if row["fooled"] == "false"]
        assert all(f"-target-{row['target']}" in row["file"] for row in failed)
    assert sum(job.lost for job in report.jobs) >= 3
    assert sum(job.repaired for job in report.jobs) >= 0.8 * sum(job.lost for job in report.jobs)


def test_export_goes_on_where_it_stopped_and_repeats_itself(gray: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(gray, out)
    before = contents(out)

    class Stopped(Exception):  # noqa: N818  not an error
        pass

    def stop(progress: ExportProgress) -> None:
        assert progress.job == "02-bisected-pgd-l1-8.0" or progress.done < progress.total
        if progress.job.startswith("02"):
            raise Stopped

    again = tmp_path / "again"
    with pytest.raises(Stopped):
        export(gray, again, progress=stop)
    assert (again / "01-bisected-pgd-l2-1.0" / "index.csv").exists()
    assert not (again / "02-bisected-pgd-l1-8.0" / "index.csv").exists()
    (again / "02-bisected-pgd-l1-8.0" / "0-0-to-9.png").write_bytes(b"of an earlier start")
    (again / ".tmp-1-half.png").write_bytes(b"half")
    report = export(gray, again)
    assert contents(again) == before
    assert export(gray, again) == report
    next((again / "00-bisected-pgd-linf-0.2").glob("*.png")).unlink()
    export(gray, again)
    assert contents(again) == before


def test_export_some_jobs(gray: Path, tmp_path: Path) -> None:
    report = export(gray, tmp_path / "out", jobs=["03-pgd-linf-2_255"])
    assert [job.job for job in report.jobs] == ["03-pgd-linf-2_255"]
    with pytest.raises(BlindspotsError, match="unknown job '03-pgd'"):
        export(gray, tmp_path / "out", jobs=["03-pgd"])


def test_export_leaves_the_model_as_it_was(gray: Path, saved: str, tmp_path: Path) -> None:
    model = classifier(saved, batch=3)
    model.module.train()
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    export(gray, tmp_path / "out", model=model)
    assert model.batch == 3
    assert model.module.training
    assert all(p.requires_grad and p.grad is None for p in model.module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())


def test_export_refuses_what_it_cannot_do(gray: Path, targeted: Path, saved: str, tmp_path: Path) -> None:
    with pytest.raises(BlindspotsError, match="was made with a module in Python"):
        export(targeted, tmp_path / "a")
    other = colour_model()
    with torch.no_grad():
        next(other.module.parameters()).add_(1)
    with pytest.raises(BlindspotsError, match="is not the one of the run"):
        export(targeted, tmp_path / "a", model=other)
    assert not (tmp_path / "a").exists()
    full = tmp_path / "full"
    full.mkdir()
    (full / "letter.txt").write_text("mine")
    with pytest.raises(BlindspotsError, match="holds other files and no export"):
        export(gray, full)
    assert (full / "letter.txt").read_text() == "mine"
    export(gray, tmp_path / "b", jobs=["03-pgd-linf-2_255"])
    with pytest.raises(BlindspotsError, match="export of this run with other settings"):
        export(gray, tmp_path / "b", format="npz")
    with pytest.raises(BlindspotsError, match="export of another run"):
        export(targeted, tmp_path / "b", model=colour_model())
    with pytest.raises(BlindspotsError, match="format must be one of png, npz, got 'jpeg'"):
        export(gray, tmp_path / "c", format="jpeg")  # type: ignore[arg-type]
    with pytest.raises(BlindspotsError, match="only must be one of fooled, attacked"):
        export(gray, tmp_path / "c", only="all")  # type: ignore[arg-type]
    with pytest.raises(BlindspotsError, match="gradients must be at least 1"):
        export(gray, tmp_path / "c", gradients=0)


def test_export_of_runs_that_kept_few_images_or_odd_channels(tmp_path: Path) -> None:
    torch.manual_seed(2)
    model = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(2 * SIZE * SIZE, CLASSES)), batch=4)
    images = pictures(2, count=9)
    data = dataset((images, model.logits(images).argmax(1)))
    attacks = [FGSM("20/255"), FGSM("0")]
    kept = evaluate(model, data, attacks, out=tmp_path / "fooled", keep_images="fooled")
    with pytest.raises(BlindspotsError, match="PNG holds gray or RGB images, and those of this run have 2 channels"):
        export(kept, tmp_path / "png", model=model)
    with pytest.raises(BlindspotsError, match="holds only the adversarial images that fooled the model"):
        export(kept, tmp_path / "npz", model=model, format="npz", only="attacked")
    job, empty = export(kept, tmp_path / "npz", model=model, format="npz").jobs
    assert job.exported == int(kept.rows(job.job)["success"].to_numpy().sum()) > 0
    # On a linear model and at whole levels, FGSM's image is an 8-bit image already.
    assert job.lost == 0
    assert empty.exported == 0
    assert empty.summary == "01-fgsm-linf-0: 0 images, none lost by rounding"
    with np.load(empty.folder / "images.npz") as archive:
        assert archive["images"].shape == (0, 2, SIZE, SIZE)
    none = evaluate(model, data, attacks, out=tmp_path / "none", keep_images="none")
    with pytest.raises(BlindspotsError, match="holds no adversarial images"):
        export(none, tmp_path / "n", model=model, format="npz")


def test_export_does_not_depend_on_shards_and_pieces(
    gray: Path, saved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blindspots.evaluation.plan.SHARD_IMAGES", 10)
    monkeypatch.setattr("blindspots.exporting.source._VALUES", 1)
    model, images = classifier(saved, batch=8), pictures(1)
    data = dataset((images, model.logits(images).argmax(1)))
    sharded = evaluate(model, data, ATTACKS, out=tmp_path / "run")
    assert len(sharded.shard_ids) == 3
    export(gray, tmp_path / "whole", format="npz")
    export(sharded, tmp_path / "parts", format="npz")
    whole, parts = contents(tmp_path / "whole"), contents(tmp_path / "parts")
    assert whole.pop("export.json") != parts.pop("export.json")
    assert whole == parts
