"""Networks from images to images, by name: what generative methods fit. Readable without torch."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from ..errors import BlindspotsError, unknown
from ..lazy import torch
from .catalogue import ModelInfo, Network

if TYPE_CHECKING:
    from torch import nn

_GAP = "Poursaeed et al., Generative Adversarial Perturbations, 2018, arXiv:1712.02328"


def _row(name: str, module: str, function: str, description: str) -> Network:
    return Network(ModelInfo(name, description, _GAP), module, function)


_ROWS = (
    _row("unet", "unet", "unet", "U-Net; settings width, levels, norm, dropout, fine; 2x2 pixels and up"),
    _row("autoencoder", "unet", "autoencoder", "the same without skips"),
    _row(
        "resnet-generator",
        "resnet_generator",
        "resnet_generator",
        "residual blocks at a quarter of the size; settings width, blocks, norm; 5x5 pixels and up",
    ),
)

GENERATORS = {row.info.name: row for row in _ROWS}


def build_generator(name: str, *, channels: int, size: int, **settings: Any) -> nn.Module:
    """Make a network (B, channels, size, size) -> the same shape, of unbounded values, with fresh random weights.

    Weights of convolutions are drawn from N(0, 0.02), scales of norms from N(1, 0.02), as the paper's code does.

    Args:
        name: unet, autoencoder or resnet-generator.
        channels, size: of the images, square or to be filled up to a square by the network.
        settings: the network's own: width, levels, norm, dropout, fine, blocks.

    Raises:
        BlindspotsError: an unknown name or setting, or a size that the network cannot take.

    >>> build_generator("unet", channels=1, size=28, width=4)(torch.zeros(2, 1, 28, 28)).shape  # doctest: +SKIP
    torch.Size([2, 1, 28, 28])
    """
    if name not in GENERATORS:
        raise unknown("generator", name, GENERATORS)
    row = GENERATORS[name]
    function = getattr(importlib.import_module(f"{__package__}.{row.module}"), row.function)
    allowed = inspect.signature(function).parameters
    for setting, value in settings.items():
        if setting not in allowed or setting in ("channels", "size"):
            raise unknown(f"setting of '{name}'", setting, set(allowed) - {"channels", "size"})
        wanted = type(allowed[setting].default)
        if not isinstance(value, (int, float) if wanted is float else wanted) or isinstance(value, bool):
            raise BlindspotsError(f"{setting} of '{name}' must be {wanted.__name__}, got {value!r}")
    module: nn.Module = function(channels=channels, size=size, **settings)
    # Convolutions follow the memory format of their weights, and most are faster in this one.
    return module.to(memory_format=torch.channels_last)
