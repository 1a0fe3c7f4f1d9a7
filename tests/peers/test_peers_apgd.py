"""Auto-PGD beside torchattacks and ART: the same settings on the same small network, other random starts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_peers import art_model, ours, rate, torchattacks, trained, within_chance  # noqa: F401  fixtures

from blindspots import APGD, APGDT

pytestmark = pytest.mark.peer

STEPS, RADII = 20, {"linf": 0.07, "l2": 0.45}


@pytest.mark.parametrize("loss", ["ce", "dlr"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_apgd_of_torchattacks(trained, torchattacks, norm: str, loss: str) -> None:  # noqa: F811
    net, images, labels = trained
    mine = rate(ours(APGD(RADII[norm], norm, steps=STEPS, loss=loss), trained), trained)
    assert 0.1 < mine < 0.95, "neither hopeless nor trivial"
    attack = torchattacks.APGD(
        net, norm={"linf": "Linf", "l2": "L2"}[norm], eps=RADII[norm], steps=STEPS, n_restarts=1, loss=loss
    )
    within_chance(mine, rate(attack(images, labels), trained), len(images))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_apgd_t_of_torchattacks(trained, torchattacks, norm: str) -> None:  # noqa: F811
    net, images, labels = trained
    mine = rate(ours(APGDT(RADII[norm], norm, steps=STEPS, rivals=3), trained), trained)
    attack = torchattacks.APGDT(
        net,
        norm={"linf": "Linf", "l2": "L2"}[norm],
        eps=RADII[norm],
        steps=STEPS,
        n_restarts=1,
        n_classes=4,  # counts the label's own class
    )
    within_chance(mine, rate(attack(images, labels), trained), len(images))


@pytest.mark.parametrize(("norm", "order"), [("linf", np.inf), ("l2", 2)])
def test_apgd_of_art(trained, art_model, norm: str, order: float) -> None:  # noqa: F811
    from art.attacks.evasion import AutoProjectedGradientDescent

    _, images, labels = trained
    mine = rate(ours(APGD(RADII[norm], norm, steps=STEPS), trained), trained)
    np.random.seed(0)
    attack = AutoProjectedGradientDescent(
        art_model,
        norm=order,
        eps=RADII[norm],
        eps_step=2 * RADII[norm],
        max_iter=STEPS,
        nb_random_init=1,
        batch_size=len(images),
        loss_type="cross_entropy",
        verbose=False,
    )
    theirs = torch.from_numpy(attack.generate(images.numpy(), labels.numpy()))
    within_chance(mine, rate(theirs, trained), len(images))
