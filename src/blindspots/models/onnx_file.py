"""An ONNX file as a network with gradients, through onnx2torch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import BlindspotsError
from ..lazy import require
from .any_batch import FixedBatch, any_batch, freed
from .loaded import LoadedModel, agree, square
from .onnx_slice import replace_slices
from .weights import broken, readable


def load_onnx(spec: str, classes: int | None, channels: int | None, size: int | None) -> LoadedModel:
    """Load an `.onnx` file; it must take one float32 image batch (B, C, H, W) and return logits (B, K).

    Where onnxruntime is installed, the network is compared with it on three random images.
    Raises `BlindspotsError` for damaged files, unknown operators, and networks without gradients.
    """
    onnx = require("onnx", "onnx", "an ONNX model")
    onnx2torch = require("onnx2torch", "onnx", "an ONNX model")
    from .onnx_graph import adapt, free_batch

    path = readable(spec, "model file")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except FileNotFoundError as error:
        raise BlindspotsError(f"'{spec}' keeps its weights in a second file that is missing: {error}") from error
    except Exception as error:  # protobuf and the checker have their own families of exceptions
        if "external data" in str(error).lower() or ".data" in str(error):
            raise BlindspotsError(
                f"'{spec}' keeps its weights in a second file beside it, which is missing: copy that file "
                "(usually NAME.onnx.data) too"
            ) from error
        raise broken(path, "ONNX file") from error
    batch, shape = _input(onnx, model, spec, channels, size)
    adapt(model, spec)
    module = _convert(onnx2torch, model, spec)
    made, own_classes = any_batch(module, batch, shape, spec)
    if isinstance(made, FixedBatch) and batch is not None:
        free_batch(model, batch)
        made = freed(made, _convert(onnx2torch, model, spec), shape)
    agree(spec, "classes", classes, own_classes)
    agree(spec, "channels", channels, shape[0])
    agree(spec, "size", size, square(shape))
    compared = _compare(path, made, batch, shape, spec)
    return LoadedModel(
        module=made.eval(),
        name=path.stem,
        shape=shape,
        classes=own_classes,
        info={
            "network": spec,
            "settings": {},
            "batch": batch if isinstance(made, FixedBatch) else None,
            "compared with onnxruntime": compared,
        },
    )


def _input(
    onnx: Any, model: Any, spec: str, channels: int | None, size: int | None
) -> tuple[int | None, tuple[int, int, int]]:
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise BlindspotsError(
            f"'{spec}' has {len(inputs)} inputs and {len(model.graph.output)} outputs: it must take one batch of "
            "images and return logits alone"
        )
    kind = inputs[0].type.tensor_type
    if kind.elem_type != onnx.TensorProto.FLOAT:
        raise BlindspotsError(f"'{spec}' takes images that are not float32: export it for float32 images")
    dims = [dim.dim_value or None for dim in kind.shape.dim]
    if len(dims) != 4:
        raise BlindspotsError(f"'{spec}' takes inputs of {len(dims)} dimensions: it must take images (B, C, H, W)")
    batch, *rest = dims
    defaults = (channels or 3, size or 224, size or 224)
    c, h, w = (dim or default for dim, default in zip(rest, defaults, strict=True))
    return batch, (c, h, w)


def _convert(onnx2torch: Any, model: Any, spec: str) -> nn.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # notes of the converter on its own operators
            module: nn.Module = onnx2torch.convert(model)
    except Exception as error:  # converters fail in any way on forms they do not know
        raise BlindspotsError(
            f"'{spec}' cannot be turned into a network with gradients ({type(error).__name__}: {error}): export it at "
            "opset 17, or as a .pt2 file with torch.export"
        ) from error
    replace_slices(module)
    return module.eval()


def _compare(path: Path, module: nn.Module, batch: int | None, shape: tuple[int, int, int], spec: str) -> bool:
    try:
        import onnxruntime
    except ImportError:
        return False
    images = torch.rand(batch or 3, *shape, generator=torch.Generator().manual_seed(0))
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 4
    quiet.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), quiet, providers=["CPUExecutionProvider"])
    wanted = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: images.numpy()})[0])
    with torch.no_grad():
        got = module(images)
    if not torch.allclose(got, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max())):
        raise BlindspotsError(
            f"'{spec}' gives other logits than onnxruntime once turned into a network (by up to "
            f"{float((got - wanted).abs().max()):.2g}): export it as a .pt2 file with torch.export"
        )
    return True
