"""What `evaluate` does unless told otherwise: the usual radii of known data, and noise, a strong attack and bending."""

from __future__ import annotations

from ..attack import Attack
from ..attacks import Fast, StAdv, UniformNoise, attack_named
from ..config import make_attack, parse_attack, with_own_radius
from ..errors import BlindspotsError
from ..several import Several

# Radii at which robustness is usually reported, per norm: MNIST 0.3 and CIFAR-10 8/255 (Madry et al. 2018) with steps
# below; l2 0.5 and l1 12 on CIFAR-10 (Croce and Hein 2020 and 2021). Digits: MNIST's, halved for 8 x 8 pixels.
RADII: dict[str, dict[str, tuple[str, ...]]] = {
    "digits": {"linf": ("0.05", "0.1", "0.15"), "l2": ("0.25", "0.5", "1.0"), "l1": ("1", "2", "4")},
    "mnist": {"linf": ("0.1", "0.2", "0.3"), "l2": ("1.0", "1.5", "2.0"), "l1": ("5", "10", "15")},
    "fashion-mnist": {"linf": ("0.02", "0.05", "0.1"), "l2": ("0.5", "1.0", "1.5"), "l1": ("5", "10", "15")},
    "other": {"linf": ("2/255", "4/255", "8/255"), "l2": ("0.25", "0.5", "1.0"), "l1": ("3", "6", "12")},
}

# Steps of stAdv for each tau, and how often tau is halved.
STADV_STEPS, STADV_HALVINGS = 20, 3


def default_radii(data: str, norm: str) -> tuple[str, ...]:
    """The usual radii of this data in this norm."""
    table = RADII.get(data, RADII["other"])
    if norm not in table:
        raise BlindspotsError(f"there are no usual radii in {norm}: give --radius")
    return table[norm]


def default_attacks(data: str, norm: str = "linf", radii: tuple[str, ...] = ()) -> list[Attack | Several]:
    """Noise as the control and `fast` at each radius, and `stadv`, which bends images, at its own.

    stAdv has a tenth of its steps here and no second start, so that it takes about as long as the others: an upper
    bound that says whether bending is a weakness, not how small the bends can be.
    """
    attacks: list[Attack | Several] = []
    for radius in radii or default_radii(data, norm):
        attacks += [UniformNoise(radius, norm), Fast(radius, norm)]  # type: ignore[arg-type]
    return [*attacks, StAdv(steps=STADV_STEPS, halvings=STADV_HALVINGS, restarts=0)]


def usual_attack(text: str, data: str) -> Attack | Several:
    """The attack as written on the command line, at the largest usual radius of this data where it has none itself.

    >>> str(usual_attack("fgsm", "digits").radius), str(usual_attack("stadv:tau=0.1", "digits").radius)
    ('0.15', '5.0')
    """
    given = with_own_radius(parse_attack(text))
    if "radius" not in given:
        norm = str(given.get("norm", attack_named(str(given["name"])).norms[0]))
        given["radius"] = default_radii(data, norm)[-1]
    return make_attack(given)
