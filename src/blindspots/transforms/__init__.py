"""Input transformations for attacks that are to fool other models too; `TRANSFORMS` is the table of them by name.

An attack takes them as one text, joined by hyphens, each with its setting if need be: `si:5-ti:7-di:0.7`.
"""

from __future__ import annotations

from dataclasses import fields

from ..errors import BlindspotsError, unknown
from .diverse import Diverse
from .scales import Scales
from .transform import Transform
from .translation import Translation

TRANSFORMS: dict[str, type[Transform]] = {kind.name: kind for kind in (Diverse, Translation, Scales)}


def parse_transforms(text: str) -> tuple[Transform, ...]:
    """The transformations of a text.

    >>> parse_transforms("di-ti:7")
    (Diverse(probability=0.5), Translation(size=7))

    Raises:
        BlindspotsError: a name or a setting that there is not, or a transformation named twice.
    """
    found: list[Transform] = []
    for piece in filter(None, text.split("-")):
        name, colon, value = piece.partition(":")
        if name not in TRANSFORMS:
            raise unknown("transformation", name, TRANSFORMS)
        kind = TRANSFORMS[name]
        if any(isinstance(other, kind) for other in found):
            raise BlindspotsError(f"transforms '{text}' name {name} twice: name each once")
        found.append(kind(**{fields(kind)[0].name: _number(text, value)}) if colon else kind())
    return tuple(found)


def _number(text: str, value: str) -> int | float:
    try:
        return float(value) if "." in value else int(value)
    except ValueError:
        raise BlindspotsError(
            f"transforms '{text}' have '{value}' where a number is expected, as in di:0.7-ti:7"
        ) from None


__all__ = ["TRANSFORMS", "Diverse", "Scales", "Transform", "Translation", "parse_transforms"]
