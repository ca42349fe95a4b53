"""Walks the network of a .tflite file, and knows what each of its tensors is.

A file is nearly always written for one image at a time: its tensors have a first axis of length 1,
and its reshapes say so in numbers. So the network is read as what it does to one image, whatever
axes its tensors have, and a batch of images is that, done to each. A value of the graph leaves out
the first axis of a tensor where it has length 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fastdigit.compiler.frontends.common import GraphBuilder, clip, not_supported
from fastdigit.compiler.frontends.moments import Moments, combined, placed
from fastdigit.compiler.frontends.tflite.blocks import Blocks, between
from fastdigit.compiler.frontends.tflite.constants import FOLDS, fold
from fastdigit.compiler.frontends.tflite.exponentials import Exponential, Positive, joined
from fastdigit.compiler.frontends.tflite.ports import free_shape
from fastdigit.compiler.frontends.tflite.reader import Node, TFLiteModel, shown
from fastdigit.compiler.frontends.tflite.registry import CONVERTERS, Operator, Value
from fastdigit.compiler.frontends.tflite.weights import Constant, dequantized
from fastdigit.compiler.ir import Activation, Graph, Op, Shape
from fastdigit.compiler.ops import Eltwise, Reshape
from fastdigit.errors import ModelFormatError, UnsupportedError

__all__ = ["Formula", "Importer", "image_shape", "needed_nodes"]

#: Numbers that constants may have together: a file can use the same bytes many times.
MAX_NUMBERS = 1 << 27

#: ActivationFunctionType of the schema, by number. The kernels of TensorFlow Lite ignore the others
#: (TANH, SIGN_BIT), and no converter writes them.
FUSED: dict[int, tuple[Op, ...]] = {
    0: (),
    1: (Eltwise(Activation("relu")),),
    2: tuple(clip(-1.0, 1.0)),
    3: tuple(clip(0.0, 6.0)),
}

#: What formulas are made with: each as the operators of ONNX that do the same, one after the other.
_FORMULAS = {
    "ADD": ("Add",),
    "SUB": ("Sub",),
    "MUL": ("Mul",),
    "DIV": ("Div",),
    "NEG": ("Neg",),
    "SQRT": ("Sqrt",),
    "RSQRT": ("Sqrt", "Reciprocal"),
    "SQUARE": ("Pow",),
    "SQUARED_DIFFERENCE": ("Sub", "Pow"),
    "POW": ("Pow",),
    "MEAN": ("ReduceMean",),
    "RESHAPE": ("Reshape",),
    "EXPAND_DIMS": ("Reshape",),
    "TRANSPOSE": ("Transpose",),
}

#: Those that are only read as pieces of something.
PIECES = ("EXP", "GREATER", "RSQRT", "SELECT", "SELECT_V2")

INTEGER_KERNELS = (
    "the file is fully quantized: its values are integers, which takes integer kernels that are "
    "not there yet; convert without full-integer quantization, to float32, float16 or "
    "dynamic-range weights"
)

#: Custom operators whose network is hidden in them.
_COMPILED_FOR = {"edgetpu-custom-op": "an Edge TPU", "ethos-u": "an Ethos-U NPU"}


@dataclass(frozen=True)
class Formula:
    """A tensor that is not in the graph yet: what is computed with a mean, an exponential, or the
    blocks of an image."""

    what: Moments | Exponential | Positive | Blocks
    shape: Shape


Given = Constant | Value | Formula | None


def image_shape(shape: Shape) -> Shape:
    """Return the shape that a tensor of the file has in the graph."""
    if len(shape) > 1:
        return shape[1:] if shape[0] == 1 else shape
    return shape or (1,)


def _bytes_stored(model: TFLiteModel) -> int:
    """Return from where to where in the file its weights lie: several tensors may share bytes."""
    starts = [
        (tensor.data.__array_interface__["data"][0], tensor.data.nbytes)
        for tensor in model.tensors
        if tensor.data is not None and tensor.data.nbytes
    ]
    if not starts:
        return 0
    return int(max(start + size for start, size in starts) - min(starts)[0])


class Importer:
    """Walks the nodes once; ``env`` has what each tensor is, by its number.

    Parameters
    ----------
    model
        The network.
    outputs
        Numbers of the tensors to compute.
    """

    def __init__(self, model: TFLiteModel, outputs: Sequence[int]) -> None:
        self.model = model
        self.outputs = tuple(outputs)
        self.env: dict[int, Given] = {-1: None}
        self._numbers = 0
        self._places: dict[Moments, str] = {}
        self.nodes = needed_nodes(model, outputs)
        self.builder = GraphBuilder(_bytes_stored(model))
        _refuse_integers(model, [node for _, node in self.nodes], outputs)
        #: The inputs that are needed: the numbers of their tensors, by the names of their values.
        self.inputs: dict[str, int] = {}
        read = {number for _, node in self.nodes for number in node.inputs}
        for number in model.inputs:
            if number in read or number in outputs:
                value = f"input{len(self.inputs)}" if self.inputs else "input"
                self.inputs[value] = number
                shape = self._input_shape(number)
                self.env[number] = Value(self.builder.input(value, image_shape(shape)), shape)

    def run(self) -> Graph:
        for number, node in self.nodes:
            self._convert(number, node)
        values = []
        for number in self.outputs:
            name = shown(self.model.tensors[number].name)
            if number not in self.env:
                raise ModelFormatError(f"{self.model.name}: nothing computes the output {name}")
            value = self.placed(self.env[number])
            if not isinstance(value, Value):
                raise UnsupportedError(f"the output {name} does not depend on the input")
            values.append(value.name)
        return self.builder.build(*values)

    # ---- for converters ------------------------------------------------------------------------

    def shape(self, value: str) -> Shape:
        return self.builder.shapes[value]

    def emit(self, operator: Operator, shape: Shape, *ops: Op, source: str | None = None) -> Value:
        """Append operators to a value, by default that of the first input, such that the tensor of
        the file has ``shape``; a reshape is added if it takes one."""
        value = operator.value().name if source is None else source
        target = image_shape(shape)
        for op in ops:
            value = self.builder.add(operator.name, op, value)
        if self.shape(value) != target:
            value = self.builder.add(operator.name, Reshape(target), value)
        return Value(value, shape)

    def whole(self, operator: Operator, value: Value, rank: int | None = None) -> str:
        """Return a value with all axes that it has in the file, and more of length 1 in front."""
        target = (1,) * ((rank or len(value.shape)) - len(value.shape)) + value.shape
        return self.viewed(operator, value, target)

    def viewed(self, operator: Operator, value: Value, target: Shape) -> str:
        """Return a value of the graph in another shape."""
        if self.shape(value.name) == target:
            return value.name
        return self.builder.add(operator.name, Reshape(target), value.name)

    # ---- the walk ------------------------------------------------------------------------------

    def _input_shape(self, number: int) -> Shape:
        """Return the shape of an input in the file, if it is one image."""
        tensor = self.model.tensors[number]
        name = f"the input {shown(tensor.name)}"
        if tensor.type not in ("FLOAT32", "UINT8"):
            raise UnsupportedError(f"{name} has type {tensor.type}; supported is FLOAT32 or UINT8")
        if tensor.type == "UINT8":
            for _, node in self.nodes:
                if number in node.inputs and node.type not in ("CAST", "DEQUANTIZE"):
                    raise UnsupportedError(
                        f"{name} has type UINT8, and {node.type} computes with its bytes; "
                        "supported are those that become floats first (CAST, DEQUANTIZE)"
                    )
        if any(axis > 0 for axis in tensor.free):
            raise free_shape(self.model, tensor.name, number)
        if not tensor.shape or 0 in tensor.shape or len(image_shape(tensor.shape)) > 3:
            raise UnsupportedError(
                f"{name} has shape {tensor.shape}; supported are a batch of 1 and 1 to 3 "
                "dimensions behind it"
            )
        batches = {self.model.tensors[output].shape[:1] for output in self.outputs}
        if len(tensor.shape) > 1 and tensor.shape[0] != 1 and tensor.shape[:1] in batches:
            raise UnsupportedError(
                f"the file takes {tensor.shape[0]} images at a time; supported is 1: convert the "
                "model with a batch of 1, or of any size"
            )
        return tensor.shape

    def _convert(self, number: int, node: Node) -> None:
        if not node.outputs:
            raise ModelFormatError(f"{self.model.name}: operator {number} has no output")
        label = shown(self.model.tensors[node.outputs[0]].name)
        name = f"operator {number} {node.type} ({label})"
        try:
            results = self._results(node, name)
        except UnsupportedError as error:
            for output in node.outputs:
                tensor = self.model.tensors[output]
                known = all(tensor.shape) and not tensor.free and tensor.type == "FLOAT32"
                shape = image_shape(tensor.shape) if known else None
                self.env[output] = Value(
                    self.builder.stand_in(label, error, shape), tensor.shape or (1,)
                )
            return
        if len(results) != len(node.outputs):
            raise ModelFormatError(
                f"{self.model.name}: {name} has {len(node.outputs)} outputs, expected "
                f"{len(results)}"
            )
        self.env.update(zip(node.outputs, results, strict=True))

    def _results(self, node: Node, name: str) -> list[Given]:
        if node.type == "CUSTOM":
            raise _custom(name, node.custom)
        if node.type not in CONVERTERS and node.type not in FOLDS and node.type not in PIECES:
            raise not_supported(name, node.type)
        given = [self._given(number) for number in node.inputs]
        for value in given:
            if isinstance(value, Value) and self.builder.is_unknown(value.name):
                raise UnsupportedError  # the reason was given where the value was made
        fused = FUSED.get(int(node.options.get("FusedActivationFunction", 0)))
        if fused is None:
            raise UnsupportedError(
                f"{name}: fused activation {node.options['FusedActivationFunction']}; supported "
                "are NONE, RELU, RELU_N1_TO_1 and RELU6"
            )
        found = self._computed(node, name, given)
        results = found if isinstance(found, list) else [found]
        if not fused:
            return results
        return [self._activated(name, result, fused) for result in results]

    def _count(self, numbers: int) -> None:
        self._numbers += numbers
        if self._numbers > MAX_NUMBERS:
            raise UnsupportedError(f"the constants have more than {MAX_NUMBERS} numbers")

    def _given(self, number: int) -> Given:
        if number not in self.env:
            tensor = self.model.tensors[number]
            if tensor.data is None:
                raise ModelFormatError(
                    f"{self.model.name}: nothing computes tensor {shown(tensor.name)} before it is "
                    "read"
                )
            self._count(math.prod(tensor.shape))
            self.env[number] = dequantized(tensor)
        given = self.env[number]
        if isinstance(given, Formula) and isinstance(given.what, Moments):
            done = given.what in self._places and given.what.form == "scaled"
            return self.placed(given) if done else given
        return given

    def _computed(self, node: Node, name: str, given: list[Given]) -> Given | list[Given]:
        if node.type == "SHAPE" and given and isinstance(given[0], Value | Formula):
            return np.array(given[0].shape, dtype=np.int64)
        if not any(isinstance(one, Value | Formula) for one in given):
            if node.type not in FOLDS:
                raise not_supported(f"{name}, of constants,", node.type)
            constants = [one for one in given if not isinstance(one, Value | Formula)]
            results = fold(name, node.type, constants, node.options, len(node.outputs))
            self._count(sum(result.size for result in results))
            return [*results]
        if given and isinstance(given[0], Formula) and isinstance(given[0].what, Blocks):
            others = (None, *(self.placed(one) for one in given[1:]))
            operator = Operator(name, node.type, others, node.options)
            result = between(self, operator, given[0].what)
            return result if isinstance(result, Value) else Formula(result, result.shape)
        if any(isinstance(one, Formula) for one in given) or node.type in PIECES:
            formula = self._formula(node, name, given)
            if formula is not None:
                return formula
        inputs = tuple(self.placed(one) for one in given)
        known = self.model.tensors[node.inputs[0]].quantization if node.inputs else None
        operator = Operator(name, node.type, inputs, node.options, len(node.outputs), known)
        if node.type in PIECES:
            raise UnsupportedError(
                f"{name} is supported as a piece of layer normalization, selu or elu only"
            )
        if node.type not in CONVERTERS:
            raise not_supported(name, node.type)
        converted: Given | list[Given] = CONVERTERS[node.type](self, operator)
        return converted

    def _activated(self, name: str, result: Given, fused: Sequence[Op]) -> Given:
        if isinstance(result, Formula) and isinstance(result.what, Blocks):
            blocks = replace(result.what, fused=(*result.what.fused, *fused))
            return Formula(blocks, result.shape)
        value = self.placed(result)
        if not isinstance(value, Value):
            raise UnsupportedError(f"{name}: a constant with an activation")
        operator = Operator(name, "", (value,), {})
        return self.emit(operator, value.shape, *fused)

    # ---- formulas ------------------------------------------------------------------------------

    def placed(self, given: Given) -> Constant | Value | None:
        """Return a tensor, in the graph if it was a formula."""
        if not isinstance(given, Formula):
            return given
        if isinstance(given.what, Exponential):
            return Value(given.what.placed(self.builder), given.shape)
        if not isinstance(given.what, Moments):
            raise given.what.refused()
        if given.what not in self._places:
            self._places[given.what] = placed(self.builder, given.what)
        value = self._places[given.what]
        target = image_shape(given.shape)
        if self.shape(value) != target:
            value = self.builder.add(given.what.name, Reshape(target), value)
        return Value(value, given.shape)

    def _formula(self, node: Node, name: str, given: list[Given]) -> Given | None:
        """Return what a node makes of formulas, if that is one, or a value of the graph."""
        whats = [one.what if isinstance(one, Formula) else one for one in given]
        if not any(isinstance(what, Moments) for what in whats):
            result = joined(self.builder, name, node.type, whats)
            if result is None:
                return None
            shape = np.broadcast_shapes(*(one.shape for one in given if one is not None))
            return Value(result, shape) if isinstance(result, str) else Formula(result, shape)
        if node.type not in _FORMULAS:
            return None
        return self._moments(node, name, given)

    def _moments(self, node: Node, name: str, given: list[Given]) -> Formula | None:
        first = given[0]
        assert first is not None
        shapes = [tuple(one.shape) for one in given if one is not None]
        attributes: dict[str, object] = {"keepdims": 1}
        target: Shape | None = None
        operands: list[object] = [
            one.what if isinstance(one, Formula) else one.name if isinstance(one, Value) else one
            for one in given
        ]
        match node.type:
            case "MEAN":
                if not node.options.get("KeepDims") or not isinstance(operands[1], np.ndarray):
                    return None
                rank = len(shapes[0])
                axes = [int(axis) % rank for axis in operands[1].ravel()]
                lead = rank - len(image_shape(shapes[0]))
                shape = tuple(1 if axis in axes else n for axis, n in enumerate(shapes[0]))
                # Moments has a batch in front of the axes of a value.
                behind = [axis - lead + 1 for axis in axes if axis >= lead]
                operands = [operands[0], np.array(behind, dtype=np.int64)]
            case "RESHAPE" | "EXPAND_DIMS" | "TRANSPOSE":
                return None
            case _:
                shape = np.broadcast_shapes(*shapes)
        for onnx_type in _FORMULAS[node.type]:
            if onnx_type == "Pow" and node.type != "POW":
                operands = [operands[0], np.array(2.0)]
            if node.type == "SQUARED_DIFFERENCE" and onnx_type == "Sub":
                operands.sort(key=lambda one: isinstance(one, Moments))
            found = combined(self.builder, name, onnx_type, operands, attributes, target)  # type: ignore[arg-type]
            if found is None:
                return None
            operands = [found]
        assert found is not None
        return Formula(found, shape) if image_shape(shape) == _sizes(found) else None


_QUANTISED = ("INT8", "UINT8", "INT16", "INT4", "INT2")


def needed_nodes(model: TFLiteModel, outputs: Sequence[int]) -> list[tuple[int, Node]]:
    """Return the nodes that outputs need, in their order, with their numbers."""
    wanted = set(outputs)
    nodes = []
    for number in range(len(model.nodes) - 1, -1, -1):
        node = model.nodes[number]
        if wanted.intersection(node.outputs):
            wanted.update(node.inputs)
            nodes.append((number, node))
    return nodes[::-1]


def _refuse_integers(model: TFLiteModel, nodes: Sequence[Node], outputs: Sequence[int]) -> None:
    """Refuse quantised values. Constants may be, which stand for numbers, and images of bytes."""
    used = {number for node in nodes for number in (*node.inputs, *node.outputs) if number >= 0}
    makes_floats = {node.inputs[0] for node in nodes if node.type == "DEQUANTIZE" and node.inputs}
    for number in sorted({*used, *outputs}):
        tensor = model.tensors[number]
        if tensor.data is not None or tensor.quantization is None or tensor.type not in _QUANTISED:
            continue
        if number not in model.inputs or tensor.type != "UINT8" or number not in makes_floats:
            raise UnsupportedError(INTEGER_KERNELS)


def _sizes(moments: Moments) -> Shape:
    return tuple(moments.sizes[axis] for axis in moments.perm)


def _custom(name: str, custom: str) -> UnsupportedError:
    if custom in _COMPILED_FOR:
        return UnsupportedError(
            f"the file was compiled for {_COMPILED_FOR[custom]}, and its network is hidden in it; "
            "compile the .tflite file that it was made from"
        )
    if custom.startswith("Flex"):
        return UnsupportedError(
            f"{name}: an operator of TensorFlow ({custom.removeprefix('Flex')}) that TensorFlow "
            "Lite does not have; compile the model that it was converted from"
        )
    return UnsupportedError(f"{name} is a custom operator, {shown(custom)}, which is not supported")
