"""All attacks, one paper a file; `ATTACKS` is the table of them by name."""

from ..attack import Attack
from ..errors import unknown
from .affine import Affine
from .bim import BIM
from .bisected import BisectedPGD
from .fgm import FGM
from .fgsm import FGSM
from .flow_ball import FlowBall
from .legacy_l1 import LegacyL1
from .mifgsm import MIFGSM
from .noise import GaussianNoise, UniformNoise
from .pgd import PGD
from .stadv import StAdv
from .szegedy import Szegedy

ATTACKS: dict[str, type[Attack]] = {
    attack.name: attack
    for attack in (
        *(UniformNoise, GaussianNoise, FGSM, FGM, BIM, PGD, MIFGSM, BisectedPGD),
        *(Szegedy, LegacyL1, StAdv, Affine, FlowBall),
    )
}


def attack_named(name: str) -> type[Attack]:
    """The attack of that name, as `blindspots list attacks` shows them."""
    if name not in ATTACKS:
        raise unknown("attack", name, ATTACKS)
    return ATTACKS[name]


__all__ = [
    "ATTACKS",
    "BIM",
    "FGM",
    "FGSM",
    "MIFGSM",
    "PGD",
    "Affine",
    "BisectedPGD",
    "FlowBall",
    "GaussianNoise",
    "LegacyL1",
    "StAdv",
    "Szegedy",
    "UniformNoise",
    "attack_named",
]
