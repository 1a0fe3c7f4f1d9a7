"""All attacks, one paper a file; `ATTACKS` is the table of them by name."""

from ..attack import Attack
from ..errors import unknown
from ..several import Several
from .affine import Affine
from .apgd import APGD
from .apgd_nearest import APGDNearest
from .apgd_t import APGDT
from .autoattack import AutoAttack
from .bim import BIM
from .bisected import BisectedPGD
from .boundary import Boundary
from .brendel_bethge import BrendelBethge
from .cw import CW
from .ddn import DDN
from .deepfool import DeepFool
from .ead import EAD
from .ensembles import Ensemble, ensemble
from .fab import FAB
from .fast import Fast
from .fgm import FGM
from .fgsm import FGSM
from .flow_ball import FlowBall
from .fmn import FMN
from .geoda import GeoDA
from .hopskipjump import HopSkipJump
from .legacy_l1 import LegacyL1
from .mifgsm import MIFGSM
from .nes import NES
from .noise import GaussianNoise, UniformNoise
from .pdpgd import PDPGD
from .pgd import PGD
from .sigma_zero import SigmaZero
from .simba import SimBA
from .spsa import SPSA
from .square import Square
from .stadv import StAdv
from .style import Style
from .szegedy import Szegedy
from .universal import Universal

ATTACKS: dict[str, type[Attack] | type[Several]] = {
    attack.name: attack
    for attack in (
        *(UniformNoise, GaussianNoise, FGSM, FGM, BIM, PGD, MIFGSM, APGD, APGDT, BisectedPGD),
        *(DeepFool, DDN, FMN, CW, EAD, FAB, PDPGD, SigmaZero, BrendelBethge),
        *(Szegedy, LegacyL1, StAdv, Affine, FlowBall),
        *(Square, SimBA, NES, SPSA, Boundary, HopSkipJump, GeoDA),
        *(Universal, Style),
        *(APGDNearest, Fast, AutoAttack, Ensemble),
    )
}


def attack_named(name: str) -> type[Attack] | type[Several]:
    """The attack of that name, as `blindspots list attacks` shows them."""
    if name not in ATTACKS:
        raise unknown("attack", name, ATTACKS)
    return ATTACKS[name]


__all__ = [
    "APGD",
    "APGDT",
    "ATTACKS",
    "BIM",
    "CW",
    "DDN",
    "EAD",
    "FAB",
    "FGM",
    "FGSM",
    "FMN",
    "MIFGSM",
    "NES",
    "PDPGD",
    "PGD",
    "SPSA",
    "APGDNearest",
    "Affine",
    "AutoAttack",
    "BisectedPGD",
    "Boundary",
    "BrendelBethge",
    "DeepFool",
    "Ensemble",
    "Fast",
    "FlowBall",
    "GaussianNoise",
    "GeoDA",
    "HopSkipJump",
    "LegacyL1",
    "SigmaZero",
    "SimBA",
    "Square",
    "StAdv",
    "Style",
    "Szegedy",
    "UniformNoise",
    "Universal",
    "attack_named",
    "ensemble",
]
