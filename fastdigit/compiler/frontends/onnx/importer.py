"""Walks an ONNX graph, and knows what each of its values is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastdigit.compiler.frontends.common import GraphBuilder, not_supported
from fastdigit.compiler.frontends.moments import Moments, combined, placed
from fastdigit.compiler.frontends.onnx.constants import EVALUATORS, Batch, Constant, evaluate
from fastdigit.compiler.frontends.onnx.registry import CONVERTERS, Operator
from fastdigit.compiler.frontends.onnx.shapes import target_shape
from fastdigit.compiler.ir import Graph, Op, Shape
from fastdigit.errors import ModelFormatError, UnsupportedError

__all__ = ["Importer"]


@dataclass(frozen=True)
class _Rows:
    """A value (N, ..., features) that was reshaped to (N * ..., features), one row a pixel."""

    value: str


class Importer:
    """Walks an ONNX graph once.

    ``env`` maps each name to a constant, an IR value, a formula that is not in the graph yet, or
    the rows of a value.
    """

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.env: dict[str, Constant | str | Moments | _Rows | None] = {"": None}
        self._placed: dict[Moments, str] = {}
        self.batch: int | None = None
        self.output = self._choose_output()
        self._read_initializers()
        self.source_shape = self._read_input()
        self.builder = GraphBuilder()
        self.builder.input("input", self.source_shape)

    def run(self) -> Graph:
        output = self.output
        for node in self._reachable(output):
            try:
                self._convert(node)
            except UnsupportedError as error:
                for result in filter(None, node.output):
                    self.env[result] = self.builder.stand_in(result, error)
        value = self.env.get(output)
        if isinstance(value, _Rows):
            raise UnsupportedError(
                f"the output {output!r} has several rows for an image; supported is one result "
                "for each image"
            )
        value = self._place(value)
        if not isinstance(value, str):
            raise UnsupportedError(f"the output {output!r} does not depend on the input")
        return self.builder.build(value)

    def shape(self, value: str) -> Shape:
        return self.builder.shapes[value]

    def _choose_output(self) -> str:
        """Return the only output, or the only one of float numbers: a classifier of scikit-learn
        returns its label too."""
        from onnx import TensorProto

        outputs = list(self.graph.output)
        kinds = {output.name: output.type.WhichOneof("value") for output in outputs}
        for output in outputs:
            if kinds[output.name] == "sequence_type":
                raise UnsupportedError(
                    f"the output {output.name!r} is a sequence; supported is a tensor. If this is "
                    "a classifier of scikit-learn, convert it without ZipMap: "
                    "to_onnx(model, images[:1], options={'zipmap': False})"
                )
        if len(outputs) > 1:
            numbers = [
                output
                for output in outputs
                if output.type.tensor_type.elem_type == TensorProto.FLOAT
            ]
            if len(numbers) != 1:
                raise UnsupportedError(
                    f"the model has outputs {list(kinds)}; supported is one, or one of type FLOAT "
                    "beside labels"
                )
            outputs = numbers
        if not outputs:
            raise ModelFormatError("the model has no output")
        return str(outputs[0].name)

    def _read_initializers(self) -> None:
        from onnx import numpy_helper

        if self.graph.sparse_initializer:
            raise UnsupportedError("the model has sparse weights; supported are dense ones")
        for tensor in self.graph.initializer:
            try:
                self.env[tensor.name] = numpy_helper.to_array(tensor)
            except Exception as error:  # wrong lengths, unknown types
                raise ModelFormatError(f"the weights {tensor.name!r}: {error}") from error

    def _read_input(self) -> Shape:
        from onnx import TensorProto

        inputs = [entry for entry in self.graph.input if entry.name not in self.env]
        if len(inputs) != 1:
            names = [entry.name for entry in inputs]
            raise UnsupportedError(f"the model has inputs {names}; supported is one")
        name, kind = inputs[0].name, inputs[0].type.tensor_type
        if kind.elem_type != TensorProto.FLOAT:
            known = kind.elem_type in TensorProto.DataType.values()
            got = TensorProto.DataType.Name(kind.elem_type) if known else str(kind.elem_type)
            raise UnsupportedError(f"the input {name!r} has type {got}; supported is FLOAT")
        dims = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
        shape = tuple(size for size in dims[1:] if size is not None and size > 0)
        if not 2 <= len(dims) <= 4 or len(shape) != len(dims) - 1:
            raise UnsupportedError(
                f"the input {name!r} has shape {[d if d is not None else '?' for d in dims]}; "
                "supported are a batch axis and 1 to 3 fixed dimensions behind it"
            )
        self.batch = dims[0]
        self.input = name
        self.env[name] = "input"
        return shape

    def _reachable(self, output: str) -> list[Any]:
        """Return the nodes that the output needs, in their order."""
        wanted = {output}
        nodes = []
        for node in reversed(self.graph.node):
            if wanted.intersection(node.output):
                wanted.update(node.input)
                nodes.append(node)
        self._wanted = wanted
        return nodes[::-1]

    def _convert(self, node: Any) -> None:
        from onnx import helper

        name = f"node {(node.name or node.output[0])!r} ({node.op_type})"
        if _is_quantized(node.op_type):
            raise UnsupportedError(
                f"{name} is not supported: the model is quantized; compile the model in "
                "float32, which precision='int8' quantizes"
            )
        if node.domain not in ("", "ai.onnx"):
            known = CONVERTERS.get(node.op_type)
            if known is None or known.domain != node.domain:
                raise UnsupportedError(f"{name}: domain {node.domain!r}; supported is ai.onnx")
        if extra := [out for out in node.output[1:] if out and out in self._wanted]:
            raise UnsupportedError(f"{name}: output {extra[0]!r} is used; supported is the first")
        if node.op_type not in CONVERTERS and node.op_type not in (
            *EVALUATORS,
            "Shape",
            "Constant",
        ):
            raise not_supported(name, node.op_type)
        for source in node.input:
            value = self.env[source]
            if isinstance(value, str) and self.builder.is_unknown(value):
                raise UnsupportedError  # the reason was given where the value was made
        attributes = {
            attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute
        }
        raw = [self.env[source] for source in node.input]
        rows = any(isinstance(value, _Rows) for value in raw)
        given = [value.value if isinstance(value, _Rows) else value for value in raw]
        if node.op_type == "Shape":
            self.env[node.output[0]] = self._shape_of(raw[0], attributes)
            return
        if any(isinstance(value, Moments) for value in given):
            target = None
            if node.op_type == "Reshape" and isinstance(given[0], Moments):
                operator = Operator(name, "Reshape", (None, self._place(given[1])), attributes)
                target = target_shape(operator, self._dims(given[0]), self.batch)
            formula = combined(self.builder, name, node.op_type, given, attributes, target)
            if formula is not None:
                self.env[node.output[0]] = formula
                return
        inputs = tuple(self._place(value) for value in given)
        operator = Operator(name, node.op_type, inputs, attributes)
        if rows and node.op_type != "Reshape":
            self.env[node.output[0]] = self._by_row(operator, raw)
        elif node.op_type == "Reshape" and isinstance(inputs[0], str) and self._as_rows(operator):
            self.env[node.output[0]] = _Rows(inputs[0])
        else:
            self.env[node.output[0]] = self._result(operator)

    def _as_rows(self, operator: Operator) -> bool:
        """Whether a Reshape of an image makes a row of each pixel."""
        shape, target = self.shape(operator.value()), operator.constant(1)
        if target is None or len(shape) < 2 or target.size != 2:
            return False
        rows, features = target.ravel()
        pixels = math.prod(shape[:-1])
        if pixels == 1 or isinstance(features, Batch) or int(features) != shape[-1]:
            return False
        if isinstance(rows, Batch):
            return rows.multiple == pixels
        return int(rows) == -1 or int(rows) == (self.batch or 0) * pixels

    def _by_row(self, operator: Operator, raw: list[Any]) -> _Rows:
        by_row = sorted(op_type for op_type, known in CONVERTERS.items() if known.by_row)
        for index, given in enumerate(raw):
            alike = isinstance(given, _Rows | None) or (
                isinstance(given, np.ndarray)
                and (
                    given.ndim < 2 or given.shape[0] == 1 or operator.op_type in ("MatMul", "Gemm")
                )
            )
            if operator.op_type not in by_row or not alike:
                raise operator.refuse(
                    f"input {index} with the rows of an image", f"{', '.join(by_row)}"
                )
        result = self._result(operator)
        assert isinstance(result, str)
        return _Rows(result)

    def _place(self, given: Constant | str | Moments | None) -> Constant | str | None:
        """Return a value, in the graph if it was a formula."""
        if not isinstance(given, Moments):
            return given
        if given not in self._placed:
            self._placed[given] = placed(self.builder, given)
        return self._placed[given]

    def _result(self, operator: Operator) -> Constant | str | Moments:
        if operator.op_type == "Constant":
            return _constant(operator)
        if not any(isinstance(given, str) for given in operator.inputs):
            if operator.op_type in EVALUATORS:
                inputs = [given for given in operator.inputs if not isinstance(given, str)]
                try:
                    return evaluate(operator.op_type, inputs, operator.attributes)
                except UnsupportedError as error:
                    raise UnsupportedError(f"{operator.name}: {error}") from error
        elif operator.op_type in CONVERTERS:
            return CONVERTERS[operator.op_type].convert(self, operator)
        raise not_supported(operator.name, operator.op_type)

    def _dims(self, given: str | Moments) -> Shape:
        if isinstance(given, Moments):
            return tuple(given.sizes[axis] for axis in given.perm)
        return self.shape(given)

    def _shape_of(
        self, given: Constant | str | Moments | _Rows | None, attributes: Mapping[str, Any]
    ) -> Constant:
        dims: list[Any]
        if isinstance(given, _Rows):
            *pixels, features = self.shape(given.value)
            dims = [Batch(math.prod(pixels)), features]
        elif isinstance(given, str | Moments):
            dims = [Batch(), *self._dims(given)]
        else:
            assert given is not None
            dims = list(given.shape)
        sliced = dims[attributes.get("start", 0) : attributes.get("end")]
        if any(isinstance(size, Batch) for size in sliced):
            shape = np.empty(len(sliced), dtype=object)
            shape[:] = sliced
            return shape
        return np.array(sliced, dtype=np.int64)

    def emit(self, operator: Operator, *ops: Op, source: str | None = None) -> str:
        """Append operators to an input of ``operator``; return the last value."""
        value = operator.value() if source is None else source
        for op in ops:
            value = self.builder.add(operator.name, op, value)
        return value


def _constant(operator: Operator) -> Constant:
    from onnx import numpy_helper

    attributes = operator.attributes
    if "value" in attributes:
        try:
            return np.asarray(numpy_helper.to_array(attributes["value"]))
        except Exception as error:
            raise ModelFormatError(f"{operator.name}: {error}") from error
    for key, dtype in (("value_float", np.float32), ("value_int", np.int64)):
        for name in (key, f"{key}s"):
            if name in attributes:
                return np.array(attributes[name], dtype=dtype)
    raise operator.refuse(f"attribute {', '.join(attributes)}", "a tensor or numbers")


#: Of quantized models, beside those whose name says so: of ONNX, and of ONNX Runtime's domain.
_INTEGER_OPERATORS = frozenset(
    {"ConvInteger", "MatMulInteger", "MatMulInteger16", "MatMulNBits", "QAttention", "QGemm"}
)


def _is_quantized(op_type: str) -> bool:
    return (
        "quant" in op_type.lower() or op_type.startswith("QLinear") or op_type in _INTEGER_OPERATORS
    )
