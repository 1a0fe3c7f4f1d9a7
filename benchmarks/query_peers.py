"""The black-box attacks of other libraries, called through their usual doors, counted by `Counter`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .counter import MOST, Counter, Finished
from .subjects import Subject

Work = Callable[[Subject, Tensor, int, float], Tensor]
SQUARE_QUERIES = 2000
SIMBA_STEP = 0.2
# SimBA takes no radius: one that holds every image.
ANY = 100.0


def square_torchattacks(norm: str) -> Work:
    """It draws one square for the whole batch; the whole set is one batch here."""

    def work(subject: Subject, starts: Tensor, seed: int, radius: float) -> Tensor:
        import torchattacks

        counter = Counter(subject, norm, radius, "nearest")
        attack = torchattacks.Square(
            counter, norm=norm.capitalize(), eps=radius, n_queries=SQUARE_QUERIES, p_init=0.8, seed=seed
        )
        with suppress(Finished):
            attack(subject.images, subject.labels)
        return counter.first

    return work


def square_art(norm: str) -> Work:
    def work(subject: Subject, starts: Tensor, seed: int, radius: float) -> Tensor:
        from art.attacks.evasion import SquareAttack

        counter = Counter(subject, norm, radius, "nearest")
        attack = SquareAttack(
            _art(counter), norm=np.inf if norm == "linf" else 2, max_iter=SQUARE_QUERIES, eps=radius, p_init=0.8,
            nb_restarts=1, batch_size=len(subject.images), verbose=False,
        )  # fmt: skip
        with suppress(Finished):
            attack.generate(subject.images.numpy(), np.eye(10)[subject.labels.numpy()])
        return counter.first

    return work


def simba_art(basis: str) -> Work:
    def work(subject: Subject, starts: Tensor, seed: int, radius: float) -> Tensor:
        from art.attacks.evasion import SimBA

        def one(counter: Counter, image: np.ndarray, label: np.ndarray, start: np.ndarray) -> None:
            SimBA(
                _art(counter), attack=basis, max_iter=MOST // 2, order="random", epsilon=SIMBA_STEP, freq_dim=4,
                stride=1, batch_size=1, verbose=False,
            ).generate(image, np.eye(10)[label])  # fmt: skip

        return _each(one, subject, starts, "l2", radius, softmax=True)

    return work


def boundary_foolbox(subject: Subject, starts: Tensor, seed: int, radius: float) -> Tensor:
    import foolbox

    counter = Counter(subject, "l2", radius, "aligned")
    model = foolbox.PyTorchModel(counter, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.BoundaryAttack(steps=MOST)
    with suppress(Finished):
        attack.run(model, subject.images, foolbox.criteria.Misclassification(subject.labels), starting_points=starts)
    return counter.first


def hopskipjump_foolbox(norm: str) -> Work:
    def work(subject: Subject, starts: Tensor, seed: int, radius: float) -> Tensor:
        import foolbox

        counter = Counter(subject, norm, radius, "aligned")
        model = foolbox.PyTorchModel(counter, bounds=(0, 1), device="cpu")
        attack = foolbox.attacks.HopSkipJumpAttack(steps=64, constraint=norm)
        criterion = foolbox.criteria.Misclassification(subject.labels)
        with suppress(Finished):
            attack.run(model, subject.images, criterion, starting_points=starts)
        return counter.first

    return work


def hopskipjump_art(norm: str) -> Work:
    def work(subject: Subject, starts: Tensor, seed: int, radius: float) -> Tensor:
        from art.attacks.evasion import HopSkipJump

        def one(counter: Counter, image: np.ndarray, label: np.ndarray, start: np.ndarray) -> None:
            HopSkipJump(
                _art(counter), norm=2 if norm == "l2" else np.inf, max_iter=64, init_eval=100, batch_size=256,
                verbose=False,
            ).generate(image, label, x_adv_init=start)  # fmt: skip

        return _each(one, subject, starts, norm, radius)

    return work


def _each(
    one: Callable[[Counter, np.ndarray, np.ndarray, np.ndarray], None],
    subject: Subject,
    starts: Tensor,
    norm: str,
    radius: float,
    softmax: bool = False,
) -> Tensor:
    """Attack one image after the other, so that every point asked is one of that image."""
    first = torch.zeros(len(subject.images), dtype=torch.int64)
    for row in range(len(first)):
        counter = Counter(subject, norm, radius, row, softmax)
        part = slice(row, row + 1)
        with suppress(Finished):
            one(counter, subject.images[part].numpy(), subject.labels[part].numpy(), starts[part].numpy())
        first[row] = counter.first[row]
    return first


def _art(counter: Counter) -> Any:
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(
        counter,
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=tuple(counter.subject.images.shape[1:]),
        nb_classes=10,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
