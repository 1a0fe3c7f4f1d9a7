"""One front door for models: a built-in name, a library's name, or a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..errors import BlindspotsError
from .build import build
from .loaded import LoadedModel, agree, square
from .normalise import choose
from .saved import load_saved, read_header
from .weights import TORCH_SUFFIXES, classes_of, fit_weights, read_weights

EXPORTS = (".pt2", ".onnx")
SEED = 0  # of random weights, so that the same words always load the same network


def load_model(
    spec: str,
    *,
    weights: str | None = None,
    classes: int | None = None,
    channels: int | None = None,
    size: int | None = None,
    mean: str | float | Sequence[float] | None = None,
    std: str | float | Sequence[float] | None = None,
) -> LoadedModel:
    """Load a network, in evaluation mode, on the CPU, with what is known about it.

    Args:
        spec: a built-in name (`list_models()`), `torchvision:NAME`, `timm:NAME`, a `NAME.safetensors` of
            `save_model`, `path/file.py:factory`, or a `.pt2` or `.onnx` file.
        weights: a `.safetensors`, `.pt` or `.pth` file with a state dict; for torchvision and timm also "default",
            the library's own. Without, such networks have random weights, the same ones every time.
        classes, channels, size: of the network to build, where that is free; otherwise checked.
        mean, std: normalisation, in place of the model's own; a name ("imagenet", "none", ...) as mean, or values.

    Code runs for `file.py:factory` alone: every other file is read as data.
    Raises `BlindspotsError` with one sentence on what is wrong and what to do.

    >>> load_model("small-cnn", size=8).trained
    False
    """
    if not spec.strip():
        raise BlindspotsError("no model was named: give a name of `blindspots list models` or a file")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        loaded = _load(spec, weights, classes, channels, size)
    count = loaded.shape[0] if loaded.shape else channels or _channels(loaded.module)
    own = (loaded.mean, loaded.std)
    chosen_mean, chosen_std = choose(mean, std, own, count)
    loaded.module.eval()
    return replace(loaded, mean=chosen_mean, std=chosen_std)


def _load(spec: str, weights: str | None, classes: int | None, channels: int | None, size: int | None) -> LoadedModel:
    scheme, _, name = spec.partition(":")
    suffix = Path(spec).suffix
    if scheme == "torchvision":
        from .torchvision_models import load_torchvision

        return load_torchvision(name, weights, classes, channels, size)
    if scheme == "timm":
        from .timm_models import load_timm

        return load_timm(name, weights, classes, channels, size)
    if ".py:" in spec or suffix == ".py":
        return _from_factory(spec, weights, classes, channels, size)
    if suffix == ".safetensors" or suffix in EXPORTS:
        if weights is not None:
            raise BlindspotsError(f"'{spec}' carries its own weights, got the weights '{weights}' too: leave them out")
        return _from_file(spec, suffix, classes, channels, size)
    if suffix in TORCH_SUFFIXES:
        raise BlindspotsError(
            f"'{spec}' holds weights only, not the network they belong to: name the network as the model "
            f"(for example 'resnet20' or 'file.py:factory') and give '{spec}' as its weights"
        )
    return _built_in(spec, weights, classes, channels, size)


def _from_file(spec: str, suffix: str, classes: int | None, channels: int | None, size: int | None) -> LoadedModel:
    if suffix == ".safetensors":
        loaded = load_saved(spec, untrained)
        for what, given, own in (
            ("classes", classes, loaded.classes),
            ("channels", channels, loaded.shape[0] if loaded.shape else None),
            ("size", size, square(loaded.shape)),
        ):
            agree(spec, what, given, own)
        return loaded
    if suffix == ".pt2":
        from .exported import load_exported

        return load_exported(spec, classes, channels, size)
    from .onnx_file import load_onnx

    return load_onnx(spec, classes, channels, size)


def untrained(network: str, classes: int, channels: int, size: int, settings: dict[str, Any]) -> torch.nn.Module:
    if network.startswith(("torchvision:", "timm:")):
        return _load(network, None, classes, channels, size).module
    sized = {"classes": classes, "channels": channels, "size": size, **settings}
    return build(network, **sized)


def _from_factory(
    spec: str, weights: str | None, classes: int | None, channels: int | None, size: int | None
) -> LoadedModel:
    from .factory import load_factory

    about = _about(weights)
    shape = about.get("shape")
    classes = classes or about.get("classes")
    channels, size = (channels or shape[0], size or shape[1]) if shape else (channels, size)
    module = load_factory(spec, {"classes": classes, "channels": channels, "size": size})
    if weights is not None:
        fit_weights(module, read_weights(weights), path=weights, network=spec)
    full = (channels, size, size) if channels and size else None
    return _described(spec, module, weights, about, full, classes, None if weights is None else True)


def _built_in(
    spec: str, weights: str | None, classes: int | None, channels: int | None, size: int | None
) -> LoadedModel:
    about = _about(weights)
    state = None if weights is None else read_weights(weights)
    shape = about.get("shape") or (1, 28, 28)
    classes = classes or about.get("classes") or (classes_of(state) if state else None) or 10
    channels, size = channels or shape[0], size or shape[1]
    settings = about.get("settings", {}) if about.get("network") == spec else {}
    module = build(spec, classes=classes, channels=channels, size=size, **settings)
    if state is not None:
        fit_weights(module, state, path=weights or "", network=spec)
    shape = (channels, size, size)
    return _described(spec, module, weights, about | {"settings": settings}, shape, classes, weights is not None)


def _described(
    spec: str,
    module: torch.nn.Module,
    weights: str | None,
    about: dict[str, Any],
    shape: tuple[int, int, int] | None,
    classes: int | None,
    trained: bool | None,
) -> LoadedModel:
    return LoadedModel(
        module=module,
        name=spec,
        mean=about.get("mean"),
        std=about.get("std"),
        shape=shape,
        classes=classes,
        info={
            "network": spec,
            "settings": about.get("settings", {}),
            "weights": weights or "random",
            **about.get("info", {}),
        },
        trained=trained,
    )


def _about(weights: str | None) -> dict[str, Any]:
    """What `save_model` noted in a weights file, for a network that is named apart from it."""
    if weights is None or Path(weights).suffix != ".safetensors":
        return {}
    return read_header(weights) or {}


def _channels(module: torch.nn.Module) -> int:
    """The channels of the images, by the first convolution; 3 where there is none."""
    first = next((part for part in module.modules() if isinstance(part, torch.nn.Conv2d)), None)
    return first.in_channels if first is not None else 3
