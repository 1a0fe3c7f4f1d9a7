"""The networks that come with the library: one table, readable without torch.

A name is an entry of `NETWORKS`, an entry with a preset behind a colon (`stadv-b:paper`), or a member of a
family whose numbers are its shape (`fc300-100-10`, `ae400-10`, `resnet56`, `densenet40`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ..errors import BlindspotsError, unknown

STADV = "Xiao et al., Spatially Transformed Adversarial Examples, 2018, arXiv:1801.02612, table 4"
SZEGEDY = "Szegedy et al., Intriguing properties of neural networks, 2014, arXiv:1312.6199"
DEEPFOOL = "Moosavi-Dezfooli, Fawzi, Frossard, DeepFool, 2016, arXiv:1511.04599"


@dataclass(frozen=True)
class ModelInfo:
    """One row of `blindspots list models`: the name to type, what it is, whose network it is."""

    name: str
    description: str
    source: str


@dataclass(frozen=True)
class Network:
    """Where a built-in network is written: `module.function(classes=, channels=, size=, **settings)`."""

    info: ModelInfo
    module: str
    function: str
    settings: dict[str, Any] = field(default_factory=dict)


def _network(name: str, module: str, function: str, description: str, source: str, **settings: Any) -> Network:
    return Network(ModelInfo(name, description, source), module, function, settings)


_ROWS = (
    _network("small-cnn", "small_cnn", "small_cnn", "three 3x3 convolutions, the default; 8x8 pixels and up", "here"),
    _network(
        "stadv-a",
        "stadv",
        "stadv_a",
        "conv 5x5 twice, FC 128; 9x9 pixels and up; presets paper, tramer, maxpool",
        STADV,
    ),
    _network(
        "stadv-b",
        "stadv",
        "stadv_b",
        "conv 8x8, 6x6, 5x5; 28x28 pixels; presets tramer (default), paper, maxpool",
        STADV,
    ),
    _network(
        "stadv-c",
        "stadv",
        "stadv_c",
        "conv 3x3 twice, FC 128; 5x5 pixels and up; presets paper, tramer, maxpool",
        STADV,
    ),
    _network("fc10", "fully_connected", "fully_connected", "softmax regression", SZEGEDY, widths=()),
    _network("fc100-100-10", "fully_connected", "fully_connected", "two sigmoid layers", SZEGEDY, widths=(100, 100)),
    _network("fc200-200-10", "fully_connected", "fully_connected", "two sigmoid layers", SZEGEDY, widths=(200, 200)),
    _network("fc123-456-10", "fully_connected", "fully_connected", "two sigmoid layers", SZEGEDY, widths=(123, 456)),
    _network(
        "fc500-150-10",
        "fully_connected",
        "fully_connected",
        "two ReLU layers",
        DEEPFOOL,
        widths=(500, 150),
        hidden="relu",
    ),
    _network(
        "quocnet",
        "quocnet",
        "quocnet",
        "local filters, l2 pooling, contrast normalisation, for training without labels; 23x23 pixels and up",
        "Le et al., Building high-level features using large scale unsupervised learning, 2012, arXiv:1112.6209",
    ),
    _network("ae400-10", "fully_connected", "autoencoder", "softmax on the code of an autoencoder", SZEGEDY, code=400),
    _network(
        "lenet", "lenet", "lenet", "conv 20, conv 50, FC 500; 16x16 pixels and up; presets classic, wide", DEEPFOOL
    ),
    _network(
        "resnet20",
        "resnet",
        "resnet",
        "residual network for small images; any depth 6n+2 by name",
        "He et al., Deep Residual Learning, 2016, arXiv:1512.03385, section 4.2",
        depth=20,
    ),
    _network(
        "densenet22",
        "densenet",
        "densenet",
        "dense network for small images, growth 12; any depth 3n+4 by name",
        "Huang et al., Densely Connected Convolutional Networks, 2017, arXiv:1608.06993",
        depth=22,
    ),
    _network(
        "inception-small",
        "inception",
        "inception_small",
        "Inception for 28 and 32 pixels, setting width",
        "Zhang et al., Understanding deep learning requires rethinking generalization, 2017, arXiv:1611.03530",
    ),
)

NETWORKS = {row.info.name: row for row in _ROWS}

SCHEMES = (
    ModelInfo("torchvision:NAME", "any classification network of torchvision", "the torchvision library"),
    ModelInfo("timm:NAME", "any network of timm; needs blindspots[models]", "the timm library"),
    ModelInfo("PATH/NAME.safetensors", "a network saved by blindspots, with all it needs", "your own training"),
    ModelInfo("PATH/FILE.py:FACTORY", "a function or class in your own file that makes the network", "your own file"),
    ModelInfo("PATH/FILE.pt2", "a network saved by torch.export.save", "your own export"),
    ModelInfo("PATH/FILE.onnx", "an ONNX network, gradients included; needs blindspots[onnx]", "your own export"),
)

# These depths fit the small-image formulas too, but everybody means the ImageNet networks by them.
_IMAGENET = {"resnet18", "resnet34", "resnet50", "resnet101", "resnet152"} | {
    f"densenet{depth}" for depth in (121, 161, 169, 201)
}


def find(name: str) -> tuple[Network, dict[str, Any]]:
    """Look up a built-in network: its row, and the settings its name fixes.

    Raises `BlindspotsError` for an unknown name, with the nearest known one.
    """
    base, _, preset = name.partition(":")
    row, settings = _member(base)
    if preset:
        settings = {**settings, "preset": preset}
    return row, settings


def _member(name: str) -> tuple[Network, dict[str, Any]]:
    if name in NETWORKS:
        row = NETWORKS[name]
        return row, dict(row.settings)
    if name in _IMAGENET:
        raise BlindspotsError(f"'{name}' is a network for large images: write 'torchvision:{name}' or 'timm:{name}'")
    if found := re.fullmatch(r"fc(?:\d+-)*\d+", name):
        widths = tuple(int(width) for width in found.group()[2:].split("-"))
        return NETWORKS["fc100-100-10"], {"widths": widths[:-1]}
    if found := re.fullmatch(r"ae(\d+)-\d+", name):
        return NETWORKS["ae400-10"], {"code": int(found.group(1))}
    if found := re.fullmatch(r"(resnet|densenet)(\d+)", name):
        row = NETWORKS["resnet20" if found.group(1) == "resnet" else "densenet22"]
        return row, {"depth": int(found.group(2))}
    raise unknown("model", name, [*NETWORKS, *(scheme.name for scheme in SCHEMES)])
