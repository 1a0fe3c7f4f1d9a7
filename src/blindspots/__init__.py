"""blindspots finds, measures, explains and closes the blind spots of image classifiers.

>>> import torch, blindspots as bs
>>> model = bs.classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)), batch=4)
>>> data = bs.dataset("digits", limit=4)
>>> images, labels, index = data.batch(0, 4)
>>> result = bs.PGD("0.1", steps=5)(model, images, labels)
>>> len(result.success)
4
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .attack import Attack as Attack
    from .attacks import BIM as BIM
    from .attacks import FGM as FGM
    from .attacks import FGSM as FGSM
    from .attacks import MIFGSM as MIFGSM
    from .attacks import PGD as PGD
    from .attacks import Affine as Affine
    from .attacks import BisectedPGD as BisectedPGD
    from .attacks import FlowBall as FlowBall
    from .attacks import GaussianNoise as GaussianNoise
    from .attacks import LegacyL1 as LegacyL1
    from .attacks import StAdv as StAdv
    from .attacks import Szegedy as Szegedy
    from .attacks import UniformNoise as UniformNoise
    from .classifiers import Classifier as Classifier
    from .data import dataset as dataset
    from .defences.judge import transfer as transfer
    from .defences.wrap import defend as defend
    from .errors import BlindspotsError as BlindspotsError
    from .evaluation.driver import evaluate as evaluate
    from .evaluation.run import Run as Run
    from .exporting import export as export
    from .goal import Goal as Goal
    from .models import build as build
    from .models import save_model as save_model
    from .record import Budget as Budget
    from .result import Result as Result
    from .studies import reproduce as reproduce
    from .training import TrainSettings as TrainSettings
    from .training import fit as fit
    from .wrapping import classifier as classifier

# The names a user types, and where each lives; a module is imported when a name of it is first used.
_HOME = {
    "Affine": "attacks",
    "Attack": "attack",
    "BIM": "attacks",
    "BisectedPGD": "attacks",
    "BlindspotsError": "errors",
    "Budget": "record",
    "Classifier": "classifiers",
    "FGM": "attacks",
    "FGSM": "attacks",
    "FlowBall": "attacks",
    "GaussianNoise": "attacks",
    "Goal": "goal",
    "LegacyL1": "attacks",
    "MIFGSM": "attacks",
    "PGD": "attacks",
    "Result": "result",
    "Run": "evaluation.run",
    "StAdv": "attacks",
    "Szegedy": "attacks",
    "TrainSettings": "training",
    "UniformNoise": "attacks",
    "build": "models",
    "classifier": "wrapping",
    "dataset": "data",
    "defend": "defences.wrap",
    "evaluate": "evaluation.driver",
    "export": "exporting",
    "fit": "training",
    "reproduce": "studies",
    "save_model": "models",
    "transfer": "defences.judge",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'blindspots' has no attribute '{name}'")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
