"""Makes a model of an opset before 7 one of opset 7, the oldest that ONNX Runtime runs.

With that such models are verified. It shares no code with ``upgrade.py``, by which they are read:
there operators get their newest form, here nodes that of opset 7. onnx.version_converter lacks many
of these changes, refuses batches without a size, and aligns the slopes of a PRelu with columns.
Changes between opsets: https://github.com/onnx/onnx/blob/main/docs/Changelog.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastdigit.compiler.frontends.onnx.files import import_onnx_package
from fastdigit.compiler.frontends.onnx.graphs import opset_of
from fastdigit.errors import VerificationError

__all__ = ["OLDEST_RUN", "as_opset_7"]

#: The oldest opset all of whose operators ONNX Runtime has.
OLDEST_RUN = 7

#: Operators whose second operand began at ``axis`` of the first, if ``broadcast`` was 1.
_ALIGNED = frozenset(
    {"Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor"}
)
#: Attributes that are gone, and change nothing in inference.
_GONE = ("consumed_inputs", "is_test", "output_sequence")
#: How often ranks are looked for again, behind nodes that onnx knows since they were rewritten.
MAX_ROUNDS = 32


def as_opset_7(model: Any) -> Any:
    """Return a model that does the same, of opset 7; one that is newer as it is.

    Raises
    ------
    VerificationError
        If a node cannot be brought there.
    """
    opset = opset_of(model)
    if opset >= OLDEST_RUN:
        return model
    onnx = import_onnx_package()
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    for value in graph.output:  # which may say anything
        value.type.tensor_type.ClearField("shape")
    ranks = _ranks(onnx, copy)
    del graph.value_info[:]
    copy.ir_version = max(copy.ir_version, 4)  # from which on weights need not be inputs
    for entry in [each for each in copy.opset_import if each.domain in ("", "ai.onnx")]:
        copy.opset_import.remove(entry)
    copy.opset_import.append(onnx.helper.make_opsetid("", OLDEST_RUN))
    constants = {tensor.name: tensor for tensor in graph.initializer}
    waiting: dict[str, dict[str, Any]] = {}  # outputs of nodes, and the attributes these had
    for node in graph.node:
        given = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        if node.op_type == "Constant" and "value" in given:
            constants[node.output[0]] = given["value"]
        _rewrite(onnx, graph, node, given, opset)
        if _needs_ranks(node, given, opset):
            waiting[node.output[0]] = given
    for _ in range(MAX_ROUNDS):
        nodes = []
        for node in graph.node:
            output = node.output[0] if node.output else ""
            if output in waiting and all(name in ranks for name in node.input):
                nodes += _aligned(onnx, graph, node, waiting.pop(output), ranks, constants, opset)
            nodes.append(node)
        if len(nodes) > len(graph.node):
            nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
            del graph.node[:]
            graph.node.extend(nodes)
        if not waiting:
            return copy
        ranks |= _ranks(onnx, copy)  # also of what is behind nodes that are new to onnx
    last = next(node for node in graph.node if node.output and node.output[0] in waiting)
    raise _cannot(last, opset, "the rank of an operand is not known")


def _cannot(node: Any, opset: int, reason: str) -> VerificationError:
    return VerificationError(
        f"ONNX Runtime does not run opset {opset}, and node {node.name or node.output[0]!r} "
        f"({node.op_type}) cannot be brought to opset {OLDEST_RUN}, so the result cannot be "
        f"verified: {reason}"
    )


def _ranks(onnx: Any, model: Any) -> dict[str, int]:
    """Return the number of axes of the values of which onnx can tell."""
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except Exception:  # whatever C++ raises
        graph = model.graph
    ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            ranks[value.name] = len(value.type.tensor_type.shape.dim)
    return ranks


def _drop(node: Any, *names: str) -> None:
    for each in [each for each in node.attribute if each.name in names]:
        node.attribute.remove(each)


def _give(onnx: Any, node: Any, **attributes: Any) -> None:
    _drop(node, *attributes)
    node.attribute.extend(onnx.helper.make_attribute(*each) for each in attributes.items())


def _give_input(onnx: Any, graph: Any, node: Any, values: Any) -> None:
    """Make integers the second and last input of a node."""
    name = f"{node.output[0]}:opset7"
    array = np.asarray(values, dtype=np.int64)
    graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    del node.input[1:]
    node.input.append(name)


def _rewrite(onnx: Any, graph: Any, node: Any, given: Mapping[str, Any], opset: int) -> None:
    """Bring a node to opset 7 as far as no ranks are needed. ``given`` are its attributes."""
    kind = node.op_type
    _drop(node, *_GONE)
    if kind == "Gemm" or kind in _ALIGNED:
        _drop(node, "broadcast", "axis")
    elif kind == "Cast" and opset < 6:
        numbers = dict(onnx.TensorProto.DataType.items())
        _give(onnx, node, to=numbers.get(given["to"].decode(), 0))
    elif kind == "Concat" and opset < 4:
        _give(onnx, node, axis=given.get("axis", 1))
    elif kind == "Pad" and opset < 2 and "paddings" in given:
        _drop(node, "paddings")
        _give(onnx, node, pads=given["paddings"])
    elif kind == "Reshape" and opset < 5 and "shape" in given:
        _drop(node, "shape")
        _give_input(onnx, graph, node, given["shape"])
    elif kind == "Selu" and opset < 6:
        _give(onnx, node, alpha=given.get("alpha", 1.6732), gamma=given.get("gamma", 1.0507))
    elif kind == "Upsample" and {"height_scale", "width_scale"} <= given.keys():
        _drop(node, "height_scale", "width_scale")
        mode = given.get("mode", b"nearest").decode()
        scales = [1.0, 1.0, given["height_scale"], given["width_scale"]]
        _give(onnx, node, scales=scales, mode="linear" if mode == "bilinear" else mode)


def _needs_ranks(node: Any, given: Mapping[str, Any], opset: int) -> bool:
    if node.op_type in _ALIGNED:
        return bool(given.get("broadcast", 0)) and "axis" in given
    return node.op_type == "PRelu" or (node.op_type == "Tile" and opset < 6)


def _aligned(
    onnx: Any,
    graph: Any,
    node: Any,
    given: Mapping[str, Any],
    ranks: Mapping[str, int],
    constants: Mapping[str, Any],
    opset: int,
) -> list[Any]:
    """Bring a node to opset 7 for which the ranks of its inputs are needed; return nodes that come
    before it."""
    rank, kind = ranks[node.input[0]], node.op_type
    if kind == "Tile":
        tensors = [constants[name] for name in node.input[1:] if name in constants]
        if len(tensors) != 2:
            raise _cannot(node, opset, "its tiles and its axis are not constants")
        tiles, axis = (int(onnx.numpy_helper.to_array(tensor).item()) for tensor in tensors)
        _give_input(onnx, graph, node, [tiles if at == axis % rank else 1 for at in range(rank)])
        return []
    second = node.input[1]
    own = ranks[second]
    if kind != "PRelu":
        first = given["axis"] + rank if given["axis"] < 0 else given["axis"]
    elif own == 1 and not (second in constants and list(constants[second].dims) == [1]):
        first = 1  # a vector has a slope for each channel
    else:
        return []
    behind = rank - first - own
    if behind <= 0:
        return []
    node.input[1] = f"{node.output[0]}:aligned"
    axes = list(range(own, own + behind))
    return [onnx.helper.make_node("Unsqueeze", [second], [node.input[1]], axes=axes)]
