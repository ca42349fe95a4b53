"""What makes a graph valid, as code that runs between passes.

:func:`verify` holds for every graph; :func:`verify_program` for one that the packer accepts.
"""

from __future__ import annotations

import math
from itertools import chain

from fastdigit.compiler.ir import Conv2D, Dense, Graph, Node, Op, Pad, Pool, Pool2D
from fastdigit.compiler.ops import OPS, arity, infer
from fastdigit.errors import UnsupportedError

__all__ = ["MAX_DYNAMIC_INPUTS", "NARROW", "GraphError", "verify", "verify_program"]

#: Limits of the model file (csrc/FORMAT.md).
MAX_SMALL = 255
MAX_ELEMENTS = 1 << 24
MAX_RECORDS = 4096
#: Outputs up to which the weights of a dense layer are fp32.
NARROW = 32
#: Inputs up to which a dense layer can be int8-dynamic: its sums fit 32 bits.
MAX_DYNAMIC_INPUTS = 65536


class GraphError(AssertionError):
    """A graph breaks an invariant: a front end or a pass is wrong, never the user's network."""


def verify(graph: Graph) -> None:
    """Check the invariants of every graph.

    Each node has as many inputs as its operator takes, written before they are read; each
    value is written once, and read unless it is the output; ``graph.shapes`` has exactly the values
    of the graph, with the shapes that the operators' rules derive.

    Raises
    ------
    GraphError
        Naming the node and the invariant.
    """
    if graph.input not in graph.shapes:
        raise GraphError(f"the input {graph.input!r} has no shape")
    written = {graph.input}
    read: set[str] = set()
    for node in graph.nodes:
        if type(node.op) not in OPS:
            raise GraphError(f"{node.name}: {type(node.op).__name__} is not an operator")
        if len(node.inputs) != arity(node.op):
            raise GraphError(f"{node.name}: {len(node.inputs)} inputs, expected {arity(node.op)}")
        if missing := [source for source in node.inputs if source not in written]:
            raise GraphError(f"{node.name}: reads {missing[0]!r} before it is written")
        if node.output in written:
            raise GraphError(f"{node.name}: writes {node.output!r} a second time")
        shape = infer(node.name, node.op, *(graph.shapes[source] for source in node.inputs))
        if shape != graph.shapes.get(node.output):
            raise GraphError(
                f"{node.name}: shape {shape}, recorded as {graph.shapes.get(node.output)}"
            )
        written.add(node.output)
        read.update(node.inputs)
    if graph.output not in written:
        raise GraphError(f"the output {graph.output!r} is never written")
    if unread := written - read - {graph.output}:
        raise GraphError(f"nothing reads {sorted(unread)}")
    if set(graph.shapes) != written:
        raise GraphError(f"shapes of unknown values: {sorted(set(graph.shapes) - written)}")


def verify_program(graph: Graph) -> None:
    """Check that a model file can express the graph.

    Raises
    ------
    UnsupportedError
        Naming the node, what it has and what is possible.
    """
    if not graph.nodes:
        raise UnsupportedError("the network has no operators: its output is its input")
    if len(graph.nodes) + 1 > MAX_RECORDS:
        raise UnsupportedError(f"{len(graph.nodes)} operators, at most {MAX_RECORDS - 1} fit")
    _check_value("the input", graph.shapes[graph.input])
    for node in graph.nodes:
        _check_small(node, node.op)
        _check_value(node.name, graph.shapes[node.output])


def _check_value(name: str, shape: tuple[int, ...]) -> None:
    if len(shape) not in (1, 3):
        raise UnsupportedError(
            f"{name}: shape {shape}; supported are (height, width, channels) and (features,)"
        )
    if math.prod(shape) > MAX_ELEMENTS:
        raise UnsupportedError(f"{name}: shape {shape} has more than {MAX_ELEMENTS} elements")


def _check_small(node: Node, op: Op) -> None:
    """Check the attributes that the file stores as numbers of at most 255."""
    numbers: list[int] = []
    pool: Pool | None = None
    if isinstance(op, Conv2D):
        numbers += chain(op.weights.shape[:2], op.stride, op.dilation, op.pad)
        pool = op.pool
    elif isinstance(op, Pad):
        if len(op.widths) != 3:
            raise UnsupportedError(f"{node.name}: padding of a vector; supported is that of images")
        numbers += chain(*op.widths[:2])
    elif isinstance(op, Pool2D):
        pool = op.pool
    if pool is not None and max(*pool.size, *pool.stride) > MAX_ELEMENTS:
        raise UnsupportedError(f"{node.name}: windows and strides go up to {MAX_ELEMENTS}")
    if any(number > MAX_SMALL for number in numbers):
        raise UnsupportedError(
            f"{node.name}: kernels, strides, dilations and paddings go up to {MAX_SMALL}, "
            f"got {max(numbers)}"
        )
    if isinstance(op, Conv2D | Dense):
        rows = math.prod(op.weights.shape[:-1])
        if rows > MAX_ELEMENTS or op.weights.shape[-1] > MAX_ELEMENTS:
            raise UnsupportedError(f"{node.name}: weights of shape {op.weights.shape} are too big")
    if isinstance(op, Dense) and op.precision != "fp32" and op.weights.shape[1] <= NARROW:
        raise UnsupportedError(
            f"{node.name}: weights of {op.precision} for {op.weights.shape[1]} outputs; dense "
            f"layers of up to {NARROW} outputs have fp32 weights"
        )
    if (
        isinstance(op, Dense)
        and op.precision == "int8-dynamic"
        and op.weights.shape[0] > MAX_DYNAMIC_INPUTS
    ):
        raise UnsupportedError(
            f"{node.name}: {op.weights.shape[0]} inputs; int8-dynamic is for dense layers of up to "
            f"{MAX_DYNAMIC_INPUTS}, use precision int8"
        )
