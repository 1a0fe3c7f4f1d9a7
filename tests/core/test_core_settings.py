"""Settings: radii as they are written, and the sentences with which impossible ones are refused."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from pathlib import Path

import pytest

from blindspots import (
    APGD,
    APGDT,
    BIM,
    CW,
    DDN,
    EAD,
    FAB,
    FGM,
    FGSM,
    FMN,
    MIFGSM,
    NES,
    PDPGD,
    PGD,
    SPSA,
    Affine,
    APGDNearest,
    AutoAttack,
    BisectedPGD,
    BlindspotsError,
    Boundary,
    BrendelBethge,
    DeepFool,
    Ensemble,
    Fast,
    FlowBall,
    GaussianNoise,
    GeoDA,
    HopSkipJump,
    LegacyL1,
    SigmaZero,
    SimBA,
    Square,
    StAdv,
    Style,
    Szegedy,
    UniformNoise,
    Universal,
    ensemble,
)
from blindspots.attacks import ATTACKS, attack_named
from blindspots.settings import Radius, plain

NOT_A_NUMBER = "radius '{}' is not a number: write it as 0.03 or 8/255, in pixel units of [0, 1]"
TOO_LARGE = "{}.radius {} is larger than 1, the whole range of a pixel: radii are in units of [0, 1], write 8/255 for 8"

# What an attack needs to be made at all, besides a radius.
NEEDED = {
    "autoattack": {"version": "rand"},
    "perturbation": {"path": str(Path(__file__).parents[1] / "laws" / "perturbation.safetensors")},
    "style": {"path": str(Path(__file__).parents[1] / "laws" / "style.safetensors"), "draws": 3},
}

# Every way to be refused, attack by attack, with the exact sentence.
REFUSED = [
    (
        lambda: StAdv(kappa=-1),
        "StAdv.kappa must not be negative: it enters as max(margin, -kappa), so that larger values ask for more, got "
        "-1",
    ),
    (lambda: StAdv(tau=0), "StAdv.tau must be above 0, got 0"),
    (lambda: StAdv(solver="newton"), "StAdv.solver must be one of lbfgs, adam, got 'newton'"),
    (lambda: StAdv(tau=-0.1), "StAdv.tau must be above 0, got -0.1"),
    (lambda: StAdv(tau=float("nan")), "StAdv.tau must be above 0, got nan"),
    (lambda: Affine(zoom=0.5), "Affine.zoom must be at least 1, got 0.5"),
    (lambda: Affine(rotations=0), "Affine.rotations must be at least 1, got 0"),
    (lambda: Affine(solver="newton"), "Affine.solver must be one of grid, random, gradient, got 'newton'"),
    (lambda: FlowBall(8), TOO_LARGE.format("FlowBall", "8")),
    (lambda: FlowBall(0.1, tau=-1), "FlowBall.tau must be at least 0, got -1"),
    (lambda: FlowBall(0.1, bend=0), "FlowBall.bend must be above 0, got 0"),
    (
        lambda: FlowBall(0.1, restarts=2, random_start=False),
        "FlowBall.restarts 2 without a random start would repeat the same run: set random_start or restarts=1",
    ),
    (lambda: Szegedy(1, loss="dlr"), "Szegedy.loss must be one of ce, margin, got 'dlr'"),
    (lambda: LegacyL1(1, steps=0), "LegacyL1.steps must be at least 1, got 0"),
    (lambda: FGSM("eight"), NOT_A_NUMBER.format("eight")),
    (lambda: FGSM("8/0"), NOT_A_NUMBER.format("8/0")),
    (lambda: FGSM("1/2/3"), NOT_A_NUMBER.format("1/2/3")),
    (lambda: FGSM(""), NOT_A_NUMBER.format("")),
    (lambda: FGSM(None), NOT_A_NUMBER.format("None")),
    (lambda: FGSM(-0.1), "radius must be a finite number that is not negative, got -0.1"),
    (lambda: FGSM("nan"), "radius must be a finite number that is not negative, got nan"),
    (lambda: FGSM("inf"), "radius must be a finite number that is not negative, got inf"),
    (lambda: FGSM(8), TOO_LARGE.format("FGSM", "8")),
    (lambda: FGSM(0.1, loss="mse"), "FGSM.loss must be one of ce, margin, dlr, got 'mse'"),
    (lambda: FGM(-1), "radius must be a finite number that is not negative, got -1"),
    (lambda: FGM(1, loss="logits"), "FGM.loss must be one of ce, margin, dlr, got 'logits'"),
    (lambda: BIM(8), TOO_LARGE.format("BIM", "8")),
    (lambda: BIM(0.1, steps=0), "BIM.steps must be at least 1, got 0"),
    (lambda: BIM(0.1, steps=2.5), "BIM.steps must be a whole number, got 2.5"),
    (lambda: BIM(0.1, step_size=0), "BIM.step_size must be above 0, got 0"),
    (lambda: BIM(0.1, loss="x"), "BIM.loss must be one of ce, margin, dlr, got 'x'"),
    (lambda: PGD("255/255", steps=0), "PGD.steps must be at least 1, got 0"),
    (lambda: PGD(16), TOO_LARGE.format("PGD", "16")),
    (lambda: PGD(0.1, steps="40"), "PGD.steps must be a whole number, got '40'"),
    (lambda: PGD(0.1, steps=True), "PGD.steps must be a whole number, got True"),
    (lambda: PGD(0.1, norm="l0"), "PGD.norm must be one of linf, l2, l1, got 'l0'"),
    (lambda: PGD(0.1, norm="inf"), "PGD.norm must be one of linf, l2, l1, got 'inf'"),
    (lambda: PGD(0.1, restarts=0), "PGD.restarts must be at least 1, got 0"),
    (lambda: PGD(0.1, step_size=-0.01), "PGD.step_size must be above 0, got -0.01"),
    (lambda: PGD(0.1, step_size=float("inf")), "PGD.step_size must be above 0, got inf"),
    (lambda: PGD(0.1, step_size=float("nan")), "PGD.step_size must be above 0, got nan"),
    (lambda: PGD(0.1, loss="cw"), "PGD.loss must be one of ce, margin, dlr, got 'cw'"),
    (lambda: PGD(0.1, keep="best"), "PGD.keep must be one of first, smallest, lowest, got 'best'"),
    (
        lambda: PGD(0.1, restarts=3, random_start=False),
        "PGD.restarts 3 without a random start would repeat the same run: set random_start or restarts=1",
    ),
    (lambda: PGD(0.1, rivals=-1), "PGD.rivals must be at least 0, got -1"),
    (lambda: PGD(0.1, transforms="si:x"), "transforms 'si:x' have 'x' where a number is expected, as in di:0.7-ti:7"),
    (lambda: PGD(0.1, transforms="si:2.5"), "Scales.scales must be a whole number, got 2.5"),
    (lambda: MIFGSM(0.1, transforms="di-tin"), "unknown transformation 'tin': did you mean 'ti'? known: di, si, ti"),
    (lambda: MIFGSM(0.1, transforms="di-di:1"), "transforms 'di-di:1' name di twice: name each once"),
    (lambda: MIFGSM(0.1, transforms="di:1.5"), "Diverse.probability must be from 0 to 1, got 1.5"),
    (
        lambda: MIFGSM(0.1, transforms="ti:4"),
        "Translation.size must be an odd number of pixels such as 7 or 15, got 4",
    ),
    (lambda: MIFGSM(0.1, momentum="vmi"), "MIFGSM.momentum must be one of mi, ni, got 'vmi'"),
    (lambda: MIFGSM(0.1, variance=-1), "MIFGSM.variance must be at least 0, got -1"),
    (lambda: MIFGSM(0.1, norm="l1"), "MIFGSM.norm must be one of linf, l2, got 'l1'"),
    (lambda: MIFGSM(0.1, steps=0), "MIFGSM.steps must be at least 1, got 0"),
    (lambda: MIFGSM(0.1, decay=-0.5), "MIFGSM.decay must be at least 0, got -0.5"),
    (lambda: MIFGSM(0.1, decay=float("inf")), "MIFGSM.decay must be at least 0, got inf"),
    (lambda: MIFGSM(0.1, step_size=0.0), "MIFGSM.step_size must be above 0, got 0.0"),
    (lambda: MIFGSM(0.1, loss="x"), "MIFGSM.loss must be one of ce, margin, dlr, got 'x'"),
    (lambda: APGD(0.1, restarts=0), "APGD.restarts must be at least 1, got 0"),
    (lambda: APGD(0.1, eot=0), "APGD.eot must be at least 1, got 0"),
    (lambda: APGD(0.1, loss="dlr-targeted"), "APGD.loss must be one of ce, margin, dlr, got 'dlr-targeted'"),
    (lambda: APGDT(0.1, rivals=0), "APGDT.rivals must be at least 1, got 0"),
    (
        lambda: AutoAttack(0.1, version="best"),
        "AutoAttack.version must be one of standard, plus, rand, got 'best'",
    ),
    (lambda: AutoAttack(0.1, version="rand", eot=0), "AutoAttack.eot must be at least 1, got 0"),
    (lambda: APGDNearest(0.1, rivals=-1), "APGDNearest.rivals must be at least 0, got -1"),
    (lambda: Fast(0.1, closing=-1), "Fast.closing must be at least 0, got -1"),
    (lambda: Fast(0.1, patience=-1), "Fast.patience must be at least 0, got -1"),
    (
        lambda: Ensemble(0.1, attacks=" + "),
        "Ensemble.attacks must name at least one attack, as in pgd:steps=20+apgd",
    ),
    (
        lambda: Ensemble(0.1, attacks="pgd+fgsm:radius=0.2"),
        "'fgsm:radius=0.2' in Ensemble.attacks has a radius of its own: the attacks of an ensemble share its radius "
        "and norm",
    ),
    (
        lambda: Ensemble(0.1, norm="l2", attacks="fgm+fgsm"),
        "fgsm works in linf, not in l2: choose another attack or norm",
    ),
    (lambda: Ensemble(0.1, attacks="pgd:steps=0"), "PGD.steps must be at least 1, got 0"),
    (
        lambda: ensemble([PGD(0.1), PGD(0.1, norm="l2")]),
        "the attacks of an ensemble must have one norm and one radius, got l2 0.1, linf 0.1: evaluate the others "
        "beside it",
    ),
    (lambda: BisectedPGD(0.1, rounds=-1), "BisectedPGD.rounds must be at least 0, got -1"),
    (lambda: BisectedPGD(0.1, steps=0), "BisectedPGD.steps must be at least 1, got 0"),
    (lambda: BisectedPGD(0.1, norm="l0"), "BisectedPGD.norm must be one of linf, l2, l1, got 'l0'"),
    (lambda: BisectedPGD(0.1, loss="x"), "BisectedPGD.loss must be one of ce, margin, dlr, got 'x'"),
    (lambda: DeepFool(1, stride=0), "DeepFool.stride must be above 0 and at most 1, got 0"),
    (lambda: DeepFool(1, norm="l1"), "DeepFool.norm must be one of l2, linf, got 'l1'"),
    (lambda: DDN(1, gamma=0), "DDN.gamma must be above 0, got 0"),
    (lambda: FMN(2.5, norm="l0"), "FMN.radius counts changed values in l0 and must be a whole number, got 2.5"),
    (lambda: CW(1, norm="l1"), "CW.norm must be one of l2, linf, l0, got 'l1'"),
    (lambda: EAD(1, rate=0), "EAD.rate must be above 0, got 0"),
    (lambda: FAB(0.1, eta=0.5), "FAB.eta must be at least 1, got 0.5"),
    (lambda: FAB(0.1, keep="lowest"), "FAB.keep must be one of first, smallest, got 'lowest'"),
    (lambda: BrendelBethge(0.1, reach=0), "BrendelBethge.reach must be above 0, got 0"),
    (lambda: PDPGD(0.1, norm="l0"), "PDPGD.norm must be one of l2, linf, l1, got 'l0'"),
    (lambda: SigmaZero(1.5), "SigmaZero.radius counts changed values in l0 and must be a whole number, got 1.5"),
    (lambda: UniformNoise(0.1, draws=0), "UniformNoise.draws must be at least 1, got 0"),
    (lambda: UniformNoise(0.1, norm="l0"), "UniformNoise.norm must be one of linf, l2, l1, got 'l0'"),
    (lambda: GaussianNoise(0.1, draws=1.5), "GaussianNoise.draws must be a whole number, got 1.5"),
    (lambda: SimBA(1, basis="wavelet"), "SimBA.basis must be one of pixel, dct, got 'wavelet'"),
    (lambda: NES(0.1, pairs=0), "NES.pairs must be at least 1, got 0"),
    (lambda: SPSA(0.1, delta=0), "SPSA.delta must be above 0, got 0"),
    (lambda: Boundary(1, probe=0), "Boundary.probe must be at least 1, got 0"),
    (lambda: HopSkipJump(1, gamma=0), "HopSkipJump.gamma must be above 0, got 0"),
    (lambda: GeoDA(1, decay=1.5), "GeoDA.decay must be at most 1, got 1.5"),
    (lambda: Square(0.1, queries=2), "Square.queries must be at least 3, got 2"),
    (lambda: Universal(0.1), "Universal.path must name the file of a perturbation: give one that fit has written"),
    (
        lambda: Universal(norm="l2", **NEEDED["perturbation"]),
        f"Universal.norm is l2, but '{NEEDED['perturbation']['path']}' holds a perturbation of linf: give a radius in "
        "l2 too, or leave the norm out",
    ),
    (lambda: Universal(1, norm="l1", **NEEDED["perturbation"]), "Universal.norm must be one of linf, l2, got 'l1'"),
    (lambda: Style(0.1), "Style.path must name the file of a style transfer: give one that style train wrote"),
    (lambda: Style(2, **NEEDED["style"]), "Style.radius is a share and must be at most 1, got 2"),
    (lambda: GaussianNoise(2), TOO_LARGE.format("GaussianNoise", "2")),
]


@pytest.mark.parametrize(("make", "sentence"), REFUSED, ids=[s for _, s in REFUSED])
def test_impossible_settings_are_refused_at_construction(make, sentence: str) -> None:
    """Traps 32 and 50."""
    with pytest.raises(BlindspotsError) as caught:
        make()
    assert str(caught.value) == sentence
    assert "\n" not in sentence


def test_every_attack_has_a_refused_setting() -> None:
    named = " ".join(sentence for _, sentence in REFUSED) + " FGM."
    assert all(f"{kind.__name__}." in named for kind in ATTACKS.values())


def test_unknown_options_are_refused() -> None:
    with pytest.raises(TypeError):
        FGSM(0.1, steps=3)


def test_unknown_attack() -> None:
    with pytest.raises(BlindspotsError, match="unknown attack 'pgf': did you mean 'pgd'"):
        attack_named("pgf")
    assert attack_named("pgd") is PGD


@pytest.mark.parametrize(
    ("given", "value", "text"),
    [("8/255", 8 / 255, "8/255"), (0.5, 0.5, "0.5"), (" 1 / 4 ", 0.25, "1 / 4"), ("3e-2", 0.03, "3e-2"), (1, 1.0, "1")],
)
def test_a_radius_remembers_how_it_was_written(given, value: float, text: str) -> None:
    radius = Radius(given)
    assert float(radius) == value
    assert str(radius) == text
    for copied in (pickle.loads(pickle.dumps(radius)), copy.deepcopy(radius), Radius(radius)):
        assert (float(copied), str(copied)) == (value, text)


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_are_plain_frozen_values(name: str) -> None:
    """Traps 38 and 39: what runs cannot write to a setting; equal settings are equal."""
    if ATTACKS[name].norms == ("l0",):
        attack = ATTACKS[name](3)
        assert plain(attack)["radius"] == "3"
        assert ATTACKS[name](**plain(attack)) == attack
        return
    own = NEEDED.get(name, {})
    attack = ATTACKS[name]("1/4", **own)
    with pytest.raises(dataclasses.FrozenInstanceError):
        attack.radius = 0.5
    assert attack == ATTACKS[name](0.25, **own)
    assert hash(attack) == hash(ATTACKS[name](0.25, **own))
    assert attack != ATTACKS[name](0.2, **own)
    assert pickle.loads(pickle.dumps(attack)) == attack
    assert all(isinstance(value, bool | int | float | str | None) for value in plain(attack).values())
    assert plain(attack)["radius"] == "1/4"
    assert ATTACKS[name](**plain(attack)) == attack
