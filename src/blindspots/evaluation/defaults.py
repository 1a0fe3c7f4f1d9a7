"""What `evaluate` does unless told otherwise: the usual radii of known data, and a control, one step and many steps."""

from __future__ import annotations

from ..attack import Attack
from ..attacks import FGM, FGSM, PGD, GaussianNoise, UniformNoise
from ..errors import BlindspotsError

# Radii at which robustness is usually reported, per norm: MNIST 0.3 and CIFAR-10 8/255 (Madry et al. 2018) with steps
# below; l2 0.5 and l1 12 on CIFAR-10 (Croce and Hein 2020 and 2021). Digits: MNIST's, halved for 8 x 8 pixels.
RADII: dict[str, dict[str, tuple[str, ...]]] = {
    "digits": {"linf": ("0.05", "0.1", "0.15"), "l2": ("0.25", "0.5", "1.0"), "l1": ("1", "2", "4")},
    "mnist": {"linf": ("0.1", "0.2", "0.3"), "l2": ("1.0", "1.5", "2.0"), "l1": ("5", "10", "15")},
    "fashion-mnist": {"linf": ("0.02", "0.05", "0.1"), "l2": ("0.5", "1.0", "1.5"), "l1": ("5", "10", "15")},
    "other": {"linf": ("2/255", "4/255", "8/255"), "l2": ("0.25", "0.5", "1.0"), "l1": ("3", "6", "12")},
}


def default_radii(data: str, norm: str) -> tuple[str, ...]:
    """The usual radii of this data in this norm."""
    table = RADII.get(data, RADII["other"])
    if norm not in table:
        raise BlindspotsError(f"there are no usual radii in {norm}: give --radius")
    return table[norm]


def default_attacks(data: str, norm: str = "linf", radii: tuple[str, ...] = ()) -> list[Attack]:
    """Noise as the control, one step, and many steps, at each radius."""
    attacks: list[Attack] = []
    for radius in radii or default_radii(data, norm):
        attacks += [UniformNoise(radius, norm), GaussianNoise(radius, norm)]  # type: ignore[arg-type]
        if norm == "linf":
            attacks.append(FGSM(radius))
        elif norm == "l2":
            attacks.append(FGM(radius))
        attacks.append(PGD(radius, norm))  # type: ignore[arg-type]
    return attacks
