"""Settings: radii as they are written, and the sentences with which impossible ones are refused."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

from blindspots import (
    BIM,
    FGM,
    FGSM,
    MIFGSM,
    PGD,
    Affine,
    BisectedPGD,
    BlindspotsError,
    FlowBall,
    GaussianNoise,
    LegacyL1,
    StAdv,
    Szegedy,
    UniformNoise,
)
from blindspots.attacks import ATTACKS, attack_named
from blindspots.settings import Radius, plain

NOT_A_NUMBER = "radius '{}' is not a number: write it as 0.03 or 8/255, in pixel units of [0, 1]"
TOO_LARGE = "{}.radius {} is larger than 1, the whole range of a pixel: radii are in units of [0, 1], write 8/255 for 8"

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
    (lambda: MIFGSM(0.1, norm="l1"), "MIFGSM.norm must be one of linf, l2, got 'l1'"),
    (lambda: MIFGSM(0.1, steps=0), "MIFGSM.steps must be at least 1, got 0"),
    (lambda: MIFGSM(0.1, decay=-0.5), "MIFGSM.decay must be at least 0, got -0.5"),
    (lambda: MIFGSM(0.1, decay=float("inf")), "MIFGSM.decay must be at least 0, got inf"),
    (lambda: MIFGSM(0.1, step_size=0.0), "MIFGSM.step_size must be above 0, got 0.0"),
    (lambda: MIFGSM(0.1, loss="x"), "MIFGSM.loss must be one of ce, margin, dlr, got 'x'"),
    (lambda: BisectedPGD(0.1, rounds=-1), "BisectedPGD.rounds must be at least 0, got -1"),
    (lambda: BisectedPGD(0.1, steps=0), "BisectedPGD.steps must be at least 1, got 0"),
    (lambda: BisectedPGD(0.1, norm="l0"), "BisectedPGD.norm must be one of linf, l2, l1, got 'l0'"),
    (lambda: BisectedPGD(0.1, loss="x"), "BisectedPGD.loss must be one of ce, margin, dlr, got 'x'"),
    (lambda: UniformNoise(0.1, draws=0), "UniformNoise.draws must be at least 1, got 0"),
    (lambda: UniformNoise(0.1, norm="l0"), "UniformNoise.norm must be one of linf, l2, l1, got 'l0'"),
    (lambda: GaussianNoise(0.1, draws=1.5), "GaussianNoise.draws must be a whole number, got 1.5"),
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
    attack = ATTACKS[name]("1/4")
    with pytest.raises(dataclasses.FrozenInstanceError):
        attack.radius = 0.5
    assert attack == ATTACKS[name](0.25)
    assert hash(attack) == hash(ATTACKS[name](0.25))
    assert attack != ATTACKS[name](0.2)
    assert pickle.loads(pickle.dumps(attack)) == attack
    assert all(isinstance(value, bool | int | float | str | None) for value in plain(attack).values())
    assert plain(attack)["radius"] == "1/4"
    assert ATTACKS[name](**plain(attack)) == attack
