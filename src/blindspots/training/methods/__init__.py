"""The training methods, one a file; `METHODS` is the table of them by name, read without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from ...errors import BlindspotsError, unknown
from .fgsm import FGSMTraining
from .method import Method, Part
from .noise import Noise
from .pgd import PGDTraining
from .plain import Plain
from .presets import PRESETS, Preset

METHODS: dict[str, type[Method]] = {kind.name: kind for kind in (Plain, Noise, FGSMTraining, PGDTraining)}


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
                f"the training method {name} needs its {field.name}: give method_settings {field.name} ..., such as "
                f"{'0.3 or 8/255' if field.name == 'radius' else 'in docs/training.md'}"
            )
    return kind(**values)


__all__ = ["METHODS", "PRESETS", "Method", "Part", "Preset", "make_method"]
