"""`blindspots evaluate`: how robust is this model, with evidence."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

import tyro

from ..config import make_attack, make_attacks, parse_attack, read_toml, with_own_radius
from ..errors import BlindspotsError, unknown
from .options import Command, DataOptions, ModelOptions, RunOptions
from .progress import run_evaluation

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Evaluate(Command):
    """Measure how robust a model is: run directory, HTML report, summary.

    Without arguments: a small network trained on the digits, attacked at the usual radii. Killed at any moment, the
    same command goes on where it was.
    """

    attack: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """An attack, with settings of its own if need be: --attack pgd --attack pgd:steps=100,restarts=5. May be repeated.
    Default: uniform noise as a control, fast, and stadv with few steps."""
    perturbation: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """File of a fitted perturbation (blindspots fit), evaluated like an attack at its own radius. May be repeated."""
    radius: tuple[str, ...] = ()
    """Radii in pixel units of [0, 1], such as 0.03 or 8/255. Default: those usual for the data."""
    norm: Literal["linf", "l2", "l1"] | None = None
    """Norm of the radii, for attacks that have a choice. Default: linf."""
    model: ModelOptions = field(default_factory=ModelOptions)
    data: DataOptions = field(default_factory=DataOptions)
    options: RunOptions = field(default_factory=RunOptions)
    config: str | None = None
    """TOML file with these flags as keys, and attacks as a list of tables ([[attacks]] name = "pgd", steps = 100).
    Flags given beside it win."""
    config_attacks: tyro.conf.Suppress[tuple[dict[str, Any], ...]] = ()

    def run(self, console: Console) -> None:
        from ..evaluation.defaults import default_attacks, default_radii

        data = self.data.load(self.options.seed)
        given = [parse_attack(text) for text in self.attack] or list(self.config_attacks)
        # Norm and radius are those of the file, whatever is given for the others.
        given += [{"name": "perturbation", "path": path, "norm": "", "radius": None} for path in self.perturbation]
        if given:
            if not self.radius:
                given = [with_own_radius(settings) for settings in given]
            # A radius must come from somewhere: from each attack, from --radius, or from what is usual for the data.
            open_ones = [settings for settings in given if "radius" not in settings]
            for settings in open_ones:
                make_attack({**settings, "radius": "0"})  # a mistake in the rest is told first
            radii = self.radius or (default_radii(data.name, self.norm or _norm(open_ones)) if open_ones else ())
            attacks = make_attacks(given, self.norm, radii)
        else:
            attacks = default_attacks(data.name, self.norm or "linf", self.radius)
        run_evaluation(console, self.model.load(data), data, attacks, self.options)


def with_config(arguments: list[str]) -> tuple[list[str], Evaluate | None]:
    """Take --config FILE out of the arguments; its values become the defaults of the flags."""
    rest, path = [], None
    words = iter(arguments)
    for word in words:
        if word == "--config":
            path = next(words, None)
            if path is None:
                raise BlindspotsError("--config needs a file")
        elif word.startswith("--config="):
            path = word.partition("=")[2]
        else:
            rest.append(word)
    return (rest, _from_toml(path)) if path is not None else (rest, None)


def _from_toml(path: str) -> Evaluate:
    table = read_toml(path)
    attacks = table.pop("attacks", [])
    if not isinstance(attacks, list) or not all(isinstance(entry, dict) for entry in attacks):
        raise BlindspotsError(f"'attacks' in '{path}' must be a list of tables: [[attacks]] with name = \"pgd\"")
    groups: dict[str, Any] = {"model": ModelOptions(), "data": DataOptions(), "options": RunOptions()}
    place = {item.name: group for group, part in groups.items() for item in fields(part)}
    own: dict[str, Any] = {"attack": (), "perturbation": (), "radius": (), "norm": None}
    for key, value in table.items():
        if key == "norm":
            own["norm"] = value
        elif key in own:
            own[key] = tuple(str(entry) for entry in (value if isinstance(value, list) else [value]))
        elif key in place:
            group = place[key]
            groups[group] = replace(groups[group], **{key: _fitting(path, key, value, groups[group])})
        else:
            raise unknown(f"key in '{path}'", key, [*own, "attacks", *place])
    return Evaluate(**own, **groups, config=path, config_attacks=tuple(attacks))


def _fitting(path: str, key: str, value: Any, part: Any) -> Any:
    """A TOML value for a flag: lists become tuples; numbers given for a text are refused, and so is the reverse."""
    hint = get_type_hints(type(part))[key]
    several = get_origin(hint) is tuple
    if key in ("targets", "part"):
        return str(value)
    options = [option for option in (get_args(hint) or (hint,)) if option not in (type(None), Ellipsis)]
    kinds = tuple(option if isinstance(option, type) else str for option in options)
    kinds = (*kinds, int) if float in kinds else kinds
    for entry in value if several and isinstance(value, list) else [value]:
        if (isinstance(entry, bool) and bool not in kinds) or not isinstance(entry, kinds):
            wanted = " or ".join(dict.fromkeys(k.__name__ for k in kinds))
            raise BlindspotsError(f"'{key}' in '{path}' must be {wanted}, got {entry!r}")
    if several:
        return tuple(value) if isinstance(value, list) else (value,)
    return value


def _norm(given: list[dict[str, Any]]) -> str:
    """The norm that usual radii are asked for: the one the attacks name, or have by themselves."""
    from ..attacks import attack_named

    norms = {str(s["norm"]) if "norm" in s else attack_named(str(s["name"])).norms[0] for s in given}
    if len(norms) > 1:
        raise BlindspotsError(
            f"the attacks are in several norms ({', '.join(sorted(norms))}): give each a radius, as in pgd:radius=0.1"
        )
    return norms.pop()
