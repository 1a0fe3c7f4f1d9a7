"""The three MNIST networks A, B, C on which spatially transformed adversarial examples were measured.

Source: Xiao, Zhu, Li, He, Liu, Song, "Spatially Transformed Adversarial Examples", 2018, arXiv:1801.02612,
table 4; the networks come from the code of Tramer et al., "Ensemble Adversarial Training", 2018,
arXiv:1705.07204. Presets:

- `paper`: the table as printed, valid convolutions, stride 1, no pooling.
- `tramer`: B as the ensemble code has it (input dropout, stride 2); A and C are the same as in `paper`.
- `maxpool`: B and C with 2x2 max pooling after each convolution, as later reproductions have them; A as `paper`.

Differs from the paper: softmax belongs to the loss, so the networks return logits; sizes other than 28x28 are
allowed.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from ..errors import unknown
from .fit_size import flattened

PRESETS = ("paper", "tramer", "maxpool")


def stadv_a(classes: int, channels: int, size: int, preset: str = "paper") -> nn.Sequential:
    """Network A: conv 64 5x5, conv 64 5x5, dropout, FC 128, dropout, FC `classes`.

    3,382,346 parameters for 28x28x1 images and 10 classes, in every preset.
    """
    _check(preset)
    features = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 64, 5),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(64, 64, 5),
            relu2=nn.ReLU(),
            dropout=nn.Dropout(0.25),
        )
    )
    return _with_head(features, flattened("stadv-a", features, channels, size), classes)


def stadv_b(classes: int, channels: int, size: int, preset: str = "tramer") -> nn.Sequential:
    """Network B: conv 64 8x8, conv 128 6x6, conv 128 5x5, dropout, FC `classes`."""
    _check(preset)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if preset == "tramer":
        # "same" padding with stride 2 in the original: 6 zeros a side pair, one more at the far side of odd sizes
        far = 3 + size % 2
        layers.update(
            dropout1=nn.Dropout(0.2), pad=nn.ZeroPad2d((3, far, 3, far)), conv1=nn.Conv2d(channels, 64, 8, stride=2)
        )
        layers.update(relu1=nn.ReLU(), conv2=nn.Conv2d(64, 128, 6, stride=2), relu2=nn.ReLU())
        layers.update(conv3=nn.Conv2d(128, 128, 5), relu3=nn.ReLU())
    elif preset == "paper":
        layers.update(conv1=nn.Conv2d(channels, 64, 8), relu1=nn.ReLU(), dropout1=nn.Dropout(0.2))
        layers.update(conv2=nn.Conv2d(64, 128, 6), relu2=nn.ReLU(), conv3=nn.Conv2d(128, 128, 5), relu3=nn.ReLU())
    else:
        layers.update(conv1=nn.Conv2d(channels, 64, 8), relu1=nn.ReLU(), pool1=nn.MaxPool2d(2))
        layers.update(dropout1=nn.Dropout(0.2))
        layers.update(conv2=nn.Conv2d(64, 128, 6), relu2=nn.ReLU(), pool2=nn.MaxPool2d(2))
        layers.update(conv3=nn.Conv2d(128, 128, 5, padding=2), relu3=nn.ReLU(), pool3=nn.MaxPool2d(2))
    features = nn.Sequential(layers)
    width = flattened(f"stadv-b:{preset}", features, channels, size)
    head = OrderedDict(flatten=nn.Flatten(), dropout=nn.Dropout(0.5), output=nn.Linear(width, classes))
    return nn.Sequential(OrderedDict(features=features, head=nn.Sequential(head)))


def stadv_c(classes: int, channels: int, size: int, preset: str = "paper") -> nn.Sequential:
    """Network C: conv 128 3x3, conv 64 3x3, dropout, FC 128, dropout, FC `classes`."""
    _check(preset)
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv1=nn.Conv2d(channels, 128, 3), relu1=nn.ReLU())
    if preset == "maxpool":
        layers["pool1"] = nn.MaxPool2d(2)
    layers.update(conv2=nn.Conv2d(128, 64, 3), relu2=nn.ReLU())
    if preset == "maxpool":
        layers["pool2"] = nn.MaxPool2d(2)
    layers["dropout"] = nn.Dropout(0.25)
    features = nn.Sequential(layers)
    return _with_head(features, flattened(f"stadv-c:{preset}", features, channels, size), classes)


def _check(preset: str) -> None:
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)


def _with_head(features: nn.Sequential, width: int, classes: int) -> nn.Sequential:
    head = OrderedDict(
        flatten=nn.Flatten(),
        hidden=nn.Linear(width, 128),
        relu=nn.ReLU(),
        dropout=nn.Dropout(0.5),
        output=nn.Linear(128, classes),
    )
    return nn.Sequential(OrderedDict(features=features, head=nn.Sequential(head)))
