"""From an ONNX model to the IR.

The graph is imported faithfully: values keep ONNX's order of axes, and each NCHW operator becomes
its NHWC equivalent between two transposes, which the passes cancel. Semantics: ONNX operator
specification (https://onnx.ai/onnx/operators/). The file is not trusted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastdigit.compiler.frontends.common import (
    GraphBuilder,
    Imported,
    batchnorm,
    clip,
    same_padding,
    uniform,
)
from fastdigit.compiler.frontends.onnx_constants import EVALUATORS, Batch, Constant, evaluate
from fastdigit.compiler.frontends.onnx_reduce import (
    Moments,
    combined,
    mean_of,
    normalized,
    placed,
    reduction,
)
from fastdigit.compiler.ir import (
    Activation,
    Array,
    Binary,
    Concat,
    Conv2D,
    Dense,
    Eltwise,
    Graph,
    LayerNorm,
    Node,
    Op,
    Pad,
    Pair,
    Pool,
    Pool2D,
    Reshape,
    Shape,
    Sides,
    Softmax,
    Transpose,
)
from fastdigit.compiler.ops import make_graph
from fastdigit.compiler.passes.cancel_transposes import unit_permutation
from fastdigit.errors import MissingExtraError, ModelFormatError, UnsupportedError

__all__ = ["MIN_OPSET", "SUPPORTED_OPERATORS", "import_onnx", "load_onnx"]

MIN_OPSET = 13
MAX_FILE_BYTES = 1 << 30

# For one image, without the batch axis.
TO_NHWC = Transpose((1, 2, 0))
TO_NCHW = Transpose((2, 0, 1))


def load_onnx(path: Path) -> Any:
    """Return the ``ModelProto`` in a file; weights in other files are not read.

    Raises
    ------
    MissingExtraError
        If onnx is not installed.
    ModelFormatError
        If the file is not a valid ONNX model.
    """
    onnx = _import_onnx()
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ModelFormatError(f"{path.name}: larger than {MAX_FILE_BYTES} bytes")
    try:
        return onnx.load_model_from_string(path.read_bytes())
    except Exception as error:  # protobuf's DecodeError, in whichever implementation is installed
        raise ModelFormatError(f"{path.name}: not an ONNX model: {error}") from error


def import_onnx(model: Any) -> Imported:
    """Return the network of a ``ModelProto``.

    Raises
    ------
    ModelFormatError
        If the model is not valid ONNX.
    UnsupportedError
        Naming the node and what is supported.
    """
    _check(model)
    importer = _Importer(model.graph)
    graph, layout = _channels_last(importer.run())
    shape = importer.source_shape
    return Imported(graph, "onnx", str(model.graph.name), shape, layout, importer.output)


def _import_onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError(
            "reading an ONNX model needs onnx: pip install fastdigit[export]"
        ) from error
    return onnx


def _check(model: Any) -> None:
    onnx = _import_onnx()
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise UnsupportedError(
                f"the weights {tensor.name!r} are in another file; save the model with its weights "
                "inside: onnx.save(onnx.load(path), path)"
            )
    for node in model.graph.node:
        kind = node.op_type  # bytes, if it is no UTF-8: the checker has a message for that
        if node.domain in ("", "ai.onnx") and isinstance(kind, str) and not onnx.defs.has(kind):
            name = node.name or ", ".join(node.output)
            raise UnsupportedError(
                f"node {name!r} ({node.op_type}): ONNX has no such operator. The exporter did "
                "not know how to convert it, so no runtime can run this file; compile the Keras "
                "model or SavedModel that it comes from"
            )
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # ValidationError, or what pybind makes of a broken model
        raise ModelFormatError(f"not a valid ONNX model: {error}") from error
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    opset, newest = opsets.get("ai.onnx", 0), onnx.defs.onnx_opset_version()
    if not MIN_OPSET <= opset <= newest:
        raise UnsupportedError(
            f"the model uses opset {opset}; supported are {MIN_OPSET} to {newest} "
            "(onnx.version_converter converts between them)"
        )


@dataclass(frozen=True)
class _Operator:
    """An ONNX node with its inputs looked up: constants, names of IR values, or None."""

    name: str
    op_type: str
    inputs: tuple[Constant | str | None, ...]
    attributes: Mapping[str, Any]

    def value(self, index: int = 0) -> str:
        """Return an input that depends on the image."""
        given = self.inputs[index] if index < len(self.inputs) else None
        if not isinstance(given, str):
            raise UnsupportedError(f"{self.name}: input {index} is a constant")
        return given

    def constant(self, index: int) -> Constant | None:
        """Return an input that is known ahead of time, or None if it is not given."""
        given = self.inputs[index] if index < len(self.inputs) else None
        if isinstance(given, str):
            raise UnsupportedError(
                f"{self.name}: input {index} depends on the image; supported is a constant"
            )
        return given

    def weights(self, index: int) -> Array | None:
        """Return a constant of floating-point numbers."""
        given = self.constant(index)
        if given is None:
            return None
        if given.dtype.kind != "f":
            raise UnsupportedError(f"{self.name}: input {index} is {given.dtype}, expected float32")
        if not np.isfinite(given).all():
            raise UnsupportedError(f"{self.name}: input {index} has values that are not finite")
        return given if given.dtype == np.float64 else given.astype(np.float32)

    def ints(self, index: int) -> list[int] | None:
        """Return a constant vector of integers."""
        given = self.constant(index)
        if given is None:
            return None
        if given.dtype.kind not in "iu":
            raise UnsupportedError(f"{self.name}: input {index} is not a vector of known integers")
        return [int(number) for number in given.ravel()]

    def text(self, name: str, default: str) -> str:
        """Return an attribute that is a string."""
        given: bytes = self.attributes.get(name, default.encode())
        return given.decode(errors="replace")

    def refuse(self, what: str, supported: str) -> UnsupportedError:
        return UnsupportedError(f"{self.name}: {what}; supported is {supported}")


@dataclass(frozen=True)
class _Rows:
    """A value (N, ..., features) that was reshaped to (N * ..., features), one row a pixel."""

    value: str


#: What computes each row from itself, or with a constant that is the same for each row.
_BY_ROW = frozenset(
    {
        *("Add", "Clip", "Div", "Elu", "Erf", "Gelu", "Gemm"),
        *("HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "MatMul", "Mul"),
        *("Neg", "Relu", "Selu", "Sigmoid", "Softplus", "Sub", "Swish", "Tanh"),
    }
)


class _Importer:
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
        self.builder = GraphBuilder("input", self.source_shape)

    def run(self) -> Graph:
        output = self.output
        for node in self._reachable(output):
            self._convert(node)
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
        if node.domain not in ("", "ai.onnx") and (node.domain, node.op_type) not in _OTHER_DOMAINS:
            raise UnsupportedError(f"{name}: domain {node.domain!r}; supported is ai.onnx")
        if extra := [out for out in node.output[1:] if out and out in self._wanted]:
            raise UnsupportedError(f"{name}: output {extra[0]!r} is used; supported is the first")
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
                operator = _Operator(name, "Reshape", (None, self._place(given[1])), attributes)
                target = _target(operator, self._dims(given[0]), self.batch)
            formula = combined(self.builder, name, node.op_type, given, attributes, target)
            if formula is not None:
                self.env[node.output[0]] = formula
                return
        inputs = tuple(self._place(value) for value in given)
        operator = _Operator(name, node.op_type, inputs, attributes)
        if rows and node.op_type != "Reshape":
            self.env[node.output[0]] = self._by_row(operator, raw)
        elif node.op_type == "Reshape" and isinstance(inputs[0], str) and self._as_rows(operator):
            self.env[node.output[0]] = _Rows(inputs[0])
        else:
            self.env[node.output[0]] = self._result(operator)

    def _as_rows(self, operator: _Operator) -> bool:
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

    def _by_row(self, operator: _Operator, raw: list[Any]) -> _Rows:
        for index, given in enumerate(raw):
            alike = isinstance(given, _Rows | None) or (
                isinstance(given, np.ndarray)
                and (
                    given.ndim < 2 or given.shape[0] == 1 or operator.op_type in ("MatMul", "Gemm")
                )
            )
            if operator.op_type not in _BY_ROW or not alike:
                raise operator.refuse(
                    f"input {index} with the rows of an image", f"{', '.join(sorted(_BY_ROW))}"
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

    def _result(self, operator: _Operator) -> Constant | str | Moments:
        if operator.op_type == "Constant":
            return _constant(operator)
        if not any(isinstance(given, str) for given in operator.inputs):
            if operator.op_type in EVALUATORS:
                inputs = [given for given in operator.inputs if not isinstance(given, str)]
                try:
                    return evaluate(operator.op_type, inputs, operator.attributes)
                except UnsupportedError as error:
                    raise UnsupportedError(f"{operator.name}: {error}") from error
        elif operator.op_type in _CONVERTERS:
            return _CONVERTERS[operator.op_type](self, operator)
        raise UnsupportedError(
            f"{operator.name} is not supported; supported are {', '.join(SUPPORTED_OPERATORS)}"
        )

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

    def emit(self, operator: _Operator, *ops: Op, source: str | None = None) -> str:
        """Append operators to an input of ``operator``; return the last value."""
        value = operator.value() if source is None else source
        for op in ops:
            value = self.builder.add(operator.name, op, value)
        return value


def _constant(operator: _Operator) -> Constant:
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


# ---- the input ---------------------------------------------------------------------------------


def _channels_last(graph: Graph) -> tuple[Graph, str]:
    """Make an NCHW input NHWC, with a transpose behind it; return also the source's layout."""
    shape = graph.shapes[graph.input]
    if len(shape) != 3 or _source_layout(graph) == "NHWC":
        return graph, "NHWC"
    source = f"{graph.input}:nhwc"
    transpose = Node(graph.input, TO_NCHW, (source,), graph.input)
    channels, height, width = shape
    nodes = (transpose, *graph.nodes)
    return make_graph(source, (height, width, channels), nodes, graph.output), "NCHW"


