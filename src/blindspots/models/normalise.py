"""Normalisation by name: the mean and standard deviation a network was trained with, in units of [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import BlindspotsError, unknown

Values = tuple[float, ...]

# Per channel over the training images of each data set, as everybody's training code has them.
NAMED: dict[str, tuple[Values, Values] | None] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "mnist": ((0.1307,), (0.3081,)),
    "fashion-mnist": ((0.2860,), (0.3530,)),
    "inception": ((0.5,), (0.5,)),
    "half": ((0.5,), (0.5,)),
    "none": None,
}


def normalisation(
    given: str | tuple[Sequence[float] | float, Sequence[float] | float], channels: int | None = None
) -> tuple[Values | None, Values | None]:
    """Mean and standard deviation per channel for `channels` channels; (None, None) for "none".

    `given` is a name (imagenet, cifar10, cifar100, mnist, fashion-mnist, inception, half, none) or a pair
    (mean, std) of one value or one value a channel. One value stands for all channels. Without `channels` the
    values stay as many as they are.
    Raises `BlindspotsError` for unknown names, a wrong number of values, and values that cannot be used.

    >>> normalisation("mnist", 1)
    ((0.1307,), (0.3081,))
    >>> normalisation((0.5, 0.25), 3)
    ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    """
    if isinstance(given, str):
        if given not in NAMED:
            raise unknown("normalisation", given, NAMED)
        pair = NAMED[given]
        if pair is None:
            return None, None
        mean, std = pair
    else:
        mean, std = _values(given[0]), _values(given[1])
    label = f"normalisation '{given}'" if isinstance(given, str) else "normalisation"
    mean, std = _spread(mean, channels, f"{label}: mean"), _spread(std, channels, f"{label}: std")
    if not all(math.isfinite(value) for value in (*mean, *std)) or min(std) <= 0:
        raise BlindspotsError(f"normalisation needs finite values and std above 0, got mean {mean} and std {std}")
    if max(map(abs, mean)) > 2 or max(std) > 2:
        raise BlindspotsError(
            f"normalisation is in units of [0, 1], got mean {mean} and std {std}: divide values for 0-255 by 255"
        )
    return mean, std


def choose(
    mean: object, std: object, own: tuple[Values | None, Values | None], channels: int
) -> tuple[Values | None, Values | None]:
    """What the caller said (a name in `mean`, or values in both), else `own`, the model's normalisation."""
    if mean is None and std is None:
        return own
    if isinstance(mean, str) and std in (None, mean):
        return normalisation(mean, channels)
    if isinstance(mean, str) or isinstance(std, str) or mean is None or std is None:
        raise BlindspotsError(
            f"normalisation needs mean and std as values, or one name as mean ({', '.join(NAMED)}), "
            f"got mean {mean!r} and std {std!r}"
        )
    return normalisation((_values(mean), _values(std)), channels)


def _values(given: object) -> Values:
    try:
        return tuple(float(value) for value in given) if isinstance(given, Sequence) else (float(given),)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise BlindspotsError(f"normalisation needs numbers, got {given!r}: give one value or one a channel") from error


def _spread(values: Values, channels: int | None, label: str) -> Values:
    if channels is None:
        return values
    if len(values) == 1:
        return values * channels
    if len(values) != channels:
        raise BlindspotsError(f"{label} has {len(values)} values, the images have {channels} channels: give {channels}")
    return values
