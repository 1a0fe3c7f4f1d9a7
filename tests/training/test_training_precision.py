"""Several processes, pieces of a batch, 16 bit, averages of weights, clipping, transforms, trackers, the page."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from blindspots.data import dataset
from blindspots.errors import BlindspotsError
from blindspots.training import EpochRecord, Event, TrainSettings, fit, write_learning_page
from blindspots.training.checkpoint import State, load_checkpoint, save_checkpoint
from blindspots.training.device import find_device
from blindspots.training.loop import Loop
from blindspots.training.team import Team
from blindspots.training.transforms import read_transforms

SMALL = TrainSettings(
    limit=160, epochs=2, batch=32, learning_rate=3e-3, validation=0.2, device="cpu", threads=1, test_split="",
    method="pgd", method_settings={"radius": 0.1, "steps": 2}, watch=8, watch_steps=2,
)  # fmt: skip


def metrics(settings: TrainSettings, out: Path, **more: Any) -> list[dict[str, Any]]:
    fit(replace(settings, out=str(out)), **more)
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def close(one: list[dict[str, Any]], other: list[dict[str, Any]], tolerance: float) -> bool:
    names = ("train_loss", "validation_loss")
    return all(a[n] == pytest.approx(b[n], rel=tolerance) for a, b in zip(one, other, strict=True) for n in names)


def test_pieces_and_processes_have_the_loss_curve_of_the_whole_batch(tmp_path: Path) -> None:
    settings = replace(SMALL, batch=10)  # more steps than lie between two looks, and a checkpoint whenever there may be
    whole = metrics(settings, tmp_path / "whole")
    assert close(metrics(replace(settings, accumulate=3), tmp_path / "pieces"), whole, 1e-4)
    two = metrics(replace(settings, processes=2, checkpoint_seconds=0.0), tmp_path / "two")
    assert close(two, whole, 1e-4)
    assert close(two, metrics(replace(settings, accumulate=2), tmp_path / "halves"), 1e-6)  # the same sums of the same
    assert [line["robust_accuracy"] for line in two] == [line["robust_accuracy"] for line in whole]
    assert not torch.distributed.is_initialized()
    assert "MASTER_PORT" not in os.environ


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "from blindspots.training import TrainSettings, fit\n"
        f"fit(TrainSettings(limit=60, epochs=1, device='cpu', threads=1, processes=2, out={str(tmp_path / 'run')!r}))\n"
    )
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=200)
    assert ran.returncode == 1
    assert "BlindspotsError: process 1 could not be started" in ran.stderr


def test_a_process_that_dies_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    settings = replace(SMALL, processes=2, epochs=50, checkpoint_seconds=0.0, out=str(tmp_path / "run"))

    def kill(event: Event) -> None:
        if isinstance(event, EpochRecord) and event.epoch == 2:
            (child,) = multiprocessing.active_children()
            child.kill()

    with pytest.raises(
        BlindspotsError, match=r"process 1 of 2 ended before its time.*goes on from the last checkpoint"
    ):
        fit(settings, progress=kill)
    assert (tmp_path / "run" / "checkpoint.pt").exists()


def test_bfloat16_learns_about_the_same(tmp_path: Path) -> None:
    assert close(metrics(replace(SMALL, precision="bf16"), tmp_path / "a"), metrics(SMALL, tmp_path / "b"), 0.05)


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)
    with pytest.raises(BlindspotsError, match=r"3 processes need as many GPUs, and this machine has 1: give at most 1"):
        find_device("cuda", 3)
    assert find_device("cuda", 1) == torch.device("cuda:0")
    assert find_device("cpu", 3) == torch.device("cpu")


def test_batches_too_small_for_the_pieces(tmp_path: Path) -> None:
    with pytest.raises(BlindspotsError, match=r"batches of 2 images cannot be cut into 4 pieces"):
        fit(replace(SMALL, batch=2, accumulate=4, out=str(tmp_path / "run")))


def test_a_class_without_images_and_no_images_at_all(tmp_path: Path) -> None:
    images = torch.rand(30, 1, 8, 8)
    labels = torch.tensor([0, 2, 3] * 10)
    with pytest.raises(BlindspotsError, match="class 1 of 4 has no training image: give data with images of every"):
        fit(replace(SMALL, limit=None, out=str(tmp_path / "run")), data=dataset((images, labels)))
    with pytest.raises(BlindspotsError, match=r"."):
        fit(replace(SMALL, limit=None, out=str(tmp_path / "run")), data=dataset((images[:0], labels[:0])))
    assert not (tmp_path / "run").exists()


def test_a_radius_that_does_not_fit_leaves_no_directory(tmp_path: Path) -> None:
    settings = replace(SMALL, method="fgm", method_settings={"radius": 80}, out=str(tmp_path / "run"))
    with pytest.raises(BlindspotsError, match=r"radius 80 of the method fgm in l2 is larger than 8"):
        fit(settings)
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_network(tmp_path: Path) -> None:
    one, other = nn.Linear(3, 2), nn.Linear(4, 2)
    save_checkpoint(tmp_path / "c.pt", State(one, torch.optim.SGD(one.parameters(), lr=0.1)))
    with pytest.raises(BlindspotsError, match=r"is of another network .its 'weight' is \(2, 3\), here \(2, 4\)"):
        load_checkpoint(tmp_path / "c.pt", State(other, torch.optim.SGD(other.parameters(), lr=0.1)))


def test_the_average_of_weights_is_the_closed_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    kept: list[torch.Tensor] = []
    real = Loop._update

    def spy(loop: Loop) -> None:
        first = next(loop.state.network.parameters())
        if not seen:
            seen.append(first.detach().clone())
        real(loop)
        seen.append(first.detach().clone())
        assert loop.state.average is not None
        kept.append(next(loop.state.average.parameters()).detach().clone())

    monkeypatch.setattr(Loop, "_update", spy)
    metrics(replace(SMALL, epochs=1, ema=0.8), tmp_path / "run")
    average = seen[0]
    for new, got in zip(seen[1:], kept, strict=True):
        average = 0.8 * average + 0.2 * new
        torch.testing.assert_close(got, average, rtol=1e-5, atol=1e-7)


def test_clipping_bounds_the_gradient() -> None:
    module = nn.Linear(4, 2).double()
    before = module.weight.detach().clone()
    optimiser = torch.optim.SGD(module.parameters(), lr=1.0)
    (100 * module(torch.ones(1, 4, dtype=torch.float64))).sum().backward()
    gradient = torch.cat([w.grad.flatten() for w in module.parameters() if w.grad is not None])
    expected = before - module.weight.grad * (0.5 / gradient.norm())
    Team(torch.device("cpu")).update(module, optimiser, 0.5)
    torch.testing.assert_close(module.weight.detach(), expected, rtol=1e-6, atol=0)


def test_sums_and_means_over_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As process 0 of three that all hold the same."""
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: tensor.mul_(3))
    team, one, two = Team(torch.device("cpu"), count=3), torch.rand(2, 3), torch.rand(4)
    expected = (3 * one, 3 * two)
    team.sum(one, two)
    assert torch.equal(one, expected[0])
    assert torch.equal(two, expected[1])
    statistics = nn.BatchNorm2d(3)
    statistics(torch.rand(4, 3, 2, 2))
    before = {name: value.clone() for name, value in statistics.named_buffers()}
    team.mean(statistics.buffers())
    for name, value in statistics.named_buffers():
        torch.testing.assert_close(value, before[name])
    assert torch.cat(
        [Team(torch.device("cpu"), rank=r, count=3).share(torch.arange(10)) for r in range(3)]
    ).tolist() == [*range(10)]


