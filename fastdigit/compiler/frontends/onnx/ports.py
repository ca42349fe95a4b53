"""Which outputs of an ONNX graph are read, and the shapes of its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fastdigit.compiler.frontends.common import ImportOptions
from fastdigit.compiler.frontends.onnx.constants import DTYPES, FLOATS
from fastdigit.compiler.ir import Shape
from fastdigit.compiler.limits import MAX_PORTS
from fastdigit.errors import InputError, ModelFormatError, UnsupportedError

__all__ = ["InputShape", "chosen_outputs", "input_shape"]

#: Operators behind ArgMax that leave labels what they are.
_KEEP_LABELS = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})


class InputShape(NamedTuple):
    """The shape of an input without its batch, the batch if it is fixed, and whether the options
    could mean the shape in another order."""

    shape: Shape
    batch: int | None
    ambiguous: bool


def chosen_outputs(graph: Any, options: ImportOptions) -> list[str]:
    """Return the outputs to read: by default those of float numbers, for a classifier of
    scikit-learn returns its label too. Of labels alone, the scores that they come from."""
    outputs = {str(output.name): output.type for output in graph.output}
    floats = [
        name
        for name, kind in outputs.items()
        if kind.tensor_type.elem_type in FLOATS or kind.WhichOneof("value") is None
    ]
    if not outputs:
        raise ModelFormatError("the model has no output")
    chosen = options.choose(list(outputs))
    if options.outputs is None and floats:
        chosen = floats
    if len(chosen) > MAX_PORTS:
        raise UnsupportedError(
            f"the model has {len(chosen)} outputs, at most {MAX_PORTS} fit: choose some "
            "(outputs=, --keep)"
        )
    for name in chosen:
        if outputs[name].WhichOneof("value") == "sequence_type":
            raise UnsupportedError(
                f"the output {name!r} is a sequence; supported is a tensor. If this is "
                "a classifier of scikit-learn, convert it without ZipMap: "
                "to_onnx(model, images[:1], options={'zipmap': False})"
            )
    writers = {name: node for node in graph.node for name in node.output}
    return list(dict.fromkeys(_scores_of(name, writers) for name in chosen))


def _scores_of(output: str, writers: Mapping[str, Any]) -> str:
    """Return what an output is the ArgMax of, or the output."""
    from onnx import helper

    name = output
    while (node := writers.get(name)) and node.op_type in _KEEP_LABELS and len(node.input):
        name = node.input[0]
    if node is None or node.op_type != "ArgMax" or not node.input:
        return output
    attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    if attributes.get("select_last_index", 0):
        raise UnsupportedError(
            f"node {(node.name or output)!r} (ArgMax): select_last_index=1; supported is the "
            "first of equal scores"
        )
    return str(node.input[0])


def input_shape(entry: Any, options: ImportOptions, layout: str) -> InputShape:
    """Return what an input says of its shape, or the options where it says nothing."""
    from onnx import TensorProto

    name, kind = entry.name, entry.type.tensor_type
    if entry.type.WhichOneof("value") in (None, "tensor_type") and not kind.HasField("shape"):
        raise UnsupportedError(
            f"the input {name!r} has no shape: export the model with one, such as (N, "
            "channels, height, width)"
        )
    if kind.elem_type not in DTYPES:
        known = kind.elem_type in TensorProto.DataType.values()
        got = TensorProto.DataType.Name(kind.elem_type) if known else str(kind.elem_type)
        raise UnsupportedError(
            f"the input {name!r} has type {got}; supported are FLOAT, FLOAT16, BFLOAT16, "
            "DOUBLE, and UINT8"
        )
    dims = [
        d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim
    ]
    if not 2 <= len(dims) <= 4:
        raise UnsupportedError(
            f"the input {name!r} has shape {_shown(dims)}; supported are a batch axis and 1 "
            "to 3 dimensions behind it"
        )
    given = options.input_shape
    if isinstance(given, Mapping):
        given = given.get(name)
    shape, ambiguous = tuple(dims[1:]), False
    if given is not None:
        shape, ambiguous = _as_asked(name, dims, given, layout)
    fixed = tuple(size for size in shape if size is not None)
    if len(fixed) != len(shape) and len(dims) == 3 and dims[0] and dims[2] and given is None:
        raise UnsupportedError(
            f"the input {name!r} has shape {_shown(dims)}, with its batch as axis 1; supported "
            "is an input with its batch first (batch_first=True of PyTorch's layers)"
        )
    if len(fixed) != len(shape):
        raise UnsupportedError(
            f"the input {name!r} has shape {_shown(dims)}; give the shape of an image, "
            "channels last: input_shape=(height, width, channels)"
        )
    return InputShape(fixed, dims[0], ambiguous)


def _as_asked(
    name: str, dims: Sequence[int | None], given: Shape, layout: str
) -> tuple[Shape, bool]:
    """Return the shape that the options give, in the order of the source, and whether it could be
    meant in another."""
    orders = [given]
    if len(given) == 3:
        moved = (given[2], *given[:2])
        orders = [moved, given] if layout == "NCHW" else [given, moved]
    fitting = [
        order
        for order in orders
        if len(order) == len(dims) - 1
        and all(size in (None, asked) for size, asked in zip(dims[1:], order, strict=True))
    ]
    if fitting:
        return tuple(fitting[0]), len(set(fitting)) > 1
    raise InputError(
        f"input_shape is {tuple(given)}, and the input {name!r} has shape {_shown(dims)}"
    )


def _shown(dims: Sequence[int | None]) -> list[int | str]:
    return [size if size is not None else "?" for size in dims]
