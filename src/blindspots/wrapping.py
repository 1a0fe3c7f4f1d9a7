"""A classifier from whatever a user has: a module, a name, a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .classifiers import Classifier, Outputs, Precision
from .errors import BlindspotsError
from .lazy import torch

if TYPE_CHECKING:
    from torch import nn


def classifier(
    model: str | nn.Module | Classifier,
    *,
    weights: str | None = None,
    mean: Sequence[float] | str | None = None,
    std: Sequence[float] | None = None,
    classes: int | None = None,
    channels: int | None = None,
    size: int | None = None,
    device: str = "auto",
    batch: int | None = None,
    amp: Precision | None = None,
    outputs: Outputs = "logits",
    per_pixel: bool = False,
) -> Classifier:
    """A classifier from a module, or from a name or path as `blindspots list models` shows them.

    Args:
        model: an `nn.Module`; `torchvision:NAME`; `timm:NAME`; `path/file.py:factory`; a `.safetensors` file that
            `blindspots train` wrote; a `.pt2` or `.onnx` file; or the name of a built-in network.
        weights: a file of weights (`.safetensors`, `.pt`), loaded as data only, or `default` for the library's own.
        mean, std: normalisation by values, or by name (`mean="imagenet"`).
        classes, channels, size: shape of a built-in network, where the weights do not say it.
        device, batch, amp, outputs, per_pixel: see `Classifier`.

    Raises:
        BlindspotsError: unknown name, missing or unsuitable file, impossible setting.
    """
    if isinstance(model, Classifier):
        return model
    name = ""
    trained: bool | None = None
    spec = model if isinstance(model, str) else None
    if isinstance(model, str):
        from .models import load_model

        loaded = load_model(model, weights=weights, classes=classes, channels=channels, size=size, mean=mean, std=std)
        # A model file is called after its network: the file's own name is often just "model".
        name = str(loaded.info["network"]) if model.endswith(".safetensors") else loaded.name
        model, trained = loaded.module, loaded.trained
        mean, std, classes = loaded.mean, loaded.std, loaded.classes
    elif weights is not None:
        raise BlindspotsError("weights go with a model given by name; load them into the module before wrapping it")
    if isinstance(mean, str):
        from .models import normalisation

        mean, std = normalisation(mean, channels)
    if device == "auto" and spec is not None and torch.cuda.is_available():
        device = "cuda"
    return Classifier(
        model,
        mean=mean,
        std=std,
        classes=classes,
        device=device,
        batch=batch,
        amp=amp,
        outputs=outputs,
        per_pixel=per_pixel,
        name=name,
        spec=spec,
        weights=weights,
        trained=trained,
    )
