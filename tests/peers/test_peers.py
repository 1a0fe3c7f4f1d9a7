"""Agreement with other libraries, where the update rules are the same; in float32, on a small trained network.

Foolbox and torchattacks clip after the step; here the step is projected onto ball and box together. Where no pixel is
clipped both are the same; for linf they are always the same, since that meet is itself a box.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from blindspots import BIM, FGM, FGSM, PGD, Affine, Classifier

pytestmark = pytest.mark.peer

RADIUS, COUNT = 0.15, 200


class Digits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 16, 3, padding=1), nn.Linear(16 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(nn.functional.max_pool2d(self.conv(x).relu(), 2).flatten(1))


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, Tensor, Tensor]:
    """A small network and the 200 held-out digits it gets right, pixels kept off the bounds of the box."""
    digits = load_digits()
    images = torch.from_numpy(digits.images / 16).float().unsqueeze(1) * 0.6 + 0.2
    labels = torch.from_numpy(digits.target).long()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Digits()
        optimiser = torch.optim.Adam(net.parameters(), 5e-3)
        for _ in range(12):
            for rows in torch.randperm(1500).split(100):
                optimiser.zero_grad()
                nn.functional.cross_entropy(net(images[rows]), labels[rows]).backward()
                optimiser.step()
    net.eval().requires_grad_(False)
    # Smaller logits: where p rounds to 1 the peers' cross entropy loses digits of its gradient, and ours does not.
    net.head.weight.mul_(0.25)
    net.head.bias.mul_(0.25)
    images, labels = images[1500 : 1500 + COUNT], labels[1500 : 1500 + COUNT]
    assert float((net(images).argmax(1) == labels).float().mean()) > 0.9
    right = net(images).argmax(1) == labels
    return net, images[right], labels[right]


def ours(attack: Any, trained: tuple[nn.Module, Tensor, Tensor]) -> Tensor:
    net, images, labels = trained
    return attack(Classifier(net, classes=10, batch=len(images)), images, labels).images


def agree(mine: Tensor, theirs: Tensor, tolerance: float, share: float = 1.0) -> None:
    """At least this share of the images is equal to the tolerance.

    The sign of a gradient that is zero up to rounding is anybody's: a few pixels of a few images may differ by a whole
    step.
    """
    same = (mine - theirs).abs().flatten(1).amax(1) <= tolerance
    assert float(same.float().mean()) >= share, f"{int((~same).sum())} of {len(same)} images differ"


@pytest.fixture(scope="module")
def foolbox_model(trained: tuple[nn.Module, Tensor, Tensor]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its imports warn about deprecated interfaces
        foolbox = pytest.importorskip("foolbox")
    return foolbox.PyTorchModel(trained[0], bounds=(0, 1))


@pytest.fixture(scope="module")
def torchattacks() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("torchattacks")


@pytest.fixture(scope="module")
def art_model(trained: tuple[nn.Module, Tensor, Tensor]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimators = pytest.importorskip("art.estimators.classification")
    return estimators.PyTorchClassifier(
        trained[0], loss=nn.CrossEntropyLoss(), input_shape=(1, 8, 8), nb_classes=10, clip_values=(0, 1)
    )


def foolbox_attack(name: str, model: Any, images: Tensor, labels: Tensor, **settings: Any) -> Tensor:
    import foolbox

    return getattr(foolbox.attacks, name)(**settings)(model, images, labels, epsilons=RADIUS_OF[name])[1]


RADIUS_OF = {"FGSM": RADIUS, "L2FastGradientAttack": 0.8, "LinfBasicIterativeAttack": 0.04, "L2PGD": 0.25}


# One step: images can be compared as they are, wherever the clean image is right.


def test_fgsm_of_foolbox(trained, foolbox_model) -> None:
    theirs = foolbox_attack("FGSM", foolbox_model, *trained[1:])
    agree(kept(FGSM(RADIUS), trained), theirs, 1e-6, 0.99)


def test_fgsm_of_torchattacks(trained, torchattacks) -> None:
    theirs = torchattacks.FGSM(trained[0], eps=RADIUS)(*trained[1:])
    agree(kept(FGSM(RADIUS), trained), theirs, 1e-6, 0.99)


def test_fgsm_of_art(trained, art_model) -> None:
    from art.attacks.evasion import FastGradientMethod

    theirs = FastGradientMethod(art_model, eps=RADIUS, norm=np.inf).generate(trained[1].numpy(), trained[2].numpy())
    agree(kept(FGSM(RADIUS), trained), torch.from_numpy(theirs), 1e-6, 0.99)


def test_fgm_of_foolbox(trained, foolbox_model) -> None:
    theirs = foolbox_attack("L2FastGradientAttack", foolbox_model, *trained[1:])
    inside = unclipped(theirs)
    agree(kept(FGM(0.8), trained)[inside], theirs[inside], 1e-6)


def test_fgm_of_art(trained, art_model) -> None:
    from art.attacks.evasion import FastGradientMethod

    theirs = torch.from_numpy(
        FastGradientMethod(art_model, eps=0.8, norm=2).generate(trained[1].numpy(), trained[2].numpy())
    )
    inside = unclipped(theirs)
    agree(kept(FGM(0.8), trained)[inside], theirs[inside], 1e-5)


def kept(attack: Any, trained: tuple[nn.Module, Tensor, Tensor]) -> Tensor:
    """The point after the step, also where it is worse than the clean image (which we would keep): asked by a trace."""
    net, images, labels = trained
    result = attack(Classifier(net, classes=10, batch=len(images)), images, labels)
    moved = result.size["linf"] > 0
    assert moved.float().mean() > 0.9
    step = _iterates(attack, trained, 1)[-1]
    assert torch.equal(result.images[moved], step[moved])
    return step


def unclipped(images: Tensor) -> Tensor:
    inside = ((images > 0) & (images < 1)).flatten(1).all(1)
    assert int(inside.sum()) > 20
    return inside


def _iterates(attack: Any, trained: tuple[nn.Module, Tensor, Tensor], steps: int) -> list[Tensor]:
    """Every iterate of every image: the attack's own steps, with a goal that no image reaches before the end.

    The objective of the library is minimised by its own optimiser and its own projection, called here one by one.
    """
    from blindspots import Goal
    from blindspots.objectives import Point
    from blindspots.optimisers import Steepest

    net, images, labels = trained
    space, objective, goal = attack.space(images), attack.objective(), Goal(labels)
    norm = getattr(attack, "norm", attack.norms[0])
    size = getattr(attack, "step_size", None) or float(attack.radius) / getattr(attack, "steps", 1)
    optimiser, theta, found = Steepest(norm, size), space.zero(), []
    for _ in range(steps):
        leaf = theta.clone().requires_grad_()
        loss = objective(Point(net(leaf), goal, leaf, images, leaf))
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        theta = space.project(optimiser.update(theta, loss.detach(), gradient, optimiser.init(theta))[0])
        found.append(theta)
    return found


def last_where_late(attack: Any, trained: tuple[nn.Module, Tensor, Tensor], steps: int) -> tuple[Tensor, Tensor]:
    """The attack's images where they are the last iterate: fooled by the last step alone, or lowest there."""
    net, images, labels = trained
    result = attack(Classifier(net, classes=10, batch=len(images)), images, labels)
    last = _iterates(attack, trained, steps)[-1]
    late = (result.images == last).flatten(1).all(1)
    assert int(late.sum()) >= 20, "too few images need all the steps for a comparison"
    return result.images, late


