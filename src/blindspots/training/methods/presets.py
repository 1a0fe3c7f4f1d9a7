"""Trainings of papers by name: the method with its settings, and what else of the training the paper fixes.

`TrainSettings(method="madry-mnist")` takes the method and its settings; `preset("madry-mnist")` the whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A row of the table: a method, its settings, further fields of `TrainSettings`, and whose they are."""

    method: str
    method_settings: dict[str, Any]
    training: dict[str, Any] = field(default_factory=dict)
    source: str = ""


def _sgd(rate: float, decay: float, epochs: int, milestones: tuple[float, ...]) -> dict[str, Any]:
    """SGD with momentum 0.9 in batches of 128, its rate divided by ten at the milestones."""
    return {
        "optimiser": "sgd", "learning_rate": rate, "weight_decay": decay, "batch": 128, "epochs": epochs,
        "schedule": "steps", "milestones": milestones,
    }  # fmt: skip


MNIST: dict[str, Any] = {"data": "mnist"}
# Images of the papers are padded by 4 pixels, cropped and mirrored; our shift is the same.
CIFAR: dict[str, Any] = {"data": "cifar10", "network": "resnet20", "augmentation": "shift-flip"}

# "As recalled": settings that were not looked up in the paper or its code again.
PRESETS: dict[str, Preset] = {
    "goodfellow-mnist": Preset(
        "fgsm",
        {"radius": "0.25", "mixture": "average"},
        {**MNIST, "network": "fc500-150-10"},
        "Goodfellow et al. 2015, arXiv:1412.6572, whose network is a maxout network; as recalled",
    ),
    "madry-mnist": Preset(
        "pgd",
        {"radius": "0.3", "steps": 40, "step_size": 0.01},
        {
            **MNIST,
            "network": "lenet:wide",
            "normalisation": "none",
            "optimiser": "adam",
            "learning_rate": 1e-4,
            "schedule": "constant",
            "batch": 50,
            "epochs": 84,
        },
        "Madry et al. 2018, arXiv:1706.06083, and its code: 100 000 steps, 84 epochs of the 60 000 images",
    ),
    "madry-cifar10": Preset(
        "pgd",
        {"radius": "8/255", "steps": 7, "step_size": 2 / 255},
        {**CIFAR, **_sgd(0.1, 2e-4, 205, (0.5, 0.75))},
        "Madry et al. 2018, arXiv:1706.06083; as recalled",
    ),
    "fast-mnist": Preset(
        "fast",
        {"radius": "0.3", "step_size": 0.375},
        {**MNIST, "optimiser": "adam", "learning_rate": 5e-3, "schedule": "cyclic", "batch": 100, "epochs": 10},
        "Wong et al. 2020, arXiv:2001.03994, and its code; as recalled",
    ),
    "fast-cifar10": Preset(
        "fast",
        {"radius": "8/255", "step_size": 10 / 255},
        {**CIFAR, **_sgd(0.2, 5e-4, 15, ()), "schedule": "cyclic"},
        "Wong et al. 2020, arXiv:2001.03994, and its code; as recalled",
    ),
    "free-cifar10": Preset(
        "free",
        {"radius": "8/255", "replays": 8},
        {**CIFAR, **_sgd(0.1, 2e-4, 25, (0.5, 0.75))},
        "Shafahi et al. 2019, arXiv:1904.12843; as recalled",
    ),
    "trades-mnist": Preset(
        "trades",
        {"radius": "0.3", "steps": 40, "step_size": 0.01, "beta": 1.0},
        {**MNIST, **_sgd(0.01, 0.0, 100, (0.55, 0.75, 0.9))},
        "Zhang et al. 2019, arXiv:1901.08573, and its code; as recalled",
    ),
    "trades-cifar10": Preset(
        "trades",
        {"radius": "0.031", "steps": 10, "step_size": 0.007, "beta": 6.0},
        {**CIFAR, **_sgd(0.1, 2e-4, 100, (0.75, 0.9))},
        "Zhang et al. 2019, arXiv:1901.08573, and its code; as recalled",
    ),
    "mart-cifar10": Preset(
        "mart",
        {"radius": "0.031", "steps": 10, "step_size": 0.007, "beta": 5.0},
        {**CIFAR, **_sgd(0.01, 3.5e-3, 120, (0.625, 0.75, 0.833))},
        "Wang et al. 2020 (ICLR) and its code; as recalled",
    ),
    "awp-cifar10": Preset(
        "pgd",
        {"radius": "8/255", "steps": 10, "step_size": 2 / 255},
        {**CIFAR, **_sgd(0.1, 5e-4, 200, (0.5, 0.75)), "awp": 0.01},
        "Wu et al. 2020, arXiv:2004.05884; as recalled",
    ),
    "tramer-mnist": Preset(
        "ensemble",
        {"radius": "0.3"},
        {**MNIST, "network": "stadv-a", "learning_rate": 1e-3, "schedule": "constant", "batch": 64, "epochs": 12},
        "Tramer et al. 2018, arXiv:1705.07204, and its code: A against A, C, D; the sources are to be given",
    ),
    "szegedy-mnist": Preset(
        "pool",
        {"fresh": 20, "every": 50, "share": 0.5},
        {**MNIST, "network": "fc100-100-10"},
        "Szegedy et al. 2014, arXiv:1312.6199, section 4.2, whose sizes are unknown; here those of the method",
    ),
}
