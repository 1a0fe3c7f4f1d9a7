"""Adversarial training: over its bare cost, beside a hand-written loop and ART's trainer, and in two processes.

The first ratio is that of the time of the steps of an epoch (data, crafting, gradients, update of the weights) to the
bare cost of their forwards and backwards: k forwards and backwards down to the images through frozen parameters, and
one forward and backward of the weights, on the same batches, each timed right after the step that it belongs to, in
both memory formats, of which the one that is cheaper over the epoch counts.
The hand-written loop and ART's AdversarialTrainer (ratio 1, its PyTorch PGD) do PGD of the same steps from a random
start and train on it alone, over the same images in the same batches with the same optimiser.
Two processes share each batch of one run on a machine; where it has one core, they can be no faster than one. Their
sums are rounded otherwise than those of whole batches, and signs (those of PGD, and Adam's first steps, which are
nearly signs) make whole steps of a rounding; so they are compared with one process that cuts its batches in the same
two, and beside it with one that does not.
One step of linf 0.3 is trained on too: the accuracy on held-out images against that step and against PGD with 20 steps
after each epoch, and in which epochs the training said that it overfits to its own step.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import blindspots as bs
from blindspots.data import ImageData
from blindspots.training.alarms import CATASTROPHIC
from blindspots.training.directory import Directory
from blindspots.training.loop import Loop
from blindspots.training.preparation import new_state, set_up
from blindspots.training.team import Team

from .measure import Figure, at_least, at_most, information, timed
from .subjects import digit_data

STEPS, RADIUS, BATCH = 7, 0.3, 64
SIZE = 2.5 * RADIUS / STEPS
SETTINGS = bs.TrainSettings(
    network="small-cnn", epochs=1, batch=BATCH, method="pgd", method_settings={"radius": RADIUS, "steps": STEPS},
    schedule="constant", validation=0.0, normalisation="none", test_split="", device="cpu", threads=1,
)  # fmt: skip


def run(quick: bool) -> list[Figure]:
    count, rounds = (256, 3) if quick else (2048, 5)
    figures = []
    for network in ("small-cnn", "lenet:wide"):
        figures += _trainings(replace(SETTINGS, network=network), count, rounds)
    return [*figures, *_processes(512 if quick else 4096), _collapse(512 if quick else 20_000, 2 if quick else 6)]


def _trainings(settings: bs.TrainSettings, count: int, rounds: int) -> list[Figure]:
    data = digit_data("train", count)
    pixels, classes, _ = data.batch(0, count)
    bare, manual, art = [], [], []
    _art = _art_trainer(settings, pixels, classes) if find_spec("art") else None
    for _ in range(rounds):
        with _loop(settings, data) as loop:
            ours, least = 0.0, dict.fromkeys((torch.contiguous_format, torch.channels_last), 0.0)
            for rows in loop._batches():
                images, labels = loop.setup.training.batch(rows)[:2]
                ours += timed(lambda: loop._step(rows)).wall  # noqa: B023
                for layout in least:
                    laid = images.clone(memory_format=layout)
                    least[layout] += timed(lambda: _bare(loop.state.network, laid, labels)).wall  # noqa: B023
            bare.append(ours / min(least.values()))
        # Steps alone, without the bare work between them, and the others right after.
        with _loop(settings, data) as loop:
            ours = timed(lambda: [loop._step(rows) for rows in loop._batches()]).wall
            network, batches = loop.state.network, loop._batches()
        manual.append(ours / timed(lambda: _by_hand(network, pixels, classes, batches)).wall)  # noqa: B023
        if _art is not None:
            art.append(timed(_art).wall / ours)
    name = settings.network
    what = f"{name}: PGD-{STEPS} training of {count} images"
    return [
        at_most(f"{what}, over its forwards and backwards at bare cost", bare, 1.15),
        at_most(f"{what}, time over that of the hand-written loop", manual, 1.0),
        *([at_least(f"{what}, ART's AdversarialTrainer over it", art, 1.5)] if art else []),
    ]


@contextmanager
def _loop(settings: bs.TrainSettings, data: ImageData) -> Iterator[Loop]:
    """The loop of a fresh training, of which only the steps are run."""
    device = torch.device("cpu")
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        setup = set_up(settings, data, None, device)
        state = new_state(settings, setup)
        state.network.train()
        yield Loop(settings, setup, state, Directory(Path(folder)), lambda event: None, Team(device))


def _bare(network: nn.Module, images: Tensor, labels: Tensor) -> None:
    """The forwards and backwards of a step and nothing else."""
    for weight in network.parameters():
        weight.requires_grad_(False)
    for _ in range(STEPS):
        leaf = images.detach().requires_grad_()
        torch.autograd.grad(F.cross_entropy(network(leaf), labels, reduction="sum"), leaf)
    for weight in network.parameters():
        weight.requires_grad_(True)
    F.cross_entropy(network(images), labels).backward()
    network.zero_grad()


def _by_hand(network: nn.Module, images: Tensor, labels: Tensor, batches: tuple[Tensor, ...]) -> None:
    """An epoch of PGD training as it is written in many repositories."""
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    for rows in batches:
        x, y = images[rows], labels[rows]
        network.eval()
        delta = torch.empty_like(x).uniform_(-RADIUS, RADIUS)
        delta = (x + delta).clamp(0, 1) - x
        for _ in range(STEPS):
            delta.requires_grad_()
            loss = F.cross_entropy(network(x + delta), y)
            (gradient,) = torch.autograd.grad(loss, delta)
            delta = (delta.detach() + SIZE * gradient.sign()).clamp(-RADIUS, RADIUS)
            delta = (x + delta).clamp(0, 1) - x
        network.train()
        optimiser.zero_grad()
        F.cross_entropy(network(x + delta), y).backward()
        optimiser.step()


def _art_trainer(settings: bs.TrainSettings, images: Tensor, labels: Tensor) -> Callable[[], None]:
    """An epoch of ART's AdversarialTrainer."""
    from art.attacks.evasion.projected_gradient_descent.projected_gradient_descent_pytorch import (
        ProjectedGradientDescentPyTorch,
    )
    from art.defences.trainer import AdversarialTrainer
    from art.estimators.classification import PyTorchClassifier

    network = bs.build(settings.network, size=images.shape[-1])
    model = PyTorchClassifier(
        network, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.Adam(network.parameters(), lr=1e-3),
        input_shape=tuple(images.shape[1:]), nb_classes=10, clip_values=(0.0, 1.0), device_type="cpu",
    )  # fmt: skip
    attack = ProjectedGradientDescentPyTorch(
        model, norm="inf", eps=RADIUS, eps_step=SIZE, max_iter=STEPS, num_random_init=1, verbose=False, batch_size=BATCH
    )
    trainer = AdversarialTrainer(model, attack, ratio=1.0)
    x, y = images.numpy(), labels.numpy()
    return lambda: trainer.fit(x, y, batch_size=BATCH, nb_epochs=1)


