"""The training methods, one a file; `METHODS` is the table of them by name, read without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from ...errors import BlindspotsError, unknown
from .attack import AttackTraining
from .ensemble import EnsembleTraining
from .fast import Fast
from .fgm import FGMTraining
from .fgsm import FGSMTraining
from .free import Free
from .generator import GeneratorTraining
from .mart import MART
from .method import Method, Part
from .mix import Mix
from .noise import Noise
from .pgd import PGDTraining
from .plain import Plain
from .pool import Pool
from .presets import PRESETS, Preset
from .stadv import StAdvTraining
from .trades import TRADES
from .universal import UniversalTraining

METHODS: dict[str, type[Method]] = {
    kind.name: kind
    for kind in (
        *(Plain, Noise, FGSMTraining, FGMTraining, PGDTraining, Fast, Free),
        *(TRADES, MART, EnsembleTraining, Pool, StAdvTraining, UniversalTraining, GeneratorTraining),
        *(AttackTraining, Mix),
    )
}


def make_method(name: str, settings: Mapping[str, Any]) -> Method:
    """A method from its name, or the name of a preset, and its settings; those of a preset are overridden by name.

    Raises:
        BlindspotsError: an unknown method or setting, one that is missing, or a value that cannot be used.

    >>> make_method("pgd", {"radius": "8/255", "steps": 7}).steps
    7
    """
    from ...config import checked_settings

    if name in PRESETS:
        preset = PRESETS[name]
        name, settings = preset.method, {**preset.method_settings, **settings}
    if name not in METHODS:
        raise unknown("training method", name, [*METHODS, *PRESETS])
    kind = METHODS[name]
    values = checked_settings(kind, f"method {name}", dict(settings))
    for field in fields(kind):
        if field.default is MISSING and field.name not in values:
            raise BlindspotsError(
                f"the training method {name} needs its {field.name}: give method_settings {field.name} "
                f"{_EXAMPLES.get(field.name, '...')}"
            )
    return kind(**values)


def check_ball(method: Method, shape: tuple[int, int, int]) -> None:
    """Refuse a radius that is larger than the whole range of images (C, H, W) in [0, 1]."""
    if method.ball is None:
        return
    (norm, radius), values = method.ball, shape[0] * shape[1] * shape[2]
    largest = {"linf": 1.0, "l2": values**0.5, "l1": float(values)}[norm]
    if radius > largest:
        raise BlindspotsError(
            f"the radius {radius:g} of the method {method.name} in {norm} is larger than {largest:g}, the whole "
            f"range of images of shape {shape} in [0, 1]: give a smaller one, in pixel units of [0, 1]"
        )


_EXAMPLES = {
    "radius": "0.3, or 8/255",
    "attack": "pgd:radius=0.3,steps=10",
    "methods": "pgd:radius=0.3+fgm:radius=2",
}

__all__ = ["METHODS", "PRESETS", "Method", "Part", "Preset", "check_ball", "make_method"]