def test_transforms_draw_for_each_image_and_epoch_alone() -> None:
    change = read_transforms("RandomAffine:degrees=40+RandomErasing:p=0.5", (1, 8, 8))
    images, index = torch.rand(6, 1, 8, 8), torch.arange(6) * 3
    state = torch.get_rng_state()
    whole = change(images, index, seed=1, epoch=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(change(images[2:4], index[2:4], seed=1, epoch=2), whole[2:4])
    assert not torch.equal(change(images, index, seed=1, epoch=3), whole)
    for text, message in (
        ("RandomErase", "unknown transform of torchvision 'RandomErase': did you mean 'RandomErasing'"),
        ("RandomErasing:q=1", "the transform 'RandomErasing:q=1' cannot be made"),
        ("Resize:size=4", r"turn images of shape \(1, 8, 8\) into \(1, 4, 4\)"),
    ):
        with pytest.raises(BlindspotsError, match=message):
            read_transforms(text, (1, 8, 8))


def test_page_and_trackers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    metrics(replace(SMALL, loggers="tensorboard"), tmp_path / "run")
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    page = write_learning_page(tmp_path / "run").read_text()
    for text in ("<svg", "held out, PGD", "under a strong attack", "small-cnn on digits, pgd", "robust accuracy"):
        assert text in page
    with pytest.raises(BlindspotsError, match="holds no finished epoch"):
        write_learning_page(tmp_path)


def test_trackers_that_are_unknown_or_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BlindspotsError, match="loggers must be some of tensorboard, mlflow, got 'wandb'"):
        TrainSettings(loggers="tensorboard+wandb")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(BlindspotsError, match="the logger mlflow needs the package 'mlflow'"):
        fit(replace(SMALL, loggers="mlflow", out=str(tmp_path / "run")))
