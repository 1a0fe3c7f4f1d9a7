"""A trained network in one file: weights, and what is needed to build the network again, as data only.

The file is a safetensors file; one entry of its header, `blindspots`, holds JSON with the network's name and
settings, normalisation, image shape, classes and notes on the training.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import nn

from ..errors import BlindspotsError
from .loaded import LoadedModel
from .weights import broken, fit_weights, read_weights, readable

KEY = "blindspots"
FORMAT = 1


def save_model(
    path: str | Path,
    module: nn.Module,
    *,
    network: str,
    settings: dict[str, Any],
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    shape: tuple[int, int, int],
    classes: int,
    info: dict[str, Any],
) -> None:
    """Write `module` to the one file `path`, which `load_model(path)` reads back bit for bit.

    Args:
        path: NAME.safetensors; appears complete or not at all.
        network: what to give to `build` or `load_model` to get the untrained network.
        settings: further keywords of `build`; classes, channels and size come from `classes` and `shape`.
        shape: (C, H, W) of the images. info: notes on the training (data, epochs, accuracy), JSON values only.

    A network from your own file (`file.py:factory`) is saved too; its file is not part of it, so it is loaded as
    `load_model("file.py:factory", weights=path)`.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise BlindspotsError(f"a model is saved as NAME.safetensors, got '{path}': change the suffix")
    # Clones: safetensors refuses tensors that share memory, and wants them contiguous.
    state = {name: value.detach().cpu().clone().contiguous() for name, value in module.state_dict().items()}
    about = {
        "format": FORMAT,
        "network": network,
        "settings": settings,
        "mean": None if mean is None else list(mean),
        "std": None if std is None else list(std),
        "shape": list(shape),
        "classes": classes,
        "info": info,
    }
    try:
        header = json.dumps(about, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BlindspotsError(f"settings and info of a saved model must be JSON values: {error}") from error
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        safetensors.torch.save_file(state, temporary, metadata={KEY: header})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_header(path: str | Path) -> dict[str, Any] | None:
    """What `save_model` noted in the file; None for a safetensors file that somebody else wrote."""
    path = readable(path, "model file")
    try:
        with safetensors.safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(KEY)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise broken(path, "safetensors file") from error
    if text is None:
        return None
    try:
        about = json.loads(text)
        header = {key: about[key] for key in ("network", "settings", "mean", "std", "shape", "classes", "info")}
        header["shape"] = tuple(int(value) for value in header["shape"])
        header["mean"], header["std"] = (
            None if v is None else tuple(map(float, v)) for v in (about["mean"], about["std"])
        )
        number = about["format"]
    except (ValueError, TypeError, KeyError) as error:
        raise broken(path, "model file of blindspots") from error
    if number != FORMAT:
        raise BlindspotsError(f"'{path}' has the model format {number}, this version reads {FORMAT}: update blindspots")
    return header


def load_saved(path: str | Path, untrained: Any) -> LoadedModel:
    """Load a file of `save_model`; `untrained(network, classes, channels, size, settings)` builds its network."""
    about = read_header(path)
    if about is None:
        raise BlindspotsError(
            f"'{path}' holds weights only, not the network they belong to: name the network as the model and give "
            "this file as its weights"
        )
    network, shape = str(about["network"]), about["shape"]
    if ".py:" in network:
        raise BlindspotsError(
            f"'{path}' holds the weights of '{network}', which is code of yours: load the model '{network}' with "
            "this file as its weights"
        )
    module = untrained(network, about["classes"], shape[0], shape[1], about["settings"])
    state = read_weights(path)
    kinds = {tensor.dtype for tensor in state.values() if tensor.is_floating_point()}
    if len(kinds) == 1:
        module.to(kinds.pop())  # a network trained in float64 comes back in float64
    fit_weights(module, state, path=path, network=network)
    return LoadedModel(
        module=module,
        name=Path(path).stem,
        mean=about["mean"],
        std=about["std"],
        shape=shape,
        classes=about["classes"],
        info={"network": network, "settings": about["settings"], **about["info"]},
        trained=True,
    )
