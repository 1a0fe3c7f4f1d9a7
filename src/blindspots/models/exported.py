"""A network saved by `torch.export.save`: a `.pt2` file, loaded as a graph of tensor operations."""

from __future__ import annotations

import inspect
import logging
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule

from ..errors import BlindspotsError
from .any_batch import FixedBatch, any_batch
from .exported_scan import scan
from .loaded import LoadedModel, agree, square
from .weights import broken, readable


def load_exported(spec: str, classes: int | None, channels: int | None, size: int | None) -> LoadedModel:
    """Load a `.pt2` file; it must take one float32 image batch (B, C, H, W) and return logits (B, K).

    A file exported with a fixed batch size works with any: in groups of that size, where it insists.
    Raises `BlindspotsError` for files that are no such thing, hold pickled objects, or were exported in training mode.
    """
    path = readable(spec, "model file")
    scan(path)
    log = logging.getLogger("torch.export")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        program = torch.export.load(path)
    except Exception as error:  # damaged and foreign archives fail in any way
        raise broken(path, "torch.export file") from error
    finally:
        log.setLevel(level)
    batch, shape = _input(program, spec, channels, size)
    _refuse_training(program, spec)
    module = _module(program)
    made, own_classes = any_batch(module, batch, shape, spec)
    agree(spec, "classes", classes, own_classes)
    agree(spec, "channels", channels, shape[0])
    agree(spec, "size", size, square(shape))
    return LoadedModel(
        module=made.eval(),
        name=path.stem,
        shape=shape,
        classes=own_classes,
        info={"network": spec, "settings": {}, "batch": batch if isinstance(made, FixedBatch) else None},
    )


def _input(
    program: torch.export.ExportedProgram, spec: str, channels: int | None, size: int | None
) -> tuple[int | None, tuple[int, int, int]]:
    names = program.graph_signature.user_inputs
    images = [node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    if len(images) != 1 or not isinstance(images[0], torch.Tensor) or images[0].ndim != 4:
        raise BlindspotsError(f"'{spec}' takes {len(images)} inputs, or no images: it must take one batch (B, C, H, W)")
    if images[0].dtype != torch.float32:
        raise BlindspotsError(f"'{spec}' takes {images[0].dtype} images: export it for float32 images")
    batch, *rest = (dim if type(dim) is int else None for dim in images[0].shape)
    defaults = (channels or 3, size or 224, size or 224)
    c, h, w = (dim or default for dim, default in zip(rest, defaults, strict=True))
    return batch, (c, h, w)


def _refuse_training(program: torch.export.ExportedProgram, spec: str) -> None:
    for node in program.graph.nodes:
        target, flags = str(node.target), [argument for argument in node.args if argument is True]
        dropping = "dropout" in target and flags
        norming = "batch_norm" in target and len(node.args) > 5 and node.args[5] is True
        if dropping or norming:
            raise BlindspotsError(
                f"'{spec}' was exported in training mode (it holds {target}): call model.eval() before "
                "torch.export.export"
            )


def _module(program: torch.export.ExportedProgram) -> nn.Module:
    # Guards compare every input with the example's sizes; the sizes are checked here, once, by trying.
    unguarded: dict[str, Any] = (
        {"check_guards": False} if "check_guards" in inspect.signature(program.module).parameters else {}
    )
    module = program.module(**unguarded)
    # A fresh module of the same graph: the program's own refuses train() and eval(), which change nothing in it.
    return GraphModule(module, module.graph)