def _source_layout(graph: Graph) -> str:
    """Tell the layout of a rank-3 input from the first operator that moves its axes.

    The importer puts a transpose to NHWC before whatever works on NCHW images, so an input that
    goes there is NCHW; one that the source transposes or reshapes to NCHW first is NHWC.
    """
    shape = graph.shapes[graph.input]
    reached = {graph.input}
    for node in graph.nodes:
        if not reached.intersection(node.inputs):
            continue
        perm: tuple[int, ...] | None = None
        if isinstance(node.op, Transpose):
            perm = node.op.perm
        elif isinstance(node.op, Reshape):
            perm = unit_permutation(graph.shapes[node.inputs[0]], node.op.shape)
        elif not isinstance(node.op, Eltwise | Pad | Binary | Concat):
            continue
        if perm == TO_NHWC.perm:
            return "NCHW"
        if perm == TO_NCHW.perm:
            return "NHWC"
        reached.add(node.output)
    return "NCHW" if shape[0] == 1 and shape[2] != 1 else "NHWC"


# ---- convolution and pooling -------------------------------------------------------------------


def _spatial(importer: _Importer, operator: _Operator) -> Pair:
    """Return (height, width) of the first input, which is NCHW, or NCW: an image of one row."""
    shape = importer.shape(operator.value())
    if len(shape) not in (2, 3):
        raise operator.refuse(f"an input of {len(shape) - 1} spatial dimensions", "1 or 2")
    return (1, shape[1]) if len(shape) == 2 else (shape[1], shape[2])


