"""Networks of torchvision, with its weights, a local file's, or random ones."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torchvision
from torch import nn

from ..errors import BlindspotsError, unknown
from .loaded import LoadedModel, agree
from .normalise import NAMED
from .weights import State, classes_of, fit_weights, read_weights


def load_torchvision(
    name: str, weights: str | None, classes: int | None, channels: int | None, size: int | None
) -> LoadedModel:
    """`torchvision:NAME`: `weights` is "default" (downloaded, or from the cache), a local file, or None (random).

    Mean, std and image size are those of the library's default weights, and ImageNet's where there are none.
    """
    spec = f"torchvision:{name}"
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise unknown("torchvision model", name, known)
    agree(spec, "channels", channels, 3)
    official = torchvision.models.get_model_weights(name).DEFAULT
    transforms = official.transforms()
    keywords: dict[str, Any] = {}
    state: State | None = None
    if weights == "default":
        agree(spec, "classes", classes, len(official.meta["categories"]))
        state = _download(official, spec)
    elif weights is not None:
        state = read_weights(weights)
    if state is not None:
        classes = classes or classes_of(state)
        # The library's own files for these two expect images in another range and convert them inside.
        if name in ("googlenet", "inception_v3") and weights in ("default", Path(official.url).name):
            keywords["transform_input"] = True
    pixels = size or int(transforms.crop_size[0])
    if name.startswith("vit_"):
        keywords["image_size"] = pixels
    if name.startswith("maxvit"):
        keywords["input_size"] = (pixels, pixels)
    if name in ("googlenet", "inception_v3"):
        keywords["init_weights"] = False  # torch's own start; theirs takes a minute and warns about itself
        keywords["aux_logits"] = state is not None and any(key.lower().startswith("aux") for key in state)
    classes = classes or len(official.meta["categories"])
    module = _make(spec, name, classes, keywords)
    if state is not None:
        if name.startswith("densenet"):
            state = {_densenet_key(key): tensor for key, tensor in state.items()}
        fit_weights(module, state, path=weights or "default", network=spec)
    mean, std = NAMED["imagenet"] or (None, None)
    if weights is not None:
        mean, std = tuple(map(float, transforms.mean)), tuple(map(float, transforms.std))
    return LoadedModel(
        module=module,
        name=spec,
        mean=mean,
        std=std,
        shape=(3, pixels, pixels),
        classes=classes,
        info={"network": spec, "settings": {}, "weights": weights or "random"},
        trained=weights is not None,
    )


def download(name: str) -> State:
    """The library's own weights of that network, from its cache or fetched."""
    return _download(torchvision.models.get_model_weights(name).DEFAULT, f"torchvision:{name}")


def _make(spec: str, name: str, classes: int, keywords: dict[str, Any]) -> nn.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # notes of the library on its own initialisation
            module: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes, **keywords)
    except (ValueError, RuntimeError, AssertionError) as error:
        raise BlindspotsError(f"'{spec}' cannot be built for this image size or these classes: {error}") from error
    return module


def _download(official: Any, spec: str) -> State:
    try:
        state: State = official.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise BlindspotsError(
            f"the weights of '{spec}' cannot be downloaded ({error}): fetch {official.url} on another machine and "
            "give that file as weights, or give no weights for random ones"
        ) from error
    return state


def _densenet_key(key: str) -> str:
    # The library's densenet files are older than its code: norm.1 there is norm1 here.
    head, dot, tail = key.rpartition("denselayer")
    if not dot:
        return key
    for part in ("norm", "relu", "conv"):
        tail = tail.replace(f"{part}.1", f"{part}1").replace(f"{part}.2", f"{part}2")
    return head + dot + tail