def _processes(count: int) -> list[Figure]:
    """One run in two processes, in one that cuts its batches in the same two, and in one: losses and seconds."""
    curves: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    data = digit_data("train", count)
    ways: dict[str, dict[str, Any]] = {"one": {}, "two": {"processes": 2}, "pieces": {"accumulate": 2}}
    with tempfile.TemporaryDirectory() as name:
        for way, changes in ways.items():
            out = Path(name) / way
            bs.fit(replace(SETTINGS, epochs=2, validation=0.1, watch=0, out=str(out), **changes), data=data)
            lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
            curves[way] = [line[which] for line in lines for which in ("train_loss", "validation_loss")]
            timing = (out / "timing.jsonl").read_text().splitlines()
            seconds[way] = [json.loads(line)["seconds"] for line in timing]
    ratios = [one / two for one, two in zip(seconds["one"], seconds["two"], strict=True)]
    same, whole = (_apart(curves[way], curves["two"]) for way in ("pieces", "one"))
    return [
        Figure(
            "two processes, and one that cuts its batches in the same two: largest relative difference of a loss",
            f"{same:.1e}", "<= 1e-6", f"from one with whole batches {whole:.1e}", same <= 1e-6, {"curves": curves},
        ),
        information("speed of two processes over one", ratios, seconds=seconds),
    ]  # fmt: skip


def _apart(one: list[float], other: list[float]) -> float:
    return max(abs(a - b) / a for a, b in zip(one, other, strict=True))


def _collapse(count: int, epochs: int) -> Figure:
    """One-step training at a radius where it overfits to its step: what each epoch shows, and whether it is told."""
    with tempfile.TemporaryDirectory() as out:
        bs.fit(
            replace(
                SETTINGS, method="fgsm", method_settings={"radius": RADIUS}, epochs=epochs, validation=0.05,
                watch=1000, watch_steps=20, out=out,
            ),
            data=digit_data("train", count),
        )  # fmt: skip
        lines = [json.loads(line) for line in (Path(out) / "metrics.jsonl").read_text().splitlines()]
    told = [line["epoch"] for line in lines if CATASTROPHIC in line["alarms"]]
    shown = [f"{line['one_step_accuracy']:.1%} / {line['robust_accuracy']:.1%}" for line in lines]
    return Figure(
        f"one-step training at linf {RADIUS:g}, {count} images: epochs in which its overfitting is told",
        ", ".join(map(str, told)) or "none", "", f"one step / PGD-20 by epoch: {', '.join(shown)}",
        raw={"epochs": lines},
    )  # fmt: skip
