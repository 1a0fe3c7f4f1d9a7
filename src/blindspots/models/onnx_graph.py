"""Rewrite an ONNX graph into the operators and forms that onnx2torch knows (opset 17 and below).

Three things stand between it and today's exports, and each is undone here without changing the function:
shared initialisers behind Identity nodes; reductions whose axes became an input; operators whose newer version
differs from the known one by allowed types or by attributes left at their defaults.
"""

from __future__ import annotations

import functools
from typing import Any

import onnx
from onnx import NodeProto, defs, helper, numpy_helper
from onnx2torch.node_converters.registry import add_converter, get_converter
from onnx2torch.utils.common import OperationConverterResult, onnx_mapping_from_node
from torch import nn

from ..errors import BlindspotsError

# Attributes that newer versions added and that say nothing about float networks.
HARMLESS = {"saturate", "round_mode"}
SIMPLE = {"Gelu": 20, "Mish": 18}


def adapt(model: onnx.ModelProto, spec: str) -> None:
    """Change `model` in place, and register the converters it needs with onnx2torch.

    Raises `BlindspotsError` naming the operators that remain unknown.
    """
    _inline_identities(model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    unknown: set[str] = set()
    for node in list(model.graph.node):
        if node.domain not in ("", "ai.onnx"):
            unknown.add(f"{node.domain}.{node.op_type}")
        elif not _adapt_node(node, opsets.get("", 1), constants):
            unknown.add(node.op_type)
    if unknown:
        raise BlindspotsError(
            f"'{spec}' uses ONNX operators that cannot be turned into a network with gradients at opset "
            f"{opsets.get('', 1)} ({', '.join(sorted(unknown))}): export it at opset 17, or as a .pt2 file with "
            "torch.export"
        )


def free_batch(model: onnx.ModelProto, batch: int) -> None:
    """Free the batch dimension of every constant target shape, in place. A guess: the caller compares the outcome."""
    shapes = {node.input[1] for node in model.graph.node if node.op_type == "Reshape"}
    for tensor in model.graph.initializer:
        shape = numpy_helper.to_array(tensor).copy() if tensor.name in shapes else None
        if shape is not None and shape.ndim == 1 and len(shape) and shape[0] == batch:
            shape[0] = 0 if -1 in shape else -1  # 0 copies the dimension of the input
            tensor.CopyFrom(numpy_helper.from_array(shape, tensor.name))


def _inline_identities(model: onnx.ModelProto) -> None:
    known = {tensor.name for tensor in model.graph.initializer}
    alias: dict[str, str] = {}
    outputs = {value.name for value in model.graph.output}
    for node in list(model.graph.node):
        for position, name in enumerate(node.input):
            node.input[position] = alias.get(name, name)
        if node.op_type == "Identity" and node.input[0] in known and node.output[0] not in outputs:
            alias[node.output[0]] = node.input[0]
            model.graph.node.remove(node)


def _adapt_node(node: NodeProto, opset: int, constants: dict[str, onnx.TensorProto]) -> bool:
    kind = node.op_type
    try:
        newest = defs.get_schema(kind, opset, "")
    except defs.SchemaError:
        return False
    if kind == "Reshape" and not _plain_reshape(node, constants):
        return False
    if _known(kind, newest.since_version):
        return True
    if kind in SIMPLE:
        _register_simple(kind)
        return True
    if kind.startswith("Reduce") and not _axes_to_attribute(node, constants):
        return False
    older = _known_version(kind, newest.since_version)
    if older is None:
        return False
    schema = defs.get_schema(kind, older, "")
    if len(node.input) > schema.max_input:
        return False
    for attribute in list(node.attribute):
        if attribute.name not in schema.attributes:
            if not _droppable(node, attribute, newest):
                return False
            node.attribute.remove(attribute)
    _register_same(kind, older, newest.since_version)
    return True


def _plain_reshape(node: NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    """Drop `allowzero`, which decides what a zero in the target shape means; exporters set it and write no zero."""
    for attribute in list(node.attribute):
        if attribute.name == "allowzero":
            shape = constants.get(node.input[1])
            if attribute.i and shape is not None and not numpy_helper.to_array(shape).all():
                return False
            node.attribute.remove(attribute)
    return True


@functools.cache  # asked before anything is added here, so the answer is onnx2torch's own
def _known(kind: str, version: int) -> bool:
    try:
        get_converter(kind, version)
    except NotImplementedError:
        return False
    return True


def _known_version(kind: str, below: int) -> int | None:
    versions = {schema.since_version for schema in defs.get_all_schemas_with_history() if schema.name == kind}
    return next((v for v in sorted(versions, reverse=True) if v < below and v <= 17 and _known(kind, v)), None)


def _droppable(node: NodeProto, attribute: onnx.AttributeProto, newest: Any) -> bool:
    value = helper.get_attribute_value(attribute)
    if attribute.name in HARMLESS:
        return True
    if attribute.name == "num_outputs":
        return bool(value == len(node.output))
    if attribute.name == "dilations":
        return all(step == 1 for step in value)
    if attribute.name == "noop_with_empty_axes":
        return value == 0 or any(a.name == "axes" for a in node.attribute)
    default = newest.attributes[attribute.name].default_value if attribute.name in newest.attributes else None
    return default is not None and bool(default.name) and helper.get_attribute_value(default) == value


def _axes_to_attribute(node: NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    if len(node.input) < 2 or not node.input[1]:
        return True
    if node.input[1] not in constants:
        return False
    axes = numpy_helper.to_array(constants[node.input[1]]).ravel().tolist()
    del node.input[1:]
    if axes:
        node.attribute.append(helper.make_attribute("axes", axes))
    return True


@functools.cache
def _register_same(kind: str, older: int, newer: int) -> None:
    add_converter(operation_type=kind, version=newer)(get_converter(kind, older))


@functools.cache
def _register_simple(kind: str) -> None:
    def convert(node: Any, graph: Any) -> OperationConverterResult:
        del graph
        layer: nn.Module = nn.Mish()
        if kind == "Gelu":
            layer = nn.GELU(approximate=node.attributes.get("approximate", "none"))
        return OperationConverterResult(torch_module=layer, onnx_mapping=onnx_mapping_from_node(node))

    add_converter(operation_type=kind, version=SIMPLE[kind])(convert)