def _channels_last_ops(importer: _Importer, operator: _Operator, *ops: Op) -> str:
    """Apply operators of NHWC images to the first input, which is NCHW or NCW."""
    shape = importer.shape(operator.value())
    if len(shape) == 3:
        return importer.emit(operator, TO_NHWC, *ops, TO_NCHW)
    channels, width = shape
    value = importer.emit(operator, Transpose((1, 0)), Reshape((1, width, channels)), *ops)
    row = importer.shape(value)[1:]
    return importer.emit(operator, Reshape(row), Transpose((1, 0)), source=value)


def _pair(importer: _Importer, operator: _Operator, name: str, default: Pair) -> Pair:
    """Return an attribute with a number for each spatial axis of the first input."""
    values = operator.attributes.get(name)
    if values is None:
        return default
    axes = len(importer.shape(operator.value())) - 1
    if len(values) != axes:
        raise operator.refuse(f"{name} {list(values)}", f"{axes} numbers")
    return (1, int(values[0])) if axes == 1 else (int(values[0]), int(values[1]))


def _pads(
    importer: _Importer, operator: _Operator, size: Pair, extent: Pair, stride: Pair
) -> Sides:
    auto = operator.text("auto_pad", "NOTSET")
    if min(stride) < 1:
        raise operator.refuse(f"strides {stride}", "1 and more")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        return same_padding(size, extent, stride, extra_first=auto == "SAME_LOWER")
    if auto == "VALID":
        return (0, 0, 0, 0)
    axes = len(importer.shape(operator.value())) - 1
    pads = [int(pad) for pad in operator.attributes.get("pads", [0] * 2 * axes)]
    if auto != "NOTSET" or len(pads) != 2 * axes or min(pads) < 0:
        raise operator.refuse(
            f"auto_pad {auto}, pads {pads}", f"{2 * axes} pads >= 0, VALID or SAME"
        )
    return (0, pads[0], 0, pads[1]) if axes == 1 else (pads[0], pads[1], pads[2], pads[3])


def _convert_conv(importer: _Importer, operator: _Operator) -> str:
    size = _spatial(importer, operator)
    weights, bias = operator.weights(1), operator.weights(2)
    rank = len(importer.shape(operator.value())) + 1
    if weights is None or weights.ndim != rank:
        raise operator.refuse(
            f"weights are missing or not of rank {rank}", "constant weights (O,I,H,W) or (O,I,W)"
        )
    if rank == 3:
        weights = weights[:, :, np.newaxis]
    stride = _pair(importer, operator, "strides", (1, 1))
    dilation = _pair(importer, operator, "dilations", (1, 1))
    kernel = (weights.shape[2], weights.shape[3])
    if _pair(importer, operator, "kernel_shape", kernel) != kernel:
        raise ModelFormatError(f"{operator.name}: kernel_shape contradicts the weights {kernel}")
    extent = (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)
    pad = _pads(importer, operator, size, extent, stride)
    groups = int(operator.attributes.get("group", 1))
    conv = Conv2D(weights.transpose(2, 3, 1, 0), bias, stride, dilation, pad, groups=groups)
    return _channels_last_ops(importer, operator, conv)


def _convert_pool(importer: _Importer, operator: _Operator) -> str:
    image = _spatial(importer, operator)
    mode = "max" if operator.op_type == "MaxPool" else "average"
    size = _pair(importer, operator, "kernel_shape", (0, 0))
    stride = _pair(importer, operator, "strides", (1, 1))
    if (dilation := _pair(importer, operator, "dilations", (1, 1))) != (1, 1):
        raise operator.refuse(f"dilations={dilation}", "(1, 1)")
    pad = _pads(importer, operator, image, size, stride)
    ceil = operator.attributes.get("ceil_mode", 0)
    ceiled = _ceil_padding(image, size, stride, pad) if ceil else pad
    ops: list[Op] = []
    if mode == "average" and operator.attributes.get("count_include_pad", 0) and any(pad):
        # What ceil_mode adds to it does not count.
        top, left, bottom, right = pad
        ops.append(Pad(((top, bottom), (left, right), (0, 0))))
        pad = (0, 0, ceiled[2] - bottom, ceiled[3] - right)
    else:
        pad = ceiled
    return _channels_last_ops(importer, operator, *ops, Pool2D(Pool(mode, size, stride, pad)))


