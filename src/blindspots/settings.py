"""Checks and plain-value forms shared by all settings (frozen dataclasses): radii, ranges, choices."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from .errors import BlindspotsError


class Radius(float):
    """A radius in pixel units of [0, 1] that remembers how it was written.

    >>> r = Radius("8/255")
    >>> round(float(r), 6), str(r)
    (0.031373, '8/255')
    """

    text: str

    def __new__(cls, given: float | str) -> Radius:
        text = str(given).strip()
        try:
            top, _, bottom = text.partition("/")
            value = float(top) / (float(bottom) if bottom else 1.0)
        except (ValueError, ZeroDivisionError):
            raise BlindspotsError(
                f"radius '{given}' is not a number: write it as 0.03 or 8/255, in pixel units of [0, 1]"
            ) from None
        if not math.isfinite(value) or value < 0:
            raise BlindspotsError(f"radius must be a finite number that is not negative, got {given}")
        radius = super().__new__(cls, value)
        radius.text = text
        return radius

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def __reduce__(self) -> tuple[type[Radius], tuple[str]]:
        return (Radius, (self.text,))


def at_least(settings: Any, **bounds: float) -> None:
    """Refuse fields below their bound, and broken numbers in fields that count: `at_least(self, steps=1)`."""
    kinds = {field.name: field.type for field in dataclasses.fields(settings)}
    for name, bound in bounds.items():
        value = getattr(settings, name)
        if kinds.get(name) in ("int", int) and (isinstance(value, bool) or not isinstance(value, int)):
            raise BlindspotsError(f"{type(settings).__name__}.{name} must be a whole number, got {value!r}")
        if value is not None and not (value >= bound and math.isfinite(value)):
            raise BlindspotsError(f"{type(settings).__name__}.{name} must be at least {bound:g}, got {value}")


def above(settings: Any, **bounds: float) -> None:
    """Refuse fields that are not above their bound: `above(self, step_size=0)`."""
    for name, bound in bounds.items():
        value = getattr(settings, name)
        if value is not None and not (value > bound and math.isfinite(value)):
            raise BlindspotsError(f"{type(settings).__name__}.{name} must be above {bound:g}, got {value}")


def one_of(settings: Any, name: str, allowed: Iterable[str]) -> None:
    """Refuse a choice that is not on the list."""
    value, choices = getattr(settings, name), tuple(allowed)
    if value not in choices:
        raise BlindspotsError(f"{type(settings).__name__}.{name} must be one of {', '.join(choices)}, got '{value}'")


def read_radius(settings: Any, norm: str, field: str = "radius") -> None:
    """Turn the radius field as it was given ("8/255" or 0.03) into a `Radius`, checked against the norm."""
    radius = Radius(getattr(settings, field))
    who = f"{type(settings).__name__}.{field}"
    if norm == "linf" and radius > 1:
        raise BlindspotsError(
            f"{who} {radius} is larger than 1, the whole range of a pixel: radii are in units of [0, 1], write 8/255 "
            "for 8"
        )
    if norm == "l0" and not radius.is_integer():
        raise BlindspotsError(f"{who} counts changed values in l0 and must be a whole number, got {radius}")
    object.__setattr__(settings, field, radius)


def plain(settings: Any) -> dict[str, Any]:
    """The fields of a settings dataclass as values that JSON and TOML can hold."""
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return {name: str(value) if isinstance(value, Radius) else value for name, value in values.items()}
