"""The same attack in other libraries, called through their usual doors: projected gradient descent in linf.

Each job returns the images, and knows which of them fool the network when it ends: Foolbox and ART find out by
themselves; for torchattacks one forward of what it returned is added, as its users do.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

from .subjects import Subject

Attack = Callable[[], Tensor]


def installed() -> dict[str, Callable[[Subject, float, float, int, int | None], Attack]]:
    """The libraries that are here, by the name people know them by."""
    all_ = {
        "Foolbox": ("foolbox", foolbox),
        "torchattacks": ("torchattacks", torchattacks),
        "ART": ("art", art),
    }
    return {name: make for name, (module, make) in all_.items() if find_spec(module)}


def foolbox(subject: Subject, radius: float, step: float, steps: int, batch: int | None) -> Attack:
    """Foolbox LinfPGD. It attacks what it is given in one piece, so a smaller batch is cut by hand."""
    import foolbox as fb

    model = fb.PyTorchModel(subject.module, bounds=(0, 1), device="cpu")
    attack = fb.attacks.LinfPGD(abs_stepsize=step, steps=steps, random_start=True)

    def work() -> Tensor:
        return torch.cat([attack(model, x, y, epsilons=radius)[1] for x, y in _parts(subject, batch)])

    return work


def torchattacks(subject: Subject, radius: float, step: float, steps: int, batch: int | None) -> Attack:
    """torchattacks PGD. It attacks what it is given in one piece, so a smaller batch is cut by hand."""
    import torchattacks as ta

    attack = ta.PGD(subject.module, eps=radius, alpha=step, steps=steps, random_start=True)

    def work() -> Tensor:
        parts = []
        for x, y in _parts(subject, batch):
            parts.append(attack(x, y))
            _fooled(subject, parts[-1], y)
        return torch.cat(parts)

    return work


def art(subject: Subject, radius: float, step: float, steps: int, batch: int | None) -> Attack:
    """ART ProjectedGradientDescentPyTorch, which cuts batches by itself (32 unless told otherwise)."""
    from art.attacks.evasion.projected_gradient_descent.projected_gradient_descent_pytorch import (
        ProjectedGradientDescentPyTorch,
    )
    from art.estimators.classification import PyTorchClassifier

    model = PyTorchClassifier(
        subject.module,
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=tuple(subject.images.shape[1:]),
        nb_classes=10,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    attack = ProjectedGradientDescentPyTorch(
        model, norm="inf", eps=radius, eps_step=step, max_iter=steps, num_random_init=1, verbose=False,
        **({} if batch is None else {"batch_size": batch}),
    )  # fmt: skip
    images, labels = subject.images.numpy(), subject.labels.numpy()

    def work() -> Tensor:
        return torch.from_numpy(attack.generate(images, labels))

    return work


@torch.no_grad()
def _fooled(subject: Subject, images: Tensor, labels: Tensor) -> Tensor:
    return subject.module(images).argmax(1) != labels


def _parts(subject: Subject, batch: int | None) -> list[tuple[Tensor, Tensor]]:
    size = batch or len(subject.images)
    return list(zip(subject.images.split(size), subject.labels.split(size), strict=True))