def _ceil_padding(image: Pair, size: Pair, stride: Pair, pad: Sides) -> Sides:
    """Return padding with which sizes that round down equal ``pad``'s sizes that round up.

    A window that would start in the padding at the end is left out, as ONNX has it.
    """
    ends = []
    for axis in (0, 1):
        before, after = pad[axis], pad[axis + 2]
        span = image[axis] + before + after - size[axis]
        windows = -(-span // stride[axis]) + 1
        if (windows - 1) * stride[axis] >= image[axis] + before:
            windows -= 1
        ends.append(max(after, (windows - 1) * stride[axis] + size[axis] - image[axis] - before))
    return pad[0], pad[1], ends[0], ends[1]


def _convert_global_pool(importer: _Importer, operator: _Operator) -> str:
    size = _spatial(importer, operator)
    mode = "max" if operator.op_type == "GlobalMaxPool" else "average"
    return _channels_last_ops(importer, operator, Pool2D(Pool(mode, size, size)))


def _convert_reduce(importer: _Importer, operator: _Operator) -> str | Moments:
    shape = importer.shape(operator.value())
    rank = len(shape) + 1
    given = operator.attributes.get("axes") or operator.ints(1)
    if not given:
        if operator.attributes.get("noop_with_empty_axes", 0):
            return operator.value()
        given = list(range(rank))
    axes = sorted(axis % rank for axis in given)
    if axes[0] == 0 or len(set(axes)) != len(axes):
        raise operator.refuse(f"axes {list(given)} of rank {rank}", "axes behind the batch")
    behind = [axis - 1 for axis in axes]
    keep = operator.attributes.get("keepdims", 1)
    if operator.op_type == "ReduceMean" and keep:
        return mean_of(importer.builder, operator.name, operator.value(), behind)
    kept = tuple(size for axis, size in enumerate(shape) if axis not in behind)
    if not keep and not kept:
        raise operator.refuse("a single number as the result", "keepdims=1, or an axis that stays")
    kind = {"ReduceMean": "mean", "ReduceMax": "max", "ReduceSum": "sum"}[operator.op_type]
    ops = reduction(kind, shape, behind)
    return importer.emit(operator, *ops, *([] if keep else [Reshape(kept)]))


# ---- matrices ----------------------------------------------------------------------------------


def _dense(importer: _Importer, operator: _Operator, weights: Array, bias: Array | None) -> str:
    shape = importer.shape(operator.value())
    if not shape or weights.ndim != 2:
        raise operator.refuse(
            f"an input of rank {len(shape) + 1} times weights of rank {weights.ndim}",
            "a batch of vectors, or of values with more axes, times a matrix",
        )
    if len(shape) == 1:
        return importer.emit(operator, Dense(weights, bias))
    # A product for each pixel, or step of a sequence.
    image = (math.prod(shape[:-2]), *shape[-2:])
    conv = Conv2D(weights[np.newaxis, np.newaxis], bias)
    target = Reshape((*shape[:-1], weights.shape[1]))
    return importer.emit(operator, Reshape(image), conv, target)


def _convert_matmul(importer: _Importer, operator: _Operator) -> str:
    operator.value()  # refuses a constant on the left
    weights = operator.weights(1)
    if weights is None:
        raise ModelFormatError(f"{operator.name}: the second input is missing")
    return _dense(importer, operator, weights, None)


def _convert_gemm(importer: _Importer, operator: _Operator) -> str:
    attributes = operator.attributes
    weights, bias = operator.weights(1), operator.weights(2)
    if weights is None or weights.ndim != 2:
        raise operator.refuse("weights are missing or not of rank 2", "a constant matrix")
    if attributes.get("transA", 0):
        raise operator.refuse("transA=1", "0")
    if attributes.get("transB", 0):
        weights = weights.T
    alpha, beta = float(attributes.get("alpha", 1.0)), float(attributes.get("beta", 1.0))
    if alpha != 1.0:
        weights = weights.astype(np.float64) * alpha
    if bias is not None:
        outputs = weights.shape[1]
        if (
            bias.ndim > 2
            or bias.size not in (1, outputs)
            or bias.shape[-1:] not in ((), (1,), (outputs,))
        ):
            raise operator.refuse(f"a bias of shape {bias.shape}", f"({outputs},)")
        bias = np.broadcast_to(bias.ravel(), (outputs,))
        if beta != 1.0:
            bias = bias.astype(np.float64) * beta
    return _dense(importer, operator, weights, bias)


# ---- element by element ------------------------------------------------------------------------


def _convert_batchnorm(importer: _Importer, operator: _Operator) -> str:
    if operator.attributes.get("training_mode", 0):
        raise operator.refuse("training_mode=1", "0")
    gamma, beta, mean, variance = (operator.weights(index) for index in (1, 2, 3, 4))
    if mean is None or variance is None:
        raise ModelFormatError(f"{operator.name}: mean or variance is missing")
    epsilon = float(operator.attributes.get("epsilon", 1e-5))
    affine = batchnorm(0, mean, variance, gamma, beta, epsilon)
    return importer.emit(operator, Eltwise(affine=affine))


def _aligned(operator: _Operator, constant: Array, shape: Shape) -> Array:
    """Return a constant with the axes of a value of ``shape``, without the batch."""
    rank = len(shape) + 1
    dims = (1,) * (rank - constant.ndim) + constant.shape
    if len(dims) != rank or dims[0] != 1:
        raise operator.refuse(
            f"a constant of shape {constant.shape} with an image of shape {shape}",
            "one of at most its rank, the same for each image",
        )
    if any(b not in (1, a) for a, b in zip(shape, dims[1:], strict=True)):
        raise operator.refuse(
            f"a constant of shape {constant.shape} enlarges an image of shape {shape}",
            "a constant that keeps the shape",
        )
    return constant.reshape(dims[1:])


_KINDS = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Max": "max", "Min": "min"}


def _convert_arithmetic(importer: _Importer, operator: _Operator) -> str:
    left, right = operator.inputs
    kind = _KINDS[operator.op_type]
    if isinstance(left, str) and isinstance(right, str):
        return importer.builder.combine(operator.name, kind, left, right)
    value_first = isinstance(left, str)
    source = operator.value(0 if value_first else 1)
    constant = operator.weights(1 if value_first else 0)
    if constant is None:
        raise ModelFormatError(f"{operator.name}: an input is missing")
    shape = importer.shape(source)
    constant = _aligned(operator, constant, shape).astype(np.float64)
    ops: list[Op] = []
    match operator.op_type, value_first:
        case "Sub", False:
            ops.append(Eltwise(affine=uniform(shape, -1.0)))
            kind = "add"
        case "Sub", True:
            kind, constant = "add", -constant
        case "Div", _:
            if not value_first or not constant.all():
                raise operator.refuse("a division by the image or by zero", "one by a constant")
            kind, constant = "mul", 1.0 / constant
    return importer.emit(operator, *ops, Binary(kind, constant), source=source)


def _convert_extremum(importer: _Importer, operator: _Operator) -> str:
    """Max and Min take any number of operands."""
    values = [given for given in operator.inputs if isinstance(given, str)]
    result = values[0]
    for value in values[1:]:
        result = importer.builder.combine(operator.name, _KINDS[operator.op_type], result, value)
    for index, given in enumerate(operator.inputs):
        if not isinstance(given, str) and (constant := operator.weights(index)) is not None:
            aligned = _aligned(operator, constant, importer.shape(result))
            binary = Binary(_KINDS[operator.op_type], aligned)
            result = importer.emit(operator, binary, source=result)
    return result


def _convert_sum(importer: _Importer, operator: _Operator) -> str:
    result = operator.value()
    for index in range(1, len(operator.inputs)):
        result = importer.builder.combine(operator.name, "add", result, operator.value(index))
    if operator.op_type == "Mean":
        scaled = Eltwise(affine=uniform(importer.shape(result), 1.0 / len(operator.inputs)))
        result = importer.emit(operator, scaled, source=result)
    return result


def _convert_concat(importer: _Importer, operator: _Operator) -> str:
    values = [operator.value(index) for index in range(len(operator.inputs))]
    rank = len(importer.shape(values[0])) + 1
    axis = int(operator.attributes["axis"])
    axis = axis + rank if axis < 0 else axis
    if not 0 < axis < rank:
        raise operator.refuse(f"axis={axis} of rank {rank}", "an axis behind the batch")
    return importer.builder.concat(operator.name, axis - 1, values)


def _convert_clip(importer: _Importer, operator: _Operator) -> str:
    bounds = [-math.inf, math.inf]
    for index in (1, 2):
        given = operator.constant(index)
        if given is not None and given.size:
            bounds[index - 1] = float(given.ravel()[0])
    low, high = bounds
    if math.isnan(low) or math.isnan(high):
        raise operator.refuse(f"bounds {low} and {high}", "numbers")
    # Bounds beyond float32 bound nothing. With low > high, ONNX gives high.
    largest = float(np.finfo(np.float32).max)
    low, high = (-math.inf if low <= -largest else low), (math.inf if high >= largest else high)
    return importer.emit(operator, *clip(min(low, high), high))


def _convert_prelu(importer: _Importer, operator: _Operator) -> str:
    slope = operator.weights(1)
    if slope is None:
        raise ModelFormatError(f"{operator.name}: the slope is missing")
    slope = _aligned(operator, slope, importer.shape(operator.value()))
    return importer.emit(operator, Binary("prelu", slope))


def _convert_hard_sigmoid(importer: _Importer, operator: _Operator) -> str:
    alpha = float(operator.attributes.get("alpha", 0.2))
    beta = float(operator.attributes.get("beta", 0.5))
    if not (math.isfinite(alpha) and math.isfinite(beta)):
        raise operator.refuse(f"alpha={alpha}, beta={beta}", "finite numbers")
    if beta == 0.5 and alpha >= 0:
        return importer.emit(operator, Eltwise(Activation("hard_sigmoid", alpha)))
    scaled = Eltwise(affine=uniform(importer.shape(operator.value()), alpha, beta))
    return importer.emit(operator, scaled, *clip(0.0, 1.0))


def _convert_gelu(importer: _Importer, operator: _Operator) -> str:
    approximate = operator.text("approximate", "none")
    names = {"none": "gelu", "tanh": "gelu_tanh"}
    if approximate not in names:
        raise operator.refuse(f"approximate={approximate}", " or ".join(names))
    return importer.emit(operator, Eltwise(Activation(names[approximate])))


def _convert_swish(importer: _Importer, operator: _Operator) -> str:
    alpha = float(operator.attributes.get("alpha", 1.0))
    if alpha == 1.0:
        return importer.emit(operator, Eltwise(Activation("silu")))
    if not math.isfinite(alpha) or alpha == 0.0:
        raise operator.refuse(f"alpha={alpha}", "a finite number other than 0")
    # x sigmoid(alpha x) = silu(alpha x) / alpha
    shape = importer.shape(operator.value())
    scaled = Eltwise(affine=uniform(shape, alpha))
    silu = Eltwise(Activation("silu"), uniform(shape, 1.0 / alpha))
    return importer.emit(operator, scaled, silu)


def _convert_pow(importer: _Importer, operator: _Operator) -> str:
    exponent = operator.weights(1)
    power = None if exponent is None or exponent.size != 1 else float(exponent.ravel()[0])
    value = operator.value()
    if power not in (1.0, 2.0, 3.0):
        raise operator.refuse(f"exponent {power if exponent is not None else '?'}", "1, 2 or 3")
    result = value
    for _ in range(int(power) - 1):
        result = importer.builder.combine(operator.name, "mul", result, value)
    return result


def _convert_layernorm(importer: _Importer, operator: _Operator) -> str:
    shape = importer.shape(operator.value())
    axis = int(operator.attributes.get("axis", -1))
    axis = (axis + len(shape) + 1 if axis < 0 else axis) - 1
    if not 0 <= axis < len(shape):
        raise operator.refuse(f"axis={axis + 1}", "an axis behind the batch")
    size, lead = math.prod(shape[axis:]), math.prod(shape[:axis])
    scale, shift = operator.weights(1), operator.weights(2)

    def vector(given: Array | None) -> Array | None:
        if given is None:
            return None
        try:
            return np.broadcast_to(given, shape[axis:]).ravel()
        except ValueError as error:
            raise ModelFormatError(f"{operator.name}: {error}") from error

    epsilon = float(operator.attributes.get("epsilon", 1e-5))
    norm = LayerNorm(epsilon, vector(scale), vector(shift))
    if axis == len(shape) - 1:
        return importer.emit(operator, norm)
    flat = (size,) if axis == 0 else (lead, 1, size)
    return importer.emit(operator, Reshape(flat), norm, Reshape(shape))


def _convert_group_norm(importer: _Importer, operator: _Operator) -> str:
    """InstanceNormalization is GroupNormalization with a group for each channel."""
    shape = importer.shape(operator.value())
    scale, shift = operator.weights(1), operator.weights(2)
    if len(shape) < 2 or scale is None or shift is None:
        raise operator.refuse(f"shape {shape}", "channels and at least one axis, scale and bias")
    channels, rest = shape[0], shape[1:]
    alone = operator.op_type == "InstanceNormalization"
    groups = channels if alone else int(operator.attributes.get("num_groups", 0))
    if groups < 1 or channels % groups:
        raise operator.refuse(f"{groups} groups of {channels} channels", "a divisor")
    epsilon = float(operator.attributes.get("epsilon", 1e-5))
    if scale.shape != (channels,) or shift.shape != (channels,):
        raise ModelFormatError(
            f"{operator.name}: scale of shape {scale.shape} and bias of shape {shift.shape} for "
            f"{channels} channels"
        )
    scale, shift = (given.reshape(channels, *(1 for _ in rest)) for given in (scale, shift))
    flat = importer.emit(operator, Reshape((groups, math.prod(shape) // groups)))
    norm = placed(importer.builder, normalized(importer.builder, operator.name, flat, [1], epsilon))
    ops = (Reshape(shape), Binary("mul", scale), Binary("add", shift))
    return importer.emit(operator, *ops, source=norm)


def _convert_neg(importer: _Importer, operator: _Operator) -> str:
    affine = uniform(importer.shape(operator.value()), -1.0)
    return importer.emit(operator, Eltwise(affine=affine))


def _activation(name: str, default: float = 0.0) -> Callable[[_Importer, _Operator], str]:
    def convert(importer: _Importer, operator: _Operator) -> str:
        if not default and name != "leaky_relu":  # no parameter
            return importer.emit(operator, Eltwise(Activation(name)))
        alpha = float(operator.attributes.get("alpha", default))
        if not (math.isfinite(alpha) and alpha >= 0):
            raise operator.refuse(f"alpha={alpha}", "finite and >= 0")
        if name == "leaky_relu" and alpha == 0:
            return importer.emit(operator, Eltwise(Activation("relu")))
        return importer.emit(operator, Eltwise(Activation(name, alpha)))

    return convert


def _convert_selu(importer: _Importer, operator: _Operator) -> str:
    # The defaults of the operator, as float32: the constants of the paper.
    alpha = float(operator.attributes.get("alpha", 1.67326319217681884765625))
    gamma = float(operator.attributes.get("gamma", 1.05070102214813232421875))
    if abs(alpha - 1.6732632423543772) < 1e-6 and abs(gamma - 1.0507009873554805) < 1e-6:
        return importer.emit(operator, Eltwise(Activation("selu")))
    if not (math.isfinite(gamma) and math.isfinite(alpha) and alpha >= 0):
        raise operator.refuse(f"alpha={alpha}, gamma={gamma}", "alpha >= 0, both finite")
    scaled = uniform(importer.shape(operator.value()), gamma)
    return importer.emit(operator, Eltwise(Activation("elu", alpha), scaled))


def _convert_softmax(importer: _Importer, operator: _Operator) -> str:
    rank = len(importer.shape(operator.value())) + 1
    axis = int(operator.attributes.get("axis", -1)) % rank
    if axis == 0:
        raise operator.refuse("axis=0", "an axis behind the batch")
    if axis == rank - 1:
        return importer.emit(operator, Softmax())
    perm = [other for other in range(rank - 1) if other != axis - 1] + [axis - 1]
    back = tuple(np.argsort(perm).tolist())
    return importer.emit(operator, Transpose(tuple(perm)), Softmax(), Transpose(back))


def _convert_cast(importer: _Importer, operator: _Operator) -> str:
    from onnx import TensorProto

    if operator.attributes.get("to") != TensorProto.FLOAT:
        raise operator.refuse("a type other than FLOAT", "FLOAT")
    return operator.value()


def _convert_dropout(importer: _Importer, operator: _Operator) -> str:
    training = operator.constant(2)
    if training is not None and training.any():
        raise operator.refuse("training_mode is true", "inference")
    return operator.value()


def _convert_identity(_importer: _Importer, operator: _Operator) -> str:
    return operator.value()


# ---- layout ------------------------------------------------------------------------------------


def _convert_flatten(importer: _Importer, operator: _Operator) -> str:
    shape = importer.shape(operator.value())
    axis = int(operator.attributes.get("axis", 1))
    if axis not in (1, -len(shape)):
        raise operator.refuse(f"axis={axis}", "1")
    return importer.emit(operator, Reshape((math.prod(shape),)))


def _convert_reshape(importer: _Importer, operator: _Operator) -> str:
    source = importer.shape(operator.value())
    shape = _target(operator, source, importer.batch)
    if shape is None:
        raise operator.refuse(
            f"from (N, {', '.join(map(str, source))}) to {_shown(operator.constant(1))}",
            "a reshape that keeps the batch axis first",
        )
    return importer.emit(operator, Reshape(shape))


def _shown(target: Constant | None) -> list[Any]:
    return [] if target is None else [_size(size) for size in target.ravel()]


def _size(size: Any) -> Any:
    if not isinstance(size, Batch):
        return int(size)
    return "N" if size.multiple == 1 else f"{size.multiple}N"


def _target(operator: _Operator, source: Shape, batch: int | None) -> Shape | None:
    """Return the shape for an image that a Reshape asks for; None if the batch is not first."""
    target = operator.constant(1)
    if target is None:
        raise ModelFormatError(f"{operator.name}: the shape is missing")
    dims: list[Any] = list(target.ravel())
    if not operator.attributes.get("allowzero", 0):
        full = [Batch(), *source]
        dims = [full[i] if size == 0 and i < len(full) else size for i, size in enumerate(dims)]
    return _per_image(dims, math.prod(source), batch)


def _per_image(dims: list[Any], elements: int, batch: int | None) -> Shape | None:
    """Return the target of a reshape without its batch axis; None if that does not come first."""
    if not dims:
        return None
    first, rest = dims[0], dims[1:]
    if any(isinstance(size, Batch) for size in rest):
        return None
    sizes = [int(size) for size in rest]
    known = math.prod(size for size in sizes if size != -1)
    if any(size < 1 and size != -1 for size in sizes):
        return None
    if isinstance(first, Batch) or (batch is not None and int(first) == batch):
        if isinstance(first, Batch) and first.multiple != 1:
            return None
        if sizes.count(-1) == 1 and elements % known == 0:
            sizes = [elements // known if size == -1 else size for size in sizes]
        return tuple(sizes) if math.prod(sizes) == elements and -1 not in sizes else None
    if int(first) == -1 and -1 not in sizes and known == elements:
        return tuple(sizes)
    return None


def _axes(operator: _Operator, rank: int) -> list[int] | None:
    given = operator.ints(1)
    if given is None:
        return None
    axes = [axis + rank if axis < 0 else axis for axis in given]
    if any(not 0 < axis < rank for axis in axes) or len(set(axes)) != len(axes):
        raise operator.refuse(f"axes {given}", "axes behind the batch")
    return axes


def _convert_squeeze(importer: _Importer, operator: _Operator) -> str:
    shape = importer.shape(operator.value())
    axes = _axes(operator, len(shape) + 1)
    if axes is None or any(shape[axis - 1] != 1 for axis in axes):
        raise operator.refuse(f"axes {axes} of {shape}", "a list of axes of length 1")
    kept = tuple(size for axis, size in enumerate(shape, start=1) if axis not in axes)
    return importer.emit(operator, Reshape(kept))


def _convert_unsqueeze(importer: _Importer, operator: _Operator) -> str:
    shape = importer.shape(operator.value())
    rank = len(shape) + 1 + len(operator.ints(1) or ())
    axes = _axes(operator, rank)
    if axes is None:
        raise ModelFormatError(f"{operator.name}: axes are missing")
    sizes = iter(shape)
    target = tuple(1 if axis in axes else next(sizes) for axis in range(1, rank))
    return importer.emit(operator, Reshape(target))


def _convert_transpose(importer: _Importer, operator: _Operator) -> str:
    rank = len(importer.shape(operator.value())) + 1
    perm = operator.attributes.get("perm") or list(range(rank))[::-1]
    if perm[0] != 0:
        raise operator.refuse(f"perm {list(perm)}", "one that keeps the batch axis first")
    return importer.emit(operator, Transpose(tuple(int(axis) - 1 for axis in perm[1:])))


def _convert_pad(importer: _Importer, operator: _Operator) -> str:
    shape = importer.shape(operator.value())
    rank = len(shape) + 1
    mode = operator.text("mode", "constant")
    if mode != "constant":
        raise operator.refuse(f"mode {mode}", "constant")
    pads, value, axes = operator.ints(1), operator.weights(2), operator.ints(3)
    axes = [axis % rank for axis in axes] if axes is not None else list(range(rank))
    if pads is None or len(pads) != 2 * len(axes) or len(set(axes)) != len(axes):
        raise operator.refuse(f"pads {pads}", "two for each axis")
    widths = dict.fromkeys(range(rank), (0, 0))
    for index, axis in enumerate(axes):
        widths[axis] = (pads[index], pads[index + len(axes)])
    if widths[0] != (0, 0) or any(min(width) < 0 for width in widths.values()):
        raise operator.refuse(f"pads {pads}", "padding, not cropping, of the image")
    fill = 0.0 if value is None or not value.size else float(value.ravel()[0])
    return importer.emit(operator, Pad(tuple(widths[axis] for axis in range(1, rank)), fill))


def _convert_scaler(importer: _Importer, operator: _Operator) -> str:
    """``(x - offset) * scale``, as scikit-learn's StandardScaler."""
    shape = importer.shape(operator.value())
    offset, scale = (
        np.asarray(operator.attributes.get(name, default), np.float64)
        for name, default in (("offset", [0.0]), ("scale", [1.0]))
    )
    if len(shape) != 1 or any(given.size not in (1, shape[0]) for given in (offset, scale)):
        raise operator.refuse(f"{offset.size} offsets for shape {shape}", "one for each feature")
    return importer.emit(operator, Binary("add", -offset), Binary("mul", scale))


_CONVERTERS: Mapping[str, Callable[[_Importer, _Operator], str | Moments]] = {
    "Add": _convert_arithmetic,
    "AveragePool": _convert_pool,
    "BatchNormalization": _convert_batchnorm,
    "Cast": _convert_cast,
    "Clip": _convert_clip,
    "Concat": _convert_concat,
    "Conv": _convert_conv,
    "Div": _convert_arithmetic,
    "Dropout": _convert_dropout,
    "Elu": _activation("elu", 1.0),
    "Erf": _activation("erf"),
    "Flatten": _convert_flatten,
    "Gelu": _convert_gelu,
    "Gemm": _convert_gemm,
    "GlobalAveragePool": _convert_global_pool,
    "GlobalMaxPool": _convert_global_pool,
    "GroupNormalization": _convert_group_norm,
    "HardSigmoid": _convert_hard_sigmoid,
    "HardSwish": _activation("hard_swish"),
    "Identity": _convert_identity,
    "InstanceNormalization": _convert_group_norm,
    "LayerNormalization": _convert_layernorm,
    "LeakyRelu": _activation("leaky_relu", 0.01),
    "MatMul": _convert_matmul,
    "Max": _convert_extremum,
    "MaxPool": _convert_pool,
    "Mean": _convert_sum,
    "Min": _convert_extremum,
    "Mul": _convert_arithmetic,
    "Neg": _convert_neg,
    "PRelu": _convert_prelu,
    "Pad": _convert_pad,
    "Pow": _convert_pow,
    "ReduceMax": _convert_reduce,
    "ReduceMean": _convert_reduce,
    "ReduceSum": _convert_reduce,
    "Relu": _activation("relu"),
    "Reshape": _convert_reshape,
    "Scaler": _convert_scaler,
    "Selu": _convert_selu,
    "Sigmoid": _activation("sigmoid"),
    "Softmax": _convert_softmax,
    "Softplus": _activation("softplus"),
    "Squeeze": _convert_squeeze,
    "Sub": _convert_arithmetic,
    "Sum": _convert_sum,
    "Swish": _convert_swish,
    "Tanh": _activation("tanh"),
    "Transpose": _convert_transpose,
    "Unsqueeze": _convert_unsqueeze,
}

#: Operators of another domain that are known.
_OTHER_DOMAINS = frozenset({("ai.onnx.ml", "Scaler")})

#: Of quantized models, beside those whose name says so: of ONNX, and of ONNX Runtime's domain.
_INTEGER_OPERATORS = frozenset(
    {"ConvInteger", "MatMulInteger", "MatMulInteger16", "MatMulNBits", "QAttention", "QGemm"}
)


def _is_quantized(op_type: str) -> bool:
    return (
        "quant" in op_type.lower() or op_type.startswith("QLinear") or op_type in _INTEGER_OPERATORS
    )


#: Operators on images; those of :data:`EVALUATORS`, Constant and Shape are read on constants too.
SUPPORTED_OPERATORS = tuple(_CONVERTERS)
