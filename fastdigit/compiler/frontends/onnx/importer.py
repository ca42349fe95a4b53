"""Walks an ONNX graph, and knows what each of its values is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest
from typing import Any, TypeAlias

import numpy as np

from fastdigit.compiler.frontends.common import (
    DEFAULTS,
    GraphBuilder,
    ImportOptions,
    Port,
    not_supported,
)
from fastdigit.compiler.frontends.moments import Moments, combined, placed
from fastdigit.compiler.frontends.onnx.batch import BatchAt, batch_first, placed_at
from fastdigit.compiler.frontends.onnx.choices import CHOICES, Truth, chosen
from fastdigit.compiler.frontends.onnx.constants import (
    DTYPES,
    EVALUATORS,
    FLOATS,
    Batch,
    Constant,
    Evaluator,
    PerImage,
    array_of,
    constant_of,
    vector_of,
)
from fastdigit.compiler.frontends.onnx.ports import chosen_outputs, input_shape
from fastdigit.compiler.frontends.onnx.registry import CONVERTERS, Operator
from fastdigit.compiler.frontends.onnx.shapes import target_shape
from fastdigit.compiler.frontends.onnx.upgrade import upgraded
from fastdigit.compiler.ir import Graph, Op, Shape
from fastdigit.compiler.ops import Reshape
from fastdigit.errors import UnsupportedError

__all__ = ["Importer"]


@dataclass(frozen=True)
class _Rows:
    """A value (N, ..., features) that was reshaped to (N * ..., features), one row a pixel.

    ``axis`` is that of the batch in the value.
    """

    value: str
    axis: int = 0


@dataclass(frozen=True)
class _Integers:
    """A value that the source has as integers: it is moved, and cast to floats."""

    value: str | BatchAt


_Known: TypeAlias = Constant | str | Moments | BatchAt | _Rows | _Integers | Truth | None

#: Operators that do the same to integers as to floats.
_MOVES = frozenset(
    {"Concat", "Flatten", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose"}
    | {"DepthToSpace", "Gather", "SpaceToDepth", "Unsqueeze"}
)


class Importer:
    """Walks an ONNX graph once.

    ``env`` maps each name to a constant, an IR value, a formula that is not in the graph yet, or
    the rows of a value. ``opset`` is the version of ONNX's operators.
    """

    def __init__(
        self,
        graph: Any,
        opset: int,
        options: ImportOptions = DEFAULTS,
        layout: str = "NCHW",
    ) -> None:
        self.graph = graph
        self.opset = opset
        self.options = options
        #: What the shapes that the options give mean, where the model says nothing of it.
        self.layout = layout
        #: Whether a shape that the options give could be meant in another order.
        self.ambiguous = False
        self.env: dict[str, _Known] = {"": None}
        self.batch: int | None = None
        self.inputs: list[Port] = []
        #: By the names of outputs, which axis is the batch.
        self.batch_axes: dict[str, int] = {}
        self._placed: dict[Moments, str] = {}
        self.outputs = chosen_outputs(graph, options)
        self._nodes = self._reachable()
        self._read_initializers()
        stored = sum(given.nbytes for given in self.env.values() if isinstance(given, np.ndarray))
        stored += sum(node.ByteSize() for node in self._nodes if node.op_type == "Constant")
        self.evaluator = Evaluator(stored)
        self.builder = GraphBuilder(stored // 4)
        self._read_inputs()

    def run(self) -> Graph:
        for node in self._nodes:
            try:
                self._convert(node)
            except UnsupportedError as error:
                for result in filter(None, node.output):
                    shape = self._expected_shape(node, result)
                    self.env[result] = self.builder.stand_in(result, error, shape)
        return self.builder.build(*map(self._result, self.outputs))

    def _result(self, output: str) -> str:
        """Return the value of an output."""
        value = self.env.get(output)
        if isinstance(value, _Rows):
            raise UnsupportedError(
                f"the output {output!r} has several rows for an image; supported is one result "
                "for each image"
            )
        if isinstance(value, _Integers):
            raise UnsupportedError(f"the output {output!r} is integers; supported are floats")
        if isinstance(value, Truth):
            raise UnsupportedError(
                f"the output {output!r} is the truth of a comparison; supported are floats"
            )
        self.batch_axes[output] = 0
        if isinstance(value, BatchAt):
            self.batch_axes[output], value = value.axis, value.value
        value = self._place(value)
        if not isinstance(value, str):
            raise UnsupportedError(f"the output {output!r} does not depend on the input")
        return value

    @property
    def values(self) -> list[str]:
        """The values of the inputs in the graph."""
        return self.builder.inputs

    def shape(self, value: str) -> Shape:
        return self.builder.shapes[value]

    def _expected_shape(self, node: Any, name: str) -> Shape | None:
        """Return the shape that ONNX's own inference finds for an output of a node that could not
        be read, if it is of images."""
        values = [self.env.get(source) for source in node.input]
        if not any(isinstance(value, str) for value in values):
            return None
        dims = self._inferred.get(name)
        known = dims is not None and len(dims) >= 2 and all(size > 0 for size in dims[1:])
        return dims[1:] if dims is not None and known else None

    @cached_property
    def _inferred(self) -> dict[str, tuple[int, ...]]:
        """Shapes of float values with the batch, 0 where a size is not known."""
        from onnx import helper, shape_inference

        model = helper.make_model(self.graph, opset_imports=[helper.make_opsetid("", self.opset)])
        try:
            graph = shape_inference.infer_shapes(model).graph
        except Exception:  # of no common class; then no more is said of what follows
            return {}
        return {
            value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
            for value in (*graph.value_info, *graph.output)
            if value.type.tensor_type.elem_type in FLOATS
            and value.type.tensor_type.HasField("shape")
        }

    def rank(self, given: Constant | str | None) -> int:
        """Return the number of axes of a value or constant, with the batch."""
        if given is None:
            return 0
        return given.ndim if isinstance(given, np.ndarray) else len(self.shape(given)) + 1

    def _read_initializers(self) -> None:
        if self.graph.sparse_initializer:
            raise UnsupportedError("the model has sparse weights; supported are dense ones")
        for tensor in self.graph.initializer:
            if tensor.name not in self._wanted:
                continue
            self.env[tensor.name] = array_of(f"the weights {tensor.name!r}", tensor)

    def _read_inputs(self) -> None:
        """Read the inputs that the outputs need."""
        for entry in self.graph.input:
            if entry.name not in self._wanted or entry.name in self.env:
                continue
            shape, batch, ambiguous = input_shape(entry, self.options, self.layout)
            self.batch = self.batch or batch
            self.ambiguous |= ambiguous
            dtype = DTYPES[entry.type.tensor_type.elem_type]
            value = "input" if not self.inputs else f"input {len(self.inputs) + 1}"
            self.builder.input(value, shape)
            self.inputs.append(Port(str(entry.name), shape, dtype=dtype))
            self.env[entry.name] = _Integers(value) if dtype == "uint8" else value
        if not self.inputs:
            raise UnsupportedError("the model's outputs do not depend on an input")

    def _reachable(self) -> list[Any]:
        """Return the nodes that the outputs need, in their order."""
        wanted = set(self.outputs)
        nodes = []
        for node in reversed(self.graph.node):
            if wanted.intersection(node.output):
                wanted.update(node.input)
                nodes.append(node)
        self._wanted = wanted
        return nodes[::-1]

    def _convert(self, node: Any) -> None:
        from onnx import helper

        name = _name_of(node)
        domain = "" if node.domain == "ai.onnx" else node.domain
        known = CONVERTERS.get(node.op_type)
        if (known is None or known.domain != domain) and (
            domain or node.op_type not in (*EVALUATORS, *CHOICES, "Shape", "Constant")
        ):
            if domain:
                raise UnsupportedError(f"{name}: domain {domain!r}; supported is ai.onnx")
            raise not_supported(name, node.op_type)
        results = [output for output in node.output if output in self._wanted and output]
        attributes = {
            attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute
        }
        raw = [self.env[source] for source in node.input]
        for value in raw:
            if isinstance(value, str) and self.builder.is_unknown(value):
                raise UnsupportedError  # the reason was given where the value was made
        rows = any(isinstance(value, _Rows) for value in raw)
        integers = any(isinstance(value, _Integers) for value in raw)
        if node.op_type == "Shape":
            self.env[node.output[0]] = self._shape_of(raw[0], attributes)
            return
        if integers and node.op_type not in ("Cast", *_MOVES):
            raise UnsupportedError(
                f"{name}: works on integers, which the input is; supported is a Cast to FLOAT "
                "before it"
            )
        if result := self._chosen(node, name, raw, attributes):
            self.env[node.output[0]] = result
            return
        result = self._applied(node, name, raw, attributes, raw if rows else None)
        values = result if isinstance(result, list | tuple) else (result,)
        for output, value in zip(node.output, values, strict=False):
            if integers and node.op_type != "Cast" and not isinstance(value, np.ndarray):
                self.env[output] = _Integers(value)
            else:
                self.env[output] = value
        if missing := [output for output in results if output not in self.env]:
            raise UnsupportedError(f"{name}: output {missing[0]!r} is used, which is not supported")

    def _chosen(
        self, node: Any, name: str, raw: list[_Known], attributes: Mapping[str, Any]
    ) -> Truth | str | None:
        """Return what a comparison, or what depends on one, results in; None if it is neither."""
        truths = [value for value in raw if isinstance(value, Truth)]
        known = all(isinstance(value, np.ndarray | None) for value in raw)
        if known or (not truths and node.op_type in ("Cast", "Identity")):
            return None
        if node.op_type not in CHOICES or node.domain not in ("", "ai.onnx"):
            if not truths:
                return None
            raise UnsupportedError(
                f"{name}: works on the truth of a comparison; supported are "
                f"{', '.join(sorted(CHOICES))}"
            )
        placed = [self._place(value) if isinstance(value, Moments) else value for value in raw]
        if any(isinstance(value, _Rows | BatchAt | _Integers) for value in placed):
            raise UnsupportedError(f"{name}: of rows or integers; supported are float images")
        given: Any = tuple(placed)
        likeness = tuple(None if isinstance(value, Truth) else value for value in placed)
        newest = upgraded(self, Operator(name, node.op_type, likeness, attributes), self.opset)  # type: ignore[arg-type]
        if not isinstance(newest, str):
            given = tuple(
                old if isinstance(old, Truth) else new
                for old, new in zip(given, newest.inputs, strict=False)
            )
        return chosen(self, Operator(name, node.op_type, given, attributes))

    def _applied(
        self,
        node: Any,
        name: str,
        raw: list[_Known],
        attributes: Mapping[str, Any],
        rows: list[Any] | None,
    ) -> Any:
        """Return what a node results in; ``rows`` are its inputs, if some are rows of images."""
        if rows is not None and node.op_type in ("LogSoftmax", "Softmax"):
            axis = attributes.get("axis", 1)  # of a matrix, the default of any opset
            if axis not in (1, -1):
                raise UnsupportedError(
                    f"{name}: axis={axis} of the rows of an image; supported is 1"
                )
            attributes = {**attributes, "axis": -1}
        plain: list[Any] = [v.value if isinstance(v, _Integers) else v for v in raw]
        values = [value for value in plain if isinstance(value, str | BatchAt | _Rows)]
        at = sorted({0 if isinstance(value, str) else value.axis for value in values}) or [0]
        if len(at) > 1:
            raise UnsupportedError(
                f"{name}: values with their batches as axes {at}; supported is one axis for all"
            )
        given = tuple(
            value.value if isinstance(value, BatchAt | _Rows) else value for value in plain
        )
        if any(isinstance(value, Moments) for value in given) and not at[0]:
            formula = self._formula(name, node.op_type, given, attributes)
            if formula is not None:
                return formula
        inputs = tuple(self._place(value) for value in given)
        operator = Operator(name, node.op_type, inputs, attributes, len(node.output), at[0])
        if node.domain in ("", "ai.onnx"):
            newest = upgraded(self, operator, self.opset)
            if isinstance(newest, str):
                if rows is not None or at[0]:
                    raise operator.refuse("the rows of an image", "an image")
                return newest
            operator = newest
        if rows is not None and node.op_type != "Reshape":
            return self._by_row(operator, rows)
        if (
            node.op_type == "Reshape"
            and isinstance(operator.inputs[0], str)
            and (split := self._as_rows(operator))
        ):
            return _Rows(self._rows_of(operator, split), operator.batch)
        if not at[0] or CONVERTERS[operator.op_type].anywhere:
            return self.converted(operator)
        rank = max(self.rank(value) for value in operator.inputs if isinstance(value, str))
        moved, axis = batch_first(operator, rank)
        results = self.converted(moved)
        several = results if isinstance(results, tuple) else (results,)
        placed = tuple(placed_at(str(self._place(value)), axis) for value in several)
        return placed if isinstance(results, tuple) else placed[0]

    def _formula(
        self,
        name: str,
        op_type: str,
        given: tuple[Constant | str | Moments | None, ...],
        attributes: Mapping[str, Any],
    ) -> Moments | None:
        """Return what an operator makes of a formula, if that is one."""
        likeness = tuple(None if isinstance(value, Moments) else value for value in given)
        newest = upgraded(self, Operator(name, op_type, likeness, attributes), self.opset)
        if isinstance(newest, str):
            return None
        known = [
            value if isinstance(value, Moments) else now
            for value, now in zip_longest(given, newest.inputs)
        ]
        target = None
        if op_type == "Reshape" and isinstance(known[0], Moments):
            found = target_shape(newest, self._dims(known[0]), self.batch)
            target = None if found is None or found[1] else found[0]
        return combined(self.builder, name, op_type, known, newest.attributes, target)

    def _as_rows(self, operator: Operator) -> int:
        """Return how many axes become rows, if a Reshape of an image makes a row of each pixel, of
        its other axes; 0 if it does not."""
        shape, target = self.shape(operator.value()), operator.constant(1)
        if target is None or target.size != 2:
            return 0
        rows, features = target.ravel()
        if isinstance(features, Batch):
            return 0
        # As few axes as can be in a row: a pixel is all of an image but its channels.
        for split in range(len(shape) - 1, max(operator.batch, 1) - 1, -1):
            pixels = math.prod(shape[:split])
            if pixels == 1 or int(features) != math.prod(shape[split:]):
                continue
            if isinstance(rows, Batch):
                fits = rows.multiple == pixels
            else:
                fits = int(rows) == -1 or int(rows) == (self.batch or 0) * pixels
            if fits:
                return split
        return 0

    def _rows_of(self, operator: Operator, split: int) -> str:
        """Return the value whose pixels are rows, with one axis for each row."""
        shape = self.shape(operator.value())
        if split == len(shape) - 1:
            return operator.value()
        return self.emit(operator, Reshape((*shape[:split], math.prod(shape[split:]))))

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
        return _Rows(self.converted(replace(operator, batch=0)), operator.batch)

    def _place(self, given: Constant | str | Moments | None) -> Constant | str | None:
        """Return a value, in the graph if it was a formula."""
        if not isinstance(given, Moments):
            return given
        if given not in self._placed:
            self._placed[given] = placed(self.builder, given)
        return self._placed[given]

    def converted(self, operator: Operator) -> Any:
        """Return what an operator in its newest form results in."""
        if operator.op_type == "Constant":
            return constant_of(operator)
        if any(isinstance(given, str) for given in operator.inputs):
            if operator.op_type not in CONVERTERS:  # what is read in formulas only
                raise not_supported(operator.name, operator.op_type)
            return CONVERTERS[operator.op_type].convert(self, operator)
        inputs = [given for given in operator.inputs if not isinstance(given, str)]
        if operator.op_type not in EVALUATORS:
            raise not_supported(operator.name, operator.op_type)
        try:
            return self.evaluator.evaluate(
                operator.op_type, inputs, operator.attributes, operator.outputs
            )
        except UnsupportedError as error:
            raise UnsupportedError(f"{operator.name}: {error}") from error

    def _dims(self, given: str | Moments) -> Shape:
        if isinstance(given, Moments):
            return tuple(given.sizes[axis] for axis in given.perm)
        return self.shape(given)

    def _shape_of(self, given: _Known, attributes: Mapping[str, Any]) -> Constant:
        dims: list[Any]
        if isinstance(given, PerImage):
            raise UnsupportedError("the shape of a constant with a batch axis")
        if isinstance(given, _Rows):
            *pixels, features = self.shape(given.value)
            dims = [Batch(math.prod(pixels)), features]
        elif isinstance(given, _Integers):
            return self._shape_of(given.value, attributes)
        elif isinstance(given, BatchAt):
            dims = list(self.shape(given.value))
            dims.insert(given.axis, Batch())
        elif isinstance(given, Truth):
            dims = [Batch(), *self.shape(given.value)]
        elif isinstance(given, str | Moments):
            dims = [Batch(), *self._dims(given)]
        else:
            assert given is not None
            dims = list(given.shape)
        return vector_of(dims[attributes.get("start", 0) : attributes.get("end")])

    def emit(self, operator: Operator, *ops: Op, source: str | None = None) -> str:
        """Append operators to an input of ``operator``; return the last value."""
        value = operator.value() if source is None else source
        for op in ops:
            value = self.builder.add(operator.name, op, value)
        return value


def _name_of(node: Any) -> str:
    return f"node {(node.name or node.output[0])!r} ({node.op_type})"
