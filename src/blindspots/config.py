"""Settings from text: attacks and defences named on the command line or in a TOML file, strictly typed, no fallback."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from .attack import Attack
from .attacks import attack_named
from .defences import Defence, defence_named
from .errors import BlindspotsError, unknown
from .geometry import NORM_NAMES
from .several import Several

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def parse_attack(text: str) -> dict[str, Any]:
    """An attack as written on the command line: `NAME` or `NAME:key=value,key=value`; joined by + they are an ensemble.

    >>> parse_attack("pgd:steps=100,radius=8/255,random_start=false")
    {'name': 'pgd', 'steps': 100, 'radius': '8/255', 'random_start': False}
    """
    if "+" in text and not text.strip().startswith("ensemble"):
        return {"name": "ensemble", "attacks": text}
    return parse_named(text, "attack", "pgd:steps=100,norm=l2")


def parse_defence(text: str) -> dict[str, Any]:
    """A defence as written on the command line: `NAME`, `NAME:key=value,key=value`, or `NAME:VALUE` of its first key.

    >>> parse_defence("mean-blur:5")
    {'name': 'mean-blur', 'size': 5}
    """
    name, _, rest = text.partition(":")
    if rest and not set("=,") & set(rest):
        kind = defence_named(name.strip())
        return {"name": kind.name, fields(kind)[0].name: _literal(rest.strip())}
    return parse_named(text, "defence", "gaussian-blur:sigma=1.5")


def make_attack(given: dict[str, Any]) -> Attack | Several:
    """An attack from its name and settings, each checked against the type of its field.

    Raises:
        BlindspotsError: an unknown attack or setting, a value of another type, or an impossible one.
    """
    if "name" not in given:
        raise BlindspotsError(f"an attack needs a name, got only {', '.join(given) or 'nothing'}")
    kind = attack_named(str(given["name"]))
    settings = checked_settings(kind, kind.name, with_own_radius(given))
    if "radius" not in settings:
        raise BlindspotsError(f"{kind.name} needs a radius, such as 0.03 or 8/255: give --radius")
    return kind(**settings)


def with_own_radius(given: dict[str, Any]) -> dict[str, Any]:
    """The settings of an attack, completed by the radius that it has by itself; most have none."""
    if "name" not in given:
        return given
    kind = attack_named(str(given["name"]))
    own = {field.name: field.default for field in fields(kind) if field.default is not MISSING}
    return {"radius": own["radius"], **given} if "radius" in own else given


def make_defence(given: dict[str, Any]) -> Defence:
    """A defence from its name and settings, each checked against the type of its field.

    Raises:
        BlindspotsError: an unknown defence or setting, a value of another type, or an impossible one.
    """
    kind = defence_named(str(given.get("name")))
    return kind(**checked_settings(kind, kind.name, given))


def make_attacks(given: Sequence[dict[str, Any]], norm: str | None, radii: Sequence[str]) -> list[Attack | Several]:
    """The attacks at every radius; those that name their own radius have that one alone.

    Args:
        given: settings of each attack, with its name.
        norm: the norm for attacks that have a choice and did not choose; those of another norm are refused.
        radii: radii of the attacks that name none.
    """
    if norm is not None and norm not in NORM_NAMES:
        raise unknown("norm", norm, NORM_NAMES)
    attacks: list[Attack | Several] = []
    for place, radius in enumerate(radii or (None,)):
        for settings in given:
            if place == 0 or "radius" not in settings:
                attacks.append(make_attack(_completed(settings, norm, radius)))
    return attacks


def read_toml(path: str) -> dict[str, Any]:
    """A configuration file as a dict with `_` for `-` in its keys."""
    try:
        with Path(path).open("rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise BlindspotsError(f"the configuration '{path}' cannot be read: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise BlindspotsError(f"the configuration '{path}' is not TOML: {error}") from None
    return {key.replace("-", "_"): value for key, value in table.items()}


def _completed(settings: dict[str, Any], norm: str | None, radius: str | None) -> dict[str, Any]:
    """The settings with norm and radius filled in where the attack leaves them open."""
    kind = attack_named(str(settings.get("name")))
    full = dict(settings)
    if norm is not None and "norm" not in settings:
        if norm not in kind.norms:
            raise BlindspotsError(
                f"{kind.name} works in {' and '.join(kind.norms)}, not in {norm}: choose another attack or norm"
            )
        if "norm" in {field.name for field in fields(kind)}:
            full["norm"] = norm
    if radius is not None:
        full.setdefault("radius", radius)
    return full


def parse_named(text: str, what: str, example: str) -> dict[str, Any]:
    """The name and the settings of a text `NAME:key=value,key=value`."""
    name, _, rest = text.partition(":")
    settings: dict[str, Any] = {"name": name.strip()}
    for piece in filter(None, (p.strip() for p in rest.split(","))):
        key, equals, value = piece.partition("=")
        if not equals:
            raise BlindspotsError(f"{what} '{text}' has '{piece}' where key=value is expected, as in {example}")
        settings[key.strip().replace("-", "_")] = _literal(value.strip())
    return settings


def checked_settings(kind: type[DataclassInstance], name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The settings given for the fields of a kind, each checked against the type of its field."""
    known = {field.name for field in fields(kind)}
    hints = get_type_hints(kind)
    settings = {key: value for key, value in given.items() if key != "name"}
    for key, value in settings.items():
        if key not in known:
            raise unknown(f"setting of {name}", key, known)
        settings[key] = _checked(f"{kind.__name__}.{key}", value, hints[key])
    return settings


def _literal(text: str) -> Any:
    """A value as TOML reads it, or the text itself (radii such as 8/255, names)."""
    try:
        return tomllib.loads(f"value = {text.lower() if text in ('True', 'False') else text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _checked(name: str, value: Any, hint: Any) -> Any:
    """The value if it fits the type; whole numbers fit floats, nothing else is converted."""
    options = get_args(hint) or (hint,)
    if any(isinstance(option, str) for option in options):  # a Literal
        if value in options:
            return value
        raise BlindspotsError(f"{name} must be one of {', '.join(map(str, options))}, got '{value}'")
    if isinstance(value, bool):
        fits = bool in options
    elif isinstance(value, int):
        fits = int in options or float in options
    else:
        fits = any(isinstance(option, type) and isinstance(value, option) for option in options)
    if not fits:
        wanted = " or ".join(_KINDS.get(option, str(option)) for option in options)
        raise BlindspotsError(f"{name} must be {wanted}, got {value!r}")
    return value


_KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "nothing"}
