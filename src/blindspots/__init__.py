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

from .lazy import names

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import analysis as analysis
    from . import style as style
    from .attack import Attack as Attack
    from .attacks import APGD as APGD
    from .attacks import APGDT as APGDT
    from .attacks import BIM as BIM
    from .attacks import CW as CW
    from .attacks import DDN as DDN
    from .attacks import EAD as EAD
    from .attacks import FAB as FAB
    from .attacks import FGM as FGM
    from .attacks import FGSM as FGSM
    from .attacks import FMN as FMN
    from .attacks import MIFGSM as MIFGSM
    from .attacks import NES as NES
    from .attacks import PDPGD as PDPGD
    from .attacks import PGD as PGD
    from .attacks import SPSA as SPSA
    from .attacks import Affine as Affine
    from .attacks import APGDNearest as APGDNearest
    from .attacks import AutoAttack as AutoAttack
    from .attacks import BisectedPGD as BisectedPGD
    from .attacks import Boundary as Boundary
    from .attacks import BrendelBethge as BrendelBethge
    from .attacks import DeepFool as DeepFool
    from .attacks import Ensemble as Ensemble
    from .attacks import Fast as Fast
    from .attacks import FlowBall as FlowBall
    from .attacks import GaussianNoise as GaussianNoise
    from .attacks import GeoDA as GeoDA
    from .attacks import HopSkipJump as HopSkipJump
    from .attacks import LegacyL1 as LegacyL1
    from .attacks import SigmaZero as SigmaZero
    from .attacks import SimBA as SimBA
    from .attacks import Square as Square
    from .attacks import StAdv as StAdv
    from .attacks import Style as Style
    from .attacks import Szegedy as Szegedy
    from .attacks import UniformNoise as UniformNoise
    from .attacks import Universal as Universal
    from .attacks import ensemble as ensemble
    from .classifiers import Classifier as Classifier
    from .data import dataset as dataset
    from .defences.judge import transfer as transfer
    from .defences.wrap import defend as defend
    from .errors import BlindspotsError as BlindspotsError
    from .evaluation.compare import compare as compare
    from .evaluation.driver import evaluate as evaluate
    from .evaluation.run import Run as Run
    from .exporting import export as export
    from .generative import Direct as Direct
    from .generative import Discriminated as Discriminated
    from .generative import FixedNoise as FixedNoise
    from .generative import Thresholded as Thresholded
    from .generative.generated import Generated as Generated
    from .goal import Goal as Goal
    from .models import build as build
    from .models import save_model as save_model
    from .models.generators import build_generator as build_generator
    from .record import Budget as Budget
    from .result import Result as Result
    from .studies import reproduce as reproduce
    from .training import TrainSettings as TrainSettings
    from .training import fit as fit
    from .training import preset as preset
    from .universal import UAP as UAP
    from .universal import Delta as Delta
    from .universal import Perturbation as Perturbation
    from .universal import UniversalPGD as UniversalPGD
    from .wrapping import classifier as classifier

# The names a user types, and where each lives; a module is imported when a name of it is first used.
_HOME = {
    "Affine": "attacks",
    "APGD": "attacks",
    "APGDNearest": "attacks",
    "APGDT": "attacks",
    "Attack": "attack",
    "AutoAttack": "attacks",
    "Ensemble": "attacks",
    "Fast": "attacks",
    "ensemble": "attacks",
    "BIM": "attacks",
    "BisectedPGD": "attacks",
    "BlindspotsError": "errors",
    "Boundary": "attacks",
    "BrendelBethge": "attacks",
    "Budget": "record",
    "CW": "attacks",
    "Classifier": "classifiers",
    "DDN": "attacks",
    "DeepFool": "attacks",
    "Delta": "universal",
    "Direct": "generative",
    "Discriminated": "generative",
    "EAD": "attacks",
    "FAB": "attacks",
    "FGM": "attacks",
    "FGSM": "attacks",
    "FlowBall": "attacks",
    "FMN": "attacks",
    "FixedNoise": "generative",
    "GaussianNoise": "attacks",
    "Generated": "generative.generated",
    "GeoDA": "attacks",
    "Goal": "goal",
    "HopSkipJump": "attacks",
    "LegacyL1": "attacks",
    "MIFGSM": "attacks",
    "NES": "attacks",
    "PGD": "attacks",
    "Perturbation": "universal",
    "Result": "result",
    "Run": "evaluation.run",
    "SPSA": "attacks",
    "SimBA": "attacks",
    "Square": "attacks",
    "PDPGD": "attacks",
    "SigmaZero": "attacks",
    "StAdv": "attacks",
    "Style": "attacks",
    "Szegedy": "attacks",
    "TrainSettings": "training",
    "Thresholded": "generative",
    "UAP": "universal",
    "UniformNoise": "attacks",
    "Universal": "attacks",
    "UniversalPGD": "universal",
    "build": "models",
    "build_generator": "models.generators",
    "classifier": "wrapping",
    "compare": "evaluation.compare",
    "dataset": "data",
    "defend": "defences.wrap",
    "evaluate": "evaluation.driver",
    "export": "exporting",
    "fit": "training",
    "preset": "training",
    "reproduce": "studies",
    "save_model": "models",
    "transfer": "defences.judge",
}

# Packages that are named whole, as in bs.analysis.Maps.
_PACKAGES = ("analysis", "style")

__all__ = ["__version__", *_HOME, *_PACKAGES]


_find = names(__name__, _HOME)


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f".{name}", __name__)
    return _find(name)


def __dir__() -> list[str]:
    return sorted(__all__)
