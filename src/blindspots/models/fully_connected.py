"""Fully connected networks: FC10, FC100-100-10 and relatives, and the classifier on an autoencoder, AE400-10.

Sources: Szegedy et al., "Intriguing properties of neural networks", 2014, arXiv:1312.6199 (sigmoid hidden
units); Moosavi-Dezfooli et al., "DeepFool", 2016, arXiv:1511.04599 (FC500-150-10, taken here with ReLU because
that paper does not say).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

from ..errors import BlindspotsError, unknown

HIDDEN: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU}


def fully_connected(
    classes: int, channels: int, size: int, widths: Sequence[int] = (100, 100), hidden: str = "sigmoid"
) -> nn.Sequential:
    """Flatten, then one linear layer with `hidden` units for each of `widths`, then FC `classes`.

    `widths=()` is softmax regression. The last number in a name (`fc100-100-10`) is the paper's ten classes;
    `classes` decides.
    """
    if hidden not in HIDDEN:
        raise unknown("hidden unit", hidden, HIDDEN)
    if any(width < 1 for width in widths):
        raise BlindspotsError(f"fully connected widths must be at least 1, got {tuple(widths)}: name it like fc100-10")
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    before = channels * size * size
    for number, width in enumerate(widths, 1):
        layers[f"fc{number}"] = nn.Linear(before, width)
        layers[f"{hidden}{number}"] = HIDDEN[hidden]()
        before = width
    layers["output"] = nn.Linear(before, classes)
    return nn.Sequential(layers)


class AutoencoderClassifier(nn.Module):
    """A single-layer sigmoid autoencoder with a softmax classifier on its code (AE400-10 with `code=400`).

    `forward` gives logits; `reconstruct` gives the images back, for pre-training encoder and decoder.
    """

    def __init__(self, classes: int, channels: int, size: int, code: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(channels * size * size, code)
        self.decoder = nn.Linear(code, channels * size * size)
        self.output = nn.Linear(code, classes)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> code (B, code), each value in (0, 1)."""
        return torch.sigmoid(self.encoder(images.flatten(1)))

    def reconstruct(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> the same shape, through the code."""
        return torch.sigmoid(self.decoder(self.encode(images))).reshape(images.shape)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> logits (B, classes)."""
        logits: torch.Tensor = self.output(self.encode(images))
        return logits


def autoencoder(classes: int, channels: int, size: int, code: int = 400) -> AutoencoderClassifier:
    """AE400-10 for any code width, image and number of classes."""
    if code < 1:
        raise BlindspotsError(f"the code of an autoencoder must be at least 1 wide, got {code}: name it like ae400-10")
    return AutoencoderClassifier(classes, channels, size, code)