# Radii that leave most images standing: they need all the steps, so their last iterates can be compared.
STEPS, SMALL, SMALL_L2 = 4, 0.04, 0.25


def test_bim_of_foolbox(trained, foolbox_model) -> None:
    theirs = foolbox_attack(
        "LinfBasicIterativeAttack",
        foolbox_model,
        *trained[1:],
        steps=STEPS,
        abs_stepsize=SMALL / STEPS,
        random_start=False,
    )
    mine, late = last_where_late(BIM(SMALL, steps=STEPS), trained, STEPS)
    agree(mine[late], theirs[late], 1e-5, 0.95)


def test_bim_of_torchattacks(trained, torchattacks) -> None:
    theirs = torchattacks.BIM(trained[0], eps=SMALL, alpha=SMALL / STEPS, steps=STEPS)(*trained[1:])
    mine, late = last_where_late(BIM(SMALL, steps=STEPS), trained, STEPS)
    agree(mine[late], theirs[late], 1e-5, 0.95)


def test_bim_of_art(trained, art_model) -> None:
    from art.attacks.evasion import BasicIterativeMethod

    attack = BasicIterativeMethod(
        art_model, eps=SMALL, eps_step=SMALL / STEPS, max_iter=STEPS, verbose=False, batch_size=COUNT
    )
    theirs = torch.from_numpy(attack.generate(trained[1].numpy(), trained[2].numpy()))
    mine, late = last_where_late(BIM(SMALL, steps=STEPS), trained, STEPS)
    agree(mine[late], theirs[late], 1e-5, 0.95)


