"""An ensemble of any attacks, in the order given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

from ..attack import Attack
from ..errors import BlindspotsError
from ..geometry import BallName
from ..settings import one_of, plain, read_radius
from ..several import Member, Several, alike


@dataclass(frozen=True)
class Ensemble(Several):
    """Attacks run in order at one radius; an image leaves with its first success.

    On the command line `--attack "pgd:steps=20+apgd:loss=dlr"` is an ensemble; in Python `ensemble([PGD(...), ...])`
    makes one of attacks.

    Cost: that of its attacks, each on the images that those before it have left; the unchanged image is judged by the
    first alone, unless a search begins there.
    """

    name: ClassVar[str] = "ensemble"
    summary: ClassVar[str] = "attacks in order, each on the images that are left"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")

    radius: float | str
    """Radius of every attack, in pixel units of [0, 1], such as 0.03 or 8/255."""
    norm: BallName = "linf"
    """Norm of every attack: linf, l2 or l1."""
    attacks: str = "apgd+apgd-t"
    """The attacks joined by +, each with settings of its own if need be: pgd:steps=20,loss=dlr+apgd."""

    def __post_init__(self) -> None:
        one_of(self, "norm", self.norms)
        read_radius(self, self.norm)
        self.members()

    @property
    def steps(self) -> int:
        """The steps of the longest search, by which one-step attacks are told from others."""
        return max(int(getattr(member.attack, "steps", 1)) for member in self.members())

    def members(self) -> tuple[Member, ...]:
        from ..config import make_attacks, parse_attack

        texts = [text.strip() for text in self.attacks.split("+") if text.strip()]
        given = [parse_attack(text) for text in texts]
        if not given:
            raise BlindspotsError("Ensemble.attacks must name at least one attack, as in pgd:steps=20+apgd")
        for text, settings in zip(texts, given, strict=True):
            own = {"radius", "norm"} & set(settings)
            if own:
                raise BlindspotsError(
                    f"'{text}' in Ensemble.attacks has a {own.pop()} of its own: the attacks of an ensemble share its "
                    "radius and norm"
                )
        attacks = make_attacks(given, self.norm, (str(self.radius),))
        return tuple(Member(text, attack) for text, attack in zip(texts, attacks, strict=True))


def ensemble(attacks: Sequence[Attack | Several]) -> Ensemble:
    """The ensemble of these attacks, which must have one norm and one radius.

    >>> from blindspots.attacks import APGD, PGD
    >>> ensemble([PGD("8/255", steps=20), APGD("8/255", loss="dlr")])
    Ensemble(radius=8/255, norm='linf', attacks='pgd:steps=20+apgd:loss=dlr')
    """
    radius, norm = alike(tuple(attacks))
    return Ensemble(str(radius), norm, "+".join(_text(attack) for attack in attacks))  # type: ignore[arg-type]


def _text(attack: Attack | Several) -> str:
    """The attack as the command line takes it, without radius and norm, and with the settings that are not usual."""
    usual = {field.name: field.default for field in fields(attack)}
    said = [
        f"{name}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in plain(attack).items()
        if name not in ("radius", "norm") and value != usual[name]
    ]
    return f"{attack.name}:{','.join(said)}" if said else attack.name
