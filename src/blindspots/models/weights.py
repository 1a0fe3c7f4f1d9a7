"""Weights from a file: read as data only, fitted to a network by name, or refused in one sentence.

A `.pt` file is a pickle and a pickle is a program; it is only ever read with `weights_only=True`.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from ..errors import BlindspotsError

TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".tar")
# Where training scripts keep the weights inside a checkpoint, in the order in which they are looked for.
NESTS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights")
PREFIXES = ("module.", "model.", "_orig_mod.")

State = dict[str, torch.Tensor]


def read_weights(path: str | Path) -> State:
    """Read a state dict (name -> tensor) from `.safetensors`, `.pt`, `.pth`, `.ckpt`, `.bin`, on the CPU.

    Raises `BlindspotsError` for files that are absent, empty, cut off, hold Python objects, hold no weights, or
    hold weights that are not finite.
    """
    path = readable(path, "weights file")
    if path.suffix == ".safetensors":
        try:
            state = safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
            raise broken(path, "safetensors file") from error
    elif path.suffix in TORCH_SUFFIXES:
        state = _state_inside(_read_torch(path), path)
    else:
        allowed = ", ".join((".safetensors", *TORCH_SUFFIXES))
        raise BlindspotsError(f"weights file '{path}' has the suffix '{path.suffix}': allowed are {allowed}")
    if not state:
        raise BlindspotsError(f"weights file '{path}' holds no tensors: save model.state_dict() into it")
    for name, tensor in state.items():
        if (tensor.is_floating_point() or tensor.is_complex()) and not bool(torch.isfinite(tensor).all()):
            raise BlindspotsError(
                f"weights file '{path}' holds values that are not finite (NaN or infinite) in '{name}': "
                "the training diverged, take an earlier checkpoint"
            )
    return state


def readable(path: str | Path, what: str) -> Path:
    """The path of a file that is there and not empty."""
    path = Path(path)
    if not path.exists():
        raise BlindspotsError(f"{what} '{path}' does not exist: check the path")
    if path.is_dir():
        raise BlindspotsError(f"{what} '{path}' is a folder: name the file inside it")
    if path.stat().st_size == 0:
        raise BlindspotsError(f"{what} '{path}' is empty (0 bytes): copy or save it again")
    return path


def broken(path: Path, what: str) -> BlindspotsError:
    """The sentence for a file that is there and cannot be read as what it claims to be."""
    return BlindspotsError(f"'{path}' is not a readable {what} (cut off, corrupt or another format): copy it again")


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # notes on formats, which the sentences below say better
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "invalid load key" in str(error):
            raise broken(path, "torch file") from error
        raise BlindspotsError(
            f"'{path}' holds Python objects (a whole pickled model, or training state beside the weights), which are "
            "programs and are never run: save model.state_dict() instead"
        ) from error
    except Exception as error:  # torch raises RuntimeError, EOFError, KeyError and more for damaged files
        if "TorchScript" in str(error):
            raise BlindspotsError(
                f"'{path}' is a TorchScript program, not weights: save model.state_dict(), or export the model with "
                "torch.export.save to a .pt2 file"
            ) from error
        raise broken(path, "torch file") from error


def _state_inside(loaded: Any, path: Path) -> State:
    if isinstance(loaded, Mapping):
        if loaded and all(isinstance(value, torch.Tensor) for value in loaded.values()):
            return dict(loaded)
        for nest in NESTS:
            inside = loaded.get(nest)
            if isinstance(inside, Mapping) and any(isinstance(value, torch.Tensor) for value in inside.values()):
                return {name: value for name, value in inside.items() if isinstance(value, torch.Tensor)}
    held = f"keys {', '.join(map(str, list(loaded)[:5]))}" if isinstance(loaded, Mapping) else type(loaded).__name__
    raise BlindspotsError(
        f"weights file '{path}' holds no state dict ({held or 'nothing'}), neither directly nor under "
        f"{', '.join(NESTS)}: save model.state_dict()"
    )


def fit_weights(module: nn.Module, state: State, *, path: str | Path, network: str) -> None:
    """Load `state` into `module` (in place); every weight must find its place.

    `module.`, `model.` and `_orig_mod.` at the start of a name go where that makes it fit. A missing
    `num_batches_tracked` is no fault: it plays no part in evaluation.
    """
    wanted = module.state_dict()
    state = _renamed(state, set(wanted))
    missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in wanted]
    if missing or unexpected:
        parts = [
            f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for what, names in (("missing", missing), ("unexpected", unexpected))
            if names
        ]
        raise BlindspotsError(
            f"weights '{path}' do not fit the network '{network}': {' and '.join(parts)}; "
            "name the network they were trained in, with its classes, channels and size"
        )
    for name, tensor in state.items():
        if tensor.shape != wanted[name].shape:
            raise BlindspotsError(
                f"weights '{path}' do not fit the network '{network}': '{name}' is {tuple(tensor.shape)} in the file "
                f"and {tuple(wanted[name].shape)} in the network; give the classes, channels and size of the training"
            )
    module.load_state_dict(state, strict=False)


def _renamed(state: State, wanted: set[str]) -> State:
    renamed: State = {}
    for name, tensor in state.items():
        short = name
        while short not in wanted and short.startswith(PREFIXES):
            short = short[short.index(".") + 1 :]
        renamed[short if short in wanted and short not in state else name] = tensor
    return renamed


def classes_of(state: State) -> int | None:
    """Guess the number of classes from the last bias, which belongs to the last layer; the fit proves it right."""
    biases = [tensor for name, tensor in state.items() if name.endswith("bias") and tensor.ndim == 1]
    return len(biases[-1]) if biases else None
