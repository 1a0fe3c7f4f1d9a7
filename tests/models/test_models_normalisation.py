"""Normalisation by name or values."""

from __future__ import annotations

import pytest

from blindspots.errors import BlindspotsError
from blindspots.models import load_model, normalisation, normalisations


@pytest.mark.parametrize("name", [name for name in normalisations() if name != "none"])
def test_every_name_fits_three_channels(name: str) -> None:
    mean, std = normalisation(name, 3)
    assert mean is not None
    assert std is not None
    assert len(mean) == len(std) == 3
    assert all(0 < value < 1 for value in (*mean, *std))


def test_none_and_values() -> None:
    assert normalisation("none", 3) == (None, None)
    assert normalisation("imagenet") == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert normalisation("mnist", 1) == ((0.1307,), (0.3081,))
    assert normalisation(((0.1, 0.2), 0.5), 2) == ((0.1, 0.2), (0.5, 0.5))


@pytest.mark.parametrize(
    ("given", "channels", "message"),
    [
        ("imagnet", 3, "did you mean 'imagenet'"),
        ("imagenet", 1, "has 3 values, the images have 1 channels"),
        (((0.1, 0.2), (0.1, 0.2)), 3, "has 2 values"),
        ((0.5, 0.0), 1, "std above 0"),
        ((float("nan"), 0.5), 1, "finite"),
        (((123.7, 116.3, 103.5), (58.4, 57.1, 57.4)), 3, "divide values for 0-255 by 255"),
        (("a", 0.5), 1, "needs numbers"),
    ],
)
def test_refusals(given: object, channels: int, message: str) -> None:
    with pytest.raises(BlindspotsError, match=message) as caught:
        normalisation(given, channels)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_load_model_takes_names_and_values() -> None:
    assert load_model("small-cnn", size=8).mean is None
    assert load_model("small-cnn", size=8, mean="mnist").std == (0.3081,)
    assert load_model("small-cnn", size=8, channels=3, mean=[0.1, 0.2, 0.3], std=0.5).std == (0.5, 0.5, 0.5)
    assert load_model("torchvision:squeezenet1_1", mean="none").mean is None
    with pytest.raises(BlindspotsError, match="needs mean and std as values, or one name"):
        load_model("small-cnn", size=8, mean=0.5)
    with pytest.raises(BlindspotsError, match="needs mean and std as values, or one name"):
        load_model("small-cnn", size=8, mean=0.5, std="mnist")