def test_pgd_of_torchattacks_without_random_start(trained, torchattacks) -> None:
    theirs = torchattacks.PGD(trained[0], eps=SMALL, alpha=0.015, steps=STEPS, random_start=False)(*trained[1:])
    attack = PGD(SMALL, steps=STEPS, step_size=0.015, random_start=False)
    mine, late = last_where_late(attack, trained, STEPS)
    agree(mine[late], theirs[late], 1e-5, 0.95)


def test_l2_pgd_of_foolbox_without_random_start(trained, foolbox_model) -> None:
    """Only images that no step carries over a bound: there the rescale to the ball is the projection."""
    theirs = foolbox_attack("L2PGD", foolbox_model, *trained[1:], steps=STEPS, abs_stepsize=0.08, random_start=False)
    attack = PGD(SMALL_L2, norm="l2", steps=STEPS, step_size=0.08, random_start=False)
    mine, late = last_where_late(attack, trained, STEPS)
    late &= ((theirs > 0) & (theirs < 1)).flatten(1).all(1)
    assert int(late.sum()) >= 10
    agree(mine[late], theirs[late], 1e-5)


@pytest.mark.parametrize(("angles", "shifts"), [(9, 1), (1, 5)])
def test_affine_grid_of_foolbox(trained, foolbox_model, angles: int, shifts: int) -> None:
    """The same images fall over the same grid of angles, or of shifts; together the two turn the shift or not."""
    import foolbox

    net, images, labels = trained
    attack = Affine(rotation=40 if angles > 1 else 0, rotations=angles, shift=0.4 if shifts > 1 else 0.0, shifts=shifts)
    # Foolbox's pixel is 1 / n of the way between the outermost pixels, which are n - 1 apart.
    theirs = foolbox.attacks.SpatialAttack(
        max_rotation=40 if angles > 1 else 0,
        num_rotations=angles,
        max_translation=0.4 * 8 / 7 if shifts > 1 else 0,
        num_translations=shifts,
        grid_search=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fallen = theirs(foolbox_model, images, labels)[2]
    mine = attack(Classifier(net, classes=10, batch=32), images, labels).success
    assert 0.05 < float(mine.float().mean()) < 0.95
    assert float((mine == fallen).float().mean()) >= 0.99


def rate(images: Tensor, trained: tuple[nn.Module, Tensor, Tensor]) -> float:
    return float((trained[0](images).argmax(1) != trained[2]).float().mean())


def within_chance(mine: float, theirs: float, count: int) -> None:
    """Two success rates on the same images with other random starts: three standard deviations of two binomials.

    Only the start is random, so the true spread is far smaller. We judge every iterate and may only be the better.
    """
    pooled = (mine + theirs) / 2
    spread = 3 * (2 * max(pooled * (1 - pooled), 0.01) / count) ** 0.5
    assert mine >= theirs - spread
    assert mine <= theirs + spread + 0.05


def test_success_rates_with_random_starts(trained, foolbox_model, torchattacks, art_model) -> None:
    from art.attacks.evasion import ProjectedGradientDescent

    net, images, labels = trained
    radius, steps, size = 0.1, 10, 0.025
    mine = rate(ours(PGD(radius, steps=steps, step_size=size), trained), trained)
    assert 0.1 < mine < 0.99, "neither hopeless nor trivial"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        np.random.seed(0)
        import foolbox

        theirs = foolbox.attacks.LinfPGD(steps=steps, abs_stepsize=size)(
            foolbox_model, images, labels, epsilons=radius
        )[1]
        within_chance(mine, rate(theirs, trained), len(images))
        theirs = torchattacks.PGD(net, eps=radius, alpha=size, steps=steps)(images, labels)
        within_chance(mine, rate(theirs, trained), len(images))
        attack = ProjectedGradientDescent(
            art_model, eps=radius, eps_step=size, max_iter=steps, num_random_init=1, verbose=False, batch_size=COUNT
        )
        theirs = torch.from_numpy(attack.generate(images.numpy(), labels.numpy()))
        within_chance(mine, rate(theirs, trained), len(images))
