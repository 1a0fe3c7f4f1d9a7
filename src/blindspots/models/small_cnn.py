"""The default network: small enough for a CPU, good enough for 99 % on MNIST in a minute or two."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from .fit_size import flattened


def small_cnn(classes: int, channels: int, size: int) -> nn.Sequential:
    """Conv 16, pool, conv 32, conv 64, pool, FC 128, FC `classes`; 3x3 kernels, padded, ReLU.

    No dropout and no batch norm: training and evaluation are the same function.
    """
    features = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 16, 3, padding=1),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(16, 32, 3, padding=1),
            relu2=nn.ReLU(),
            conv3=nn.Conv2d(32, 64, 3, padding=1),
            relu3=nn.ReLU(),
            pool3=nn.MaxPool2d(2),
        )
    )
    width = flattened("small-cnn", features, channels, size)
    head = OrderedDict(
        flatten=nn.Flatten(), hidden=nn.Linear(width, 128), relu=nn.ReLU(), output=nn.Linear(128, classes)
    )
    return nn.Sequential(OrderedDict(features=features, head=nn.Sequential(head)))
