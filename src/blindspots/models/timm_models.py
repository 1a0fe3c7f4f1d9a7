"""Networks of timm, with its weights, a local file's, or random ones."""

from __future__ import annotations

import difflib
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ..errors import BlindspotsError
from ..lazy import require
from .loaded import LoadedModel
from .normalise import Values
from .weights import classes_of, fit_weights, read_weights

REACHABLE_SECONDS = 5.0


def load_timm(
    name: str, weights: str | None, classes: int | None, channels: int | None, size: int | None
) -> LoadedModel:
    """`timm:NAME`: `weights` is "default" (downloaded, or from the cache), a local file, or None (random).

    Mean, std and image size are the model's own (its `pretrained_cfg`).
    """
    timm = require("timm", "models", "a model 'timm:NAME'")
    spec = f"timm:{name}"
    if not timm.is_model(name):
        near = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "timm.list_models() names them all"
        raise BlindspotsError(f"unknown timm model '{name}': {hint}")
    keywords: dict[str, Any] = {} if channels is None else {"in_chans": channels}
    state = read_weights(weights) if weights not in (None, "default") else None
    if state is not None:
        classes = classes or classes_of(state)
    if classes is not None:
        keywords["num_classes"] = classes
    module = _make(timm, spec, name, weights == "default", size, keywords)
    if state is not None:
        fit_weights(module, state, path=weights or "", network=spec)
    known: dict[str, Any] = dict(getattr(module, "pretrained_cfg", {}))
    own_channels, *pixels = known.get("input_size", (3, 224, 224))
    channels = channels or own_channels
    height, width = (size, size) if size else pixels
    return LoadedModel(
        module=module,
        name=spec,
        mean=_spread(known.get("mean", (0.485, 0.456, 0.406)), channels),
        std=_spread(known.get("std", (0.229, 0.224, 0.225)), channels),
        shape=(channels, height, width),
        classes=int(getattr(module, "num_classes", 0)) or classes,
        info={"network": spec, "settings": {}, "weights": weights or "random"},
        trained=weights is not None,
    )


def _make(timm: Any, spec: str, name: str, pretrained: bool, size: int | None, keywords: dict[str, Any]) -> nn.Module:
    sized = keywords if size is None else {**keywords, "img_size": size}
    try:
        with _no_waiting(pretrained):
            try:
                module: nn.Module = timm.create_model(name, pretrained=pretrained, **sized)
            except TypeError:  # convolutional networks take any size and know no such setting
                module = timm.create_model(name, pretrained=pretrained, **keywords)
    except (OSError, RuntimeError, ValueError, AssertionError) as error:
        if pretrained:
            raise BlindspotsError(
                f"the weights of '{spec}' cannot be loaded from the hub ({_first_line(error)}): connect, or fetch them "
                "on another machine and give the file as weights, or give no weights for random ones"
            ) from error
        raise BlindspotsError(f"'{spec}' cannot be built with these settings: {_first_line(error)}") from error
    return module


@contextmanager
def _no_waiting(pretrained: bool) -> Iterator[None]:
    """Ask the hub's cache only, where the hub does not answer: its client would retry for most of a minute."""
    if not pretrained:
        yield
        return
    constants = require("huggingface_hub", "models", "downloading weights of timm").constants
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _answers(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=REACHABLE_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True  # it answered, if only to refuse
    except OSError:
        return False


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _spread(values: Values, channels: int) -> Values:
    """The model's values, or their mean for every channel where the images have other channels."""
    if len(values) == channels:
        return tuple(map(float, values))
    return (sum(values) / len(values),) * channels
