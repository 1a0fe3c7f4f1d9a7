"""The jobs of a run: which attacks are made, at which radii, and which one takes over what another has found.

An attack that looks for the smallest change of each image is made once for all of its radii, at the largest. Any other
is made at each radius, the smallest first, and an image that is fooled within one radius is fooled within every larger
one: its adversarial image is taken over without a model call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..attack import Attack
from ..settings import plain
from ..several import Several


@dataclass(frozen=True)
class Planned:
    """An attack of a run, and as `radii`, where it looks for the smallest change, all that were asked for, ascending.

    `carries` is the number of the planned attack whose successes are taken over, the same at the next smaller radius.
    """

    attack: Attack | Several
    radii: tuple[str, ...] = ()
    carries: int | None = None


def plan_jobs(attacks: Sequence[Attack | Several]) -> list[Planned]:
    """The jobs that do these attacks, in the order in which their settings were first given."""
    families: dict[Any, list[Attack | Several]] = {}
    for attack in attacks:
        families.setdefault(_family(attack), []).append(attack)
    jobs: list[Planned] = []
    for attack in attacks:
        family = sorted(families[_family(attack)], key=_radius)
        if not answers_for_all(attack):
            jobs.append(Planned(attack))
        elif attack is next(one for one in attacks if _family(one) == _family(attack)):
            texts = {_radius(one): str(getattr(one, "radius")) for one in family}  # noqa: B009  all have one
            jobs.append(Planned(family[-1], tuple(texts.values())))
    return [replace(job, carries=_smaller(job, jobs)) for job in jobs]


def describe_jobs(planned: Sequence[Planned], targets: str | int | None) -> list[dict[str, Any]]:
    """The entries of the manifest, one a job.

    What only some jobs have is named in those alone: `members` of an ensemble, `radii` of a search for the smallest
    change, `knowledge` of an attack that may not ask for gradients, and `carries`, the id of the job of the next
    smaller radius, whose successes are taken over.
    """
    ids = [_identity(number, job.attack) for number, job in enumerate(planned)]
    return [_describe(job, own, ids, targets) for own, job in zip(ids, planned, strict=True)]


def answers_for_all(attack: Attack | Several) -> bool:
    """Does the attack look for the smallest change of each image, so that one run answers for every radius?"""
    return attack.minimum and getattr(attack, "keep", "smallest") == "smallest"


def in_turn(jobs: Sequence[dict[str, Any]]) -> list[str]:
    """The ids of the jobs in the order in which they are done: what a job takes over is found before it."""
    before = {job["id"]: job.get("carries") for job in jobs}
    done: dict[str, None] = {}
    for job in before:
        waiting: list[str] = []
        following: str | None = job
        while following is not None and following not in done:
            waiting.append(following)
            following = before[following]
        done.update(dict.fromkeys(reversed(waiting)))
    return list(done)


def _describe(job: Planned, own: str, ids: list[str], targets: str | int | None) -> dict[str, Any]:
    attack = job.attack
    settings, radius = plain(attack), getattr(attack, "radius")  # noqa: B009
    return {
        "id": own,
        "attack": attack.name,
        "norm": _norm(attack),
        "radius": float(radius),
        "radius_text": str(radius),
        "settings": settings,
        "targets": None if targets is None else str(targets),
        "control": attack.control,
        "steps": int(getattr(attack, "steps", settings.get("queries", settings.get("draws", 1)))),
        **({"members": [member.name for member in attack.members()]} if isinstance(attack, Several) else {}),
        **({"radii": list(job.radii)} if job.radii else {}),
        **({"knowledge": attack.knowledge} if attack.knowledge != "gradients" else {}),
        **({"carries": ids[job.carries]} if job.carries is not None else {}),
    }


def _smaller(job: Planned, jobs: list[Planned]) -> int | None:
    """The number of the job with the same settings and the next smaller radius; None where nothing is taken over.

    Noise is a control of its own at every radius. An attack that keeps the lowest objective is asked for images that
    are as strong as its radius allows, which those of a smaller one are not.
    """
    attack = job.attack
    keeps = isinstance(attack, Several) or attack.rule in ("first", "smallest")
    if attack.control or answers_for_all(attack) or not keeps:
        return None
    smaller = [
        (_radius(other.attack), -number)
        for number, other in enumerate(jobs)
        if _family(other.attack) == _family(attack) and _radius(other.attack) < _radius(attack)
    ]
    return -max(smaller)[1] if smaller else None


def _family(attack: Attack | Several) -> tuple[Any, ...]:
    """What jobs of one sweep over radii have in common."""
    settings = {name: value for name, value in plain(attack).items() if name != "radius"}
    return attack.name, _norm(attack), repr(sorted(settings.items()))


def _identity(number: int, attack: Attack | Several) -> str:
    text = str(getattr(attack, "radius")).replace("/", "_")  # noqa: B009
    return f"{number:02d}-{attack.name}-{_norm(attack)}-{text}"


def _norm(attack: Attack | Several) -> str:
    return str(getattr(attack, "norm", attack.norms[0]))


def _radius(attack: Attack | Several) -> float:
    return float(getattr(attack, "radius"))  # noqa: B009
