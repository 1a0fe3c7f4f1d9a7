"""The built-in networks: shapes, parameter counts, gradients, and what they refuse."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from blindspots.errors import BlindspotsError
from blindspots.models import build, list_models

BUILT_IN = [info.name for info in list_models() if not any(mark in info.name for mark in ":/")]
PRESETS = ["stadv-b:paper", "stadv-b:maxpool", "stadv-c:maxpool", "lenet:wide", "fc300-10", "ae50-10", "resnet32"]
TAKES_8 = [name for name in BUILT_IN if name not in ("stadv-a", "stadv-b", "lenet", "quocnet")]


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def check(name: str, channels: int, size: int, classes: int) -> None:
    torch.manual_seed(0)
    module = build(name, classes=classes, channels=channels, size=size).eval()
    images = torch.rand(2, channels, size, size).requires_grad_()
    logits = module(images)
    (gradient,) = torch.autograd.grad(logits.square().sum(), images)
    assert logits.shape == (2, classes)
    assert logits.isfinite().all()
    assert gradient.isfinite().all()
    assert (gradient.flatten(1).abs().amax(1) > 0).all()
    assert not torch.allclose(logits.exp().sum(1), torch.ones(2)), "logits, not probabilities"


@pytest.mark.parametrize("name", BUILT_IN + PRESETS)
def test_28_pixels_grey_ten_classes(name: str) -> None:
    check(name, channels=1, size=28, classes=10)


@pytest.mark.parametrize("name", BUILT_IN)
def test_32_pixels_colour_two_classes(name: str) -> None:
    check(name, channels=3, size=32, classes=2)


@pytest.mark.parametrize("name", TAKES_8)
def test_8_pixels_seven_classes(name: str) -> None:
    check(name, channels=1, size=8, classes=7)


@pytest.mark.parametrize("name", ["small-cnn", "stadv-b", "inception-small", "resnet20"])
def test_odd_size_and_four_channels(name: str) -> None:
    check(name, channels=4, size=33, classes=3)


@pytest.mark.parametrize(
    ("name", "channels", "size", "count"),
    [
        ("stadv-a", 1, 28, 3_382_346),  # 1664 + 102464 + 3276928 + 1290
        ("stadv-a:tramer", 1, 28, 3_382_346),
        ("stadv-b:paper", 1, 28, 64 * 65 + 128 * (64 * 36 + 1) + 128 * (128 * 25 + 1) + 10 * (18432 + 1)),
        ("stadv-b:tramer", 1, 28, 64 * 65 + 128 * (64 * 36 + 1) + 128 * (128 * 25 + 1) + 10 * (128 + 1)),
        ("stadv-b:maxpool", 1, 28, 64 * 65 + 128 * (64 * 36 + 1) + 128 * (128 * 25 + 1) + 10 * (128 + 1)),
        ("stadv-c", 1, 28, 1280 + 64 * (128 * 9 + 1) + 128 * (36864 + 1) + 1290),
        ("stadv-c:maxpool", 1, 28, 1280 + 64 * (128 * 9 + 1) + 128 * (1600 + 1) + 1290),
        ("fc10", 1, 28, 7850),
        ("fc100-100-10", 1, 28, 78500 + 10100 + 1010),
        ("fc123-456-10", 1, 28, 785 * 123 + 124 * 456 + 457 * 10),
        ("ae400-10", 1, 28, 785 * 400 + 401 * 784 + 401 * 10),
        ("lenet", 1, 28, 431_080),  # the classic Caffe LeNet
        ("resnet20", 3, 32, 269_722),  # the paper's 0.27 million
        ("densenet40", 3, 32, 1_019_722),  # the paper's 1.0 million
        ("inception-small", 3, 28, 1_651_114),
    ],
)
def test_parameter_count(name: str, channels: int, size: int, count: int) -> None:
    assert parameters(build(name, channels=channels, size=size)) == count


def test_hidden_units_are_those_of_the_papers() -> None:
    szegedy = [type(part).__name__ for part in build("fc100-100-10").children()]
    deepfool = [type(part).__name__ for part in build("fc500-150-10").children()]
    assert szegedy == ["Flatten", "Linear", "Sigmoid", "Linear", "Sigmoid", "Linear"]
    assert deepfool == ["Flatten", "Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert "ReLU" in str(build("fc100-100-10", hidden="relu"))


def test_autoencoder_reconstructs_the_shape() -> None:
    module = build("ae400-10", channels=3, size=8)
    images = torch.rand(2, 3, 8, 8)
    again = module.reconstruct(images)  # type: ignore[operator]
    assert again.shape == images.shape
    assert again.min() >= 0
    assert again.max() <= 1


def test_tramer_b_has_the_shapes_of_the_ensemble_code() -> None:
    features = build("stadv-b").features.eval()  # type: ignore[union-attr, operator]
    sizes = []
    x = torch.rand(1, 1, 28, 28)
    for part in features:
        x = part(x)
        if isinstance(part, torch.nn.Conv2d):
            sizes.append(tuple(x.shape[1:]))
    assert sizes == [(64, 14, 14), (128, 5, 5), (128, 1, 1)]


def test_settings_equal_names() -> None:
    assert str(build("stadv-b", preset="paper")) == str(build("stadv-b:paper"))
    assert str(build("resnet20", depth=32)) == str(build("resnet32"))
    assert str(build("fc10", widths=[100, 100])) == str(build("fc100-100-10"))


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        ("stadv-a", {"size": 8}, "'stadv-a' needs images of at least 9x9 pixels, got 8x8"),
        ("stadv-b", {"size": 8}, "at least 28x28 pixels"),
        ("stadv-b:paper", {"size": 16}, "at least 17x17 pixels"),
        ("lenet", {"size": 8}, "at least 16x16 pixels"),
        ("small-cnn", {"size": 3}, "at least 4x4 pixels"),
        ("densenet22", {"size": 2}, "at least 4x4 pixels"),
        ("stadv-q", {}, "unknown model 'stadv-q': did you mean 'stadv-"),
        ("stadv-a:peper", {}, "unknown preset 'peper': did you mean 'paper'"),
        ("small-cnn:paper", {}, "unknown setting of 'small-cnn' 'preset'"),
        ("stadv-a", {"depth": 3}, "unknown setting of 'stadv-a' 'depth'"),
        ("small-cnn", {"classes": 1}, "classes of 'small-cnn' must be a whole number of at least 2, got 1"),
        ("small-cnn", {"channels": 0}, "channels of 'small-cnn' must be"),
        ("small-cnn", {"size": 2.5}, "size of 'small-cnn' must be"),
        ("resnet50", {}, "write 'torchvision:resnet50'"),
        ("resnet21", {}, "must be 6n[+]2"),
        ("densenet23", {}, "must be 3n[+]4"),
        ("densenet22", {"growth": 0}, "growth must be at least 1"),
        ("inception-small", {"width": 0}, "width must be above 0"),
        ("fc100-10", {"hidden": "tanh"}, "unknown hidden unit 'tanh'"),
        ("fc0-10", {}, "must be at least 1"),
        ("ae0-10", {}, "must be at least 1 wide"),
    ],
)
def test_refusals_are_one_sentence(name: str, keywords: dict[str, int], message: str) -> None:
    with pytest.raises(BlindspotsError, match=message) as caught:
        build(name, **keywords)
    assert "\n" not in str(caught.value)


def test_building_leaves_the_random_state_to_the_weights() -> None:
    torch.manual_seed(3)
    first = build("stadv-b").state_dict()
    torch.manual_seed(3)
    second = build("stadv-b").state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_listing_needs_no_torch() -> None:
    uses = "import sys, blindspots.models as m; m.list_models(); m.normalisation('mnist', 1); "
    code = uses + "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_every_row_says_something() -> None:
    rows = list_models()
    assert len({row.name for row in rows}) == len(rows)
    assert all(row.description and row.source for row in rows)
