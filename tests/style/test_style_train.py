"""Training a style transfer: the same after a stop, what it learns, what it refuses, and evaluating with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from blindspots import BlindspotsError, Style, dataset
from blindspots.evaluation.driver import evaluate
from blindspots.style import StyleSettings, StyleTransfer, TrainedStyle, train
from blindspots.style.applied import apply

SMALL = StyleSettings(
    features="small-cnn", copies=2, width=4, blocks=1, steps=12, batch=3, bank=3, threads=1, style_weight=10.0
)


@pytest.fixture(scope="module")
def images() -> Any:
    return dataset("digits", limit=60)


@pytest.fixture(scope="module")
def trained(images: Any, tmp_path_factory: pytest.TempPathFactory) -> TrainedStyle:
    return train(replace(SMALL, steps=60, out=str(tmp_path_factory.mktemp("style"))), content=images)


class KilledError(Exception):
    pass


def test_a_training_that_was_killed_ends_with_the_same_weights(images: Any, tmp_path: Path) -> None:
    whole = train(replace(SMALL, out=str(tmp_path / "whole")), content=images)

    def kill(step: int, steps: int, loss: float) -> None:
        raise KilledError

    stopped = replace(SMALL, out=str(tmp_path / "stopped"), checkpoint_seconds=0.0)
    with pytest.raises(KilledError):
        train(stopped, content=images, progress=kill)
    assert not (tmp_path / "stopped" / "result.json").exists()
    resumed = train(stopped, content=images)
    assert resumed.model.read_bytes() == whole.model.read_bytes()
    assert not (tmp_path / "stopped" / "checkpoint.pt").exists()
    assert resumed.values == whole.values
    again = train(stopped, content=images, progress=kill)
    assert again.values == whole.values, "a finished training returns at once"


def test_what_was_used_and_measured_is_told_beside_the_reference(trained: TrainedStyle) -> None:
    told = json.loads((trained.model.parent / "result.json").read_text())
    assert told["features"] == "small-cnn, random weights (seed 0)"
    assert told["pairs"] == 8
    totals = {name: terms["total"]["value"] for name, terms in trained.values.items()}
    assert set(totals) == {"content image", "network", "Gatys"}
    assert totals["Gatys"] < totals["content image"]
    assert totals["Gatys"] < totals["network"]
    assert StyleTransfer.load(trained.model).meta["measured"] == trained.values


def test_other_settings_or_images_in_the_same_folder_are_refused(trained: TrainedStyle, images: Any) -> None:
    folder = str(trained.model.parent)
    with pytest.raises(BlindspotsError, match=r"holds a training with other settings.*width"):
        train(replace(SMALL, steps=60, width=8, out=folder), content=images)
    with pytest.raises(BlindspotsError, match=r"holds a training with other settings.*data"):
        train(replace(SMALL, steps=60, out=folder), content=dataset("digits", limit=50))


def test_content_and_styles_of_different_shapes_are_refused(images: Any, tmp_path: Path) -> None:
    other = (torch.rand(6, 3, 8, 8), torch.tensor([0, 0, 0, 1, 1, 1]))
    with pytest.raises(BlindspotsError, match=r"must have one shape, got \(1, 8, 8\) and \(3, 8, 8\)"):
        train(replace(SMALL, out=str(tmp_path)), content=images, styles=other)
    odd = (torch.rand(6, 1, 9, 9), torch.tensor([0, 0, 0, 1, 1, 1]))
    with pytest.raises(BlindspotsError, match="a multiple of 4 and at least 8, got 9 x 9"):
        train(replace(SMALL, out=str(tmp_path)), content=odd)


def test_applying_writes_every_image_in_every_style(trained: TrainedStyle, images: Any, tmp_path: Path) -> None:
    page = apply(trained.model, images, tmp_path, count=2, styles=3)
    numbers = images.index[:2].tolist()
    assert {path.name for path in tmp_path.glob("*.png")} == {f"{n}-{s}.png" for n in numbers for s in range(3)}
    assert "small-cnn, random weights" in page.read_text()
    with pytest.raises(BlindspotsError, match="9 styles are asked for, and there are 3"):
        apply(trained.model, images, tmp_path, styles=9)


def test_an_evaluation_can_use_it_and_its_shares_are_kept(trained: TrainedStyle, victim, tmp_path: Path) -> None:
    data = dataset((victim.images.float(), victim.labels))
    attack = Style(path=str(trained.model), draws=2, levels=2)
    run = evaluate(victim.classifier(torch.float32), data, [attack], out=str(tmp_path / "run"))
    rows = run.rows(run.job_ids[0])
    shares = torch.tensor(rows["size_style"].to_pylist())[torch.tensor(rows["success"].to_pylist())]
    assert len(shares)
    assert bool(torch.isin(shares, torch.tensor([0.0, 0.5, 1.0]).double()).all())
    assert (tmp_path / "run" / "report.html").is_file()


def test_the_attack_refuses_what_it_cannot_use(trained: TrainedStyle, tmp_path: Path) -> None:
    with pytest.raises(BlindspotsError, match=r"Style.path must name the file of a style transfer"):
        Style()
    with pytest.raises(BlindspotsError, match=r"Style.draws is 9, and .* holds 3 styles"):
        Style(path=str(trained.model), draws=9)
    with pytest.raises(BlindspotsError, match=r"Style.radius is a share and must be at most 1, got 2"):
        Style(radius=2, path=str(trained.model))
    with pytest.raises(BlindspotsError, match="the file has changed since"):
        Style(path=str(trained.model), draws=2, digest="sha256:0")
