"""The table of the laws: every attack in every norm it offers, untargeted and targeted, plus what else changes its
path.

An attack that is entered in `ATTACKS` is picked up here by itself with its default settings; an entry in `SETTINGS`
makes it small and fast, and `test_law_table` asks for that entry.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blindspots.attack import Attack
from blindspots.attacks import ATTACKS

# Radii at which some of the images of the victim are fooled and some are not.
RADII = {"linf": 0.04, "l2": 0.3, "l1": 1.5, "l0": 4, "flow": 0.25, "affine": 0.25, "flow-linf": 0.03, "style": 0.25}

# Fitted by UAP("0.2", rate=1.0, screen=1, epochs=4) to uniform noise, as the victim's images are, towards class 0, the
# commonest of their random targets.
PERTURBATION = Path(__file__).with_name("perturbation.safetensors")
# Fitted by Thresholded("0.04", epochs=25, rate=1e-2, kappa=1, minibatch=40), a U-Net of width 2, to other such images.
GENERATED = Path(__file__).with_name("generated.safetensors")

# A StyleTransfer with random weights (features.relu1 and relu2 of small-cnn, two copies, width 4, one block, torch's
# start from seed 5, last.weight normal of 0.3) and three styles of uniform noise: what it draws is noise, and far off.
STYLE = PERTURBATION.with_name("style.safetensors")

# Constructor arguments that make an attack small; one entry an attack.
SETTINGS: dict[str, dict[str, Any]] = {
    "uniform-noise": {"draws": 4},
    "gaussian-noise": {"draws": 4},
    "fgsm": {},
    "fgm": {},
    "bim": {"steps": 6},
    "pgd": {"steps": 8, "restarts": 2},
    "mifgsm": {"steps": 6},
    "apgd": {"steps": 8, "restarts": 2},
    "apgd-t": {"steps": 5, "rivals": 2},
    "autoattack": {"version": "rand", "steps": 3, "eot": 2},
    "apgd-nearest": {"opening": 4, "steps": 6, "rivals": 2},
    "fast": {"opening": 4, "steps": 6, "rivals": 2, "closing": 6},
    "ensemble": {"attacks": "uniform-noise:draws=2+pgd:steps=4+apgd:steps=5,loss=dlr"},
    "bisected-pgd": {"steps": 5, "rounds": 4},
    "szegedy": {"steps": 5, "rounds": 2},
    "legacy-l1": {"steps": 8, "rate": 0.05, "weight": 20.0},
    "stadv": {"steps": 6, "halvings": 1},
    "affine": {"rotations": 3, "shifts": 3, "steps": 6},
    "flow-ball": {"steps": 6, "restarts": 2},
    "square": {"queries": 24},
    "geoda": {"queries": 90, "samples": 12, "draws": 6, "share": 1.0},
    "hopskipjump": {"queries": 90, "samples": 12, "draws": 6},
    "boundary": {"queries": 60, "draws": 6},
    "spsa": {"queries": 60, "pairs": 6},
    "nes": {"queries": 60, "pairs": 6},
    "simba": {"queries": 24},
    "deepfool": {"steps": 8},
    "ddn": {"steps": 6, "polish": 2},
    "fmn": {"steps": 6, "polish": 2},
    "cw": {"steps": 30, "rounds": 2, "polish": 2},
    "ead": {"steps": 6, "rounds": 3, "beta": 0.002, "polish": 2},
    "fab": {"steps": 3, "polish": 2},
    "pdpgd": {"steps": 6, "polish": 2},
    "sigma-zero": {"steps": 8, "rate": 0.1, "tau": 0.05, "thin": 2},
    "brendel-bethge": {"steps": 8, "draws": 6, "polish": 2},
    "perturbation": {"path": str(PERTURBATION)},
    "style": {"path": str(STYLE), "draws": 3, "levels": 2},
}

# Further settings that take another way through the code.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "fgsm": [{"loss": "margin"}],
    "pgd": [
        {"norm": "linf", "keep": "lowest"},
        {"norm": "l2", "keep": "smallest", "loss": "dlr"},
        {"norm": "l1", "keep": "lowest", "restarts": 1, "random_start": False},
        {"norm": "linf", "restarts": 1, "random_start": False, "loss": "margin"},
        {"norm": "linf", "restarts": 1, "loss": "dlr", "rivals": 3, "steps": 4},
        {"norm": "linf", "restarts": 1, "steps": 3, "transforms": "di-si:2"},
        {"norm": "l2", "restarts": 1, "steps": 3, "eot": 2},
    ],
    "apgd": [
        {"norm": "linf", "keep": "lowest", "restarts": 1},
        {"norm": "l2", "keep": "smallest", "loss": "dlr", "restarts": 1},
        {"norm": "l1", "loss": "margin", "restarts": 1, "narrowing": False, "eot": 2},
    ],
    "apgd-nearest": [{"norm": "linf", "rivals": 9, "patience": 0.5, "steps": 12}, {"norm": "l2", "patience": 0.0}],
    "fast": [{"norm": "linf", "closing": 0}],
    "apgd-t": [{"norm": "linf", "loss": "ce", "rivals": 9, "steps": 3, "eot": 2}],
    "mifgsm": [
        {"norm": "linf", "momentum": "ni", "transforms": "si:2-ti:3-di", "steps": 3},
        {"norm": "linf", "variance": 2, "steps": 3, "keep": "lowest"},
        {"norm": "l2", "momentum": "ni", "eot": 2, "steps": 3, "keep": "smallest"},
    ],
    "boundary": [{"norm": "l2", "keep": "smallest"}],
    "hopskipjump": [{"norm": "l2", "keep": "smallest"}],
    "geoda": [{"norm": "l2", "keep": "smallest"}],
    "brendel-bethge": [
        {"norm": "l2", "restarts": 2, "polish": 0, "momentum": 0.0},
        {"norm": "linf", "restarts": 1, "polish": 0},
    ],
    "simba": [{"norm": "l2", "basis": "dct", "loss": "margin"}],
    "deepfool": [{"norm": "l2", "rivals": 2, "polish": 0}],
    "fab": [
        {"norm": "l2", "one_by_one": True, "restarts": 3},
        {"norm": "linf", "restarts": 2, "rivals": 2},
        {"norm": "linf", "one_by_one": True, "restarts": 9, "keep": "first"},
    ],
    "szegedy": [{"norm": "l2", "squared": False, "start": "noise"}],
    "stadv": [
        {"solver": "adam", "start": "gaussian", "halvings": 1},
        {"flow_loss": "global", "kappa": 0.1, "padding": "zero", "neighbours": "von_neumann", "smoothing": 0.0},
        {"flow_loss": "mean", "iterate": "final"},
    ],
    "affine": [
        {"solver": "gradient", "rotation": 20.0, "zoom": 1.1, "restarts": 2},
        {"solver": "random", "fill": "border"},
        {"keep": "lowest", "rotation": 20.0, "zoom": 1.1, "zooms": 3, "rotations": 2, "shifts": 2},
    ],
    "perturbation": [{"norm": "linf", "path": str(GENERATED)}, {"norm": "l2", "path": str(GENERATED)}],
    "flow-ball": [{"random_start": False, "restarts": 1, "tau": 0.0, "loss": "ce", "keep": "lowest"}],
}


@dataclass(frozen=True)
class Case:
    """An attack in one norm, with or without targets."""

    attack: Attack
    norm: str
    targets: str | None

    def __str__(self) -> str:
        told = ("norm", "keep", "loss", "random_start", "squared", "solver", "flow_loss", "eot", "rivals")
        told += ("transforms", "momentum", "variance", "patience", "basis", "one_by_one", "closing", "polish", "thin")
        named = {k: v for k, v in vars(self.attack).items() if k in told and v != ""}
        if getattr(self.attack, "path", ""):
            named["path"] = Path(vars(self.attack)["path"]).stem
        words = [self.attack.name, self.norm, *(str(v) for k, v in named.items() if k != "norm"), self.targets or "any"]
        return "-".join(words)


def build(name: str, norm: str, **settings: Any) -> Attack:
    """The attack in that norm at the radius of the table."""
    kind = ATTACKS[name]
    fields = {field.name for field in dataclasses.fields(kind)}
    given = {"radius": RADII[norm], "norm": norm, **SETTINGS.get(name, {}), **settings}
    return kind(**{key: value for key, value in given.items() if key in fields})


def _cases() -> list[Case]:
    attacks = [(build(name, norm), norm) for name, kind in ATTACKS.items() for norm in kind.norms]
    for name, variants in VARIANTS.items():
        for variant in variants:
            norm = variant.get("norm", ATTACKS[name].norms[0])
            attacks.append((build(name, norm, **{k: v for k, v in variant.items() if k != "norm"}), norm))
    return [Case(attack, norm, targets) for attack, norm in attacks for targets in (None, "random")]


CASES = _cases()
# One case an attack, for laws in which the norm plays no part.
ONE_EACH = list({case.attack.name: case for case in CASES if case.targets is None}.values())
