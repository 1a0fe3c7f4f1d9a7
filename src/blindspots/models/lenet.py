"""LeNet in the two forms that the robustness literature uses.

Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998. Presets:

- `classic`: conv 20 5x5, pool, conv 50 5x5, pool, FC 500, FC: the form of the Caffe and MatConvNet examples. The
  DeepFool paper (arXiv:1511.04599) says "LeNet" and no sizes; this is the form its time used.
- `wide`: conv 32 5x5, pool, conv 64 5x5, pool, FC 1024, FC, padded by 2: Madry et al., "Towards Deep Learning
  Models Resistant to Adversarial Attacks", 2018, arXiv:1706.06083, and Bibi et al., "Analytic Expressions for
  Probabilistic Moments of PL-DNN with Gaussian Input", 2018.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from ..errors import unknown
from .fit_size import flattened

# preset: channels of the two convolutions, width of the hidden layer, padding
PRESETS = {"classic": (20, 50, 500, 0), "wide": (32, 64, 1024, 2)}


def lenet(classes: int, channels: int, size: int, preset: str = "classic") -> nn.Sequential:
    """LeNet for (B, channels, size, size) images; logits (B, classes)."""
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    first, second, hidden, padding = PRESETS[preset]
    features = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, first, 5, padding=padding),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(first, second, 5, padding=padding),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
        )
    )
    width = flattened(f"lenet:{preset}", features, channels, size)
    head = OrderedDict(
        flatten=nn.Flatten(), hidden=nn.Linear(width, hidden), relu=nn.ReLU(), output=nn.Linear(hidden, classes)
    )
    return nn.Sequential(OrderedDict(features=features, head=nn.Sequential(head)))
