"""VGG16 up to pool4, as a feature network: with the library's weights, a file's, or random ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ..models.load import SEED
from ..models.weights import read_weights

if TYPE_CHECKING:
    from torch import Tensor

# VGG16 up to pool4, in torchvision's numbers.
LAYERS = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M")
STYLE, CONTENT = ("4", "9", "16", "23"), "15"


def vgg() -> nn.Sequential:
    """VGG16 up to pool4, with random weights that keep the size of what goes through."""
    from torchvision.models.vgg import make_layers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        layers: nn.Sequential = make_layers(list(LAYERS))
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layers


def vgg_weights(weights: str) -> dict[str, Tensor]:
    """The weights of these layers, from a file of the whole VGG16 or from the library."""
    if weights == "default":
        from ..models.torchvision_models import download

        state = download("vgg16")
    else:
        state = read_weights(weights)
    kept = {name.removeprefix("features."): value for name, value in state.items() if not name.startswith("classifier")}
    return {
        name: value for name, value in kept.items() if name.split(".")[0].isdigit() and int(name.split(".")[0]) < 24
    }
