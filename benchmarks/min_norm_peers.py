"""Minimum-norm attacks of other libraries, called through their usual doors; each returns the images it found.

Libraries that are not here are left out. What is drawn at random is seeded by the caller.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

# From module, images and labels to the images found.
Find = Callable[[nn.Module, Tensor, Tensor], Tensor]
INF = float("inf")
ORDERS = {"l2": 2, "linf": INF, "l1": 1, "l0": 0}


def peers(attack: str, norm: str, steps: int) -> dict[str, Find]:
    """Who else has this attack in this norm, by the library's name."""
    found: dict[str, Find] = {}
    for library, module, make in (
        ("Foolbox", "foolbox", foolbox),
        ("adv-lib", "adv_lib", adv_lib),
        ("ART", "art", art),
    ):
        if find_spec(module):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # imports warn about deprecated interfaces
                one = make(attack, norm, steps)
            if one is not None:
                found[library] = one
    return found


def foolbox(attack: str, norm: str, steps: int) -> Find | None:
    import foolbox as fb

    a = fb.attacks
    kinds: dict[tuple[str, str], Callable[[], Any]] = {
        ("deepfool", "l2"): lambda: a.L2DeepFoolAttack(steps=steps),
        ("deepfool", "linf"): lambda: a.LinfDeepFoolAttack(steps=steps),
        ("ddn", "l2"): lambda: a.DDNAttack(steps=steps),
        ("fmn", "l2"): lambda: a.L2FMNAttack(steps=steps),
        ("fmn", "linf"): lambda: a.LInfFMNAttack(steps=steps),
        ("fmn", "l1"): lambda: a.L1FMNAttack(steps=steps),
        ("fmn", "l0"): lambda: a.L0FMNAttack(steps=steps),
        ("cw", "l2"): lambda: a.L2CarliniWagnerAttack(binary_search_steps=5, steps=steps // 5),
        ("ead", "l1"): lambda: a.EADAttack(binary_search_steps=5, steps=steps // 5, decision_rule="L1"),
        **{
            ("brendel-bethge", name): lambda kind=kind: kind(steps=steps)
            for name, kind in (
                ("l2", a.L2BrendelBethgeAttack),
                ("linf", a.LinfinityBrendelBethgeAttack),
                ("l1", a.L1BrendelBethgeAttack),
                ("l0", a.L0BrendelBethgeAttack),
            )
        },
    }
    if (attack, norm) not in kinds:
        return None
    make = kinds[attack, norm]

    def find(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        model = fb.PyTorchModel(module, bounds=(0, 1), device="cpu")
        found: Tensor = make()(model, images, labels, epsilons=None)[1]
        return found

    return find


def adv_lib(attack: str, norm: str, steps: int) -> Find | None:
    from adv_lib import attacks as a
    from adv_lib.attacks.deepfool import df
    from adv_lib.attacks.sigma_zero import sigma_zero

    order = ORDERS[norm]
    kinds: dict[tuple[str, str], Callable[[nn.Module, Tensor, Tensor], Tensor]] = {
        ("ddn", "l2"): lambda *args: a.ddn(*args, steps=steps),
        ("cw", "l2"): lambda *args: a.carlini_wagner_l2(*args, binary_search_steps=5, max_iterations=steps // 5),
        ("cw", "linf"): lambda *args: a.carlini_wagner_linf(*args, max_iterations=steps // 5),
        ("sigma-zero", "l0"): lambda *args: sigma_zero(*args, num_steps=steps),
    }
    for one in ("l2", "linf"):
        kinds["deepfool", one] = lambda *args: df(*args, steps=steps, norm=order)
    for one in ("l2", "linf", "l1", "l0"):
        kinds["fmn", one] = lambda *args: a.fmn(*args, norm=order, steps=steps)
    for one in ("l2", "linf", "l1"):
        kinds["fab", one] = lambda *args: a.fab(*args, norm=order, n_iter=steps)
        kinds["pdpgd", one] = lambda *args: a.pdpgd(*args, norm=order, num_steps=steps)
    return kinds.get((attack, norm))


def art(attack: str, norm: str, steps: int) -> Find | None:
    from art.attacks import evasion as e
    from art.estimators.classification import PyTorchClassifier

    kinds: dict[tuple[str, str], Callable[[Any], Any]] = {
        ("deepfool", "l2"): lambda m: e.DeepFool(m, max_iter=steps, epsilon=0.02, verbose=False, batch_size=64),
        ("ead", "l1"): lambda m: e.ElasticNet(
            m, binary_search_steps=5, max_iter=steps // 5, decision_rule="L1", verbose=False, batch_size=64
        ),
    }
    if (attack, norm) not in kinds:
        return None
    make = kinds[attack, norm]

    def find(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        model = PyTorchClassifier(
            module,
            loss=nn.CrossEntropyLoss(),
            input_shape=tuple(images.shape[1:]),
            nb_classes=10,
            clip_values=(0.0, 1.0),
            device_type="cpu",
        )
        return torch.from_numpy(make(model).generate(images.numpy(), labels.numpy()))

    return find
