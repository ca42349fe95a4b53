"""What makes a graph valid, as code that runs between passes.

:func:`verify` holds for every graph; :func:`verify_program` for one that the packer accepts.
"""

from __future__ import annotations

import math

from fastdigit.compiler.ir import Graph
from fastdigit.compiler.limits import MAX_ELEMENTS, MAX_PORTS, MAX_RECORDS
from fastdigit.compiler.ops import OPS, check_values, infer
from fastdigit.errors import UnsupportedError

__all__ = ["GraphError", "verify", "verify_ports", "verify_program"]


class GraphError(AssertionError):
    """A graph breaks an invariant: a front end or a pass is wrong, never the user's network."""


def verify(graph: Graph, known: Graph | None = None) -> None:
    """Check the invariants of every graph.

    Each node has as many inputs as its operator takes, written before they are read; each
    value is written once, and read unless it is an output; ``graph.shapes`` has exactly the values
    of the graph, with the shapes that the operators' rules derive. Weights are finite, and numbers
    that their precision has.

    Parameters
    ----------
    known
        A graph that was verified, such as the one before a pass: the weights of operators that are
        the same objects there are not looked at again.

    Raises
    ------
    GraphError
        Naming the node and the invariant.
    UnsupportedError
        If a weight is not finite, or no number that its precision has.
    """
    if not graph.inputs or not graph.outputs:
        raise GraphError("a graph without inputs or outputs")
    if missing := [value for value in graph.inputs if value not in graph.shapes]:
        raise GraphError(f"the input {missing[0]!r} has no shape")
    if len(set(graph.inputs)) != len(graph.inputs):
        raise GraphError(f"an input is there twice: {graph.inputs}")
    seen = {id(node.op) for node in known.nodes} if known is not None else set()
    written = set(graph.inputs)
    read: set[str] = set()
    for node in graph.nodes:
        if type(node.op) not in OPS:
            raise GraphError(f"{node.name}: {type(node.op).__name__} is not an operator")
        if len(node.inputs) != node.op.arity:
            raise GraphError(f"{node.name}: {len(node.inputs)} inputs, expected {node.op.arity}")
        if missing := [source for source in node.inputs if source not in written]:
            raise GraphError(f"{node.name}: reads {missing[0]!r} before it is written")
        if node.output in written:
            raise GraphError(f"{node.name}: writes {node.output!r} a second time")
        shape = infer(node.name, node.op, *(graph.shapes[source] for source in node.inputs))
        if shape != graph.shapes.get(node.output):
            raise GraphError(
                f"{node.name}: shape {shape}, recorded as {graph.shapes.get(node.output)}"
            )
        if id(node.op) not in seen:
            check_values(node.name, node.op)
        written.add(node.output)
        read.update(node.inputs)
    if missing := [value for value in graph.outputs if value not in written]:
        raise GraphError(f"the output {missing[0]!r} is never written")
    if unread := written - read - set(graph.outputs):
        raise GraphError(f"nothing reads {sorted(unread)}")
    if set(graph.shapes) != written:
        raise GraphError(f"shapes of unknown values: {sorted(set(graph.shapes) - written)}")


def verify_ports(graph: Graph) -> None:
    """Check that a model file has room for the inputs and outputs; UnsupportedError if not."""
    if max(len(graph.inputs), len(graph.outputs)) > MAX_PORTS:
        raise UnsupportedError(
            f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs, at most {MAX_PORTS} of "
            "each fit"
        )


def verify_program(graph: Graph) -> None:
    """Check that a model file can express the graph.

    Raises
    ------
    UnsupportedError
        Naming the node, what it has and what is possible.
    """
    if not graph.nodes:
        raise UnsupportedError("the network has no operators: its output is its input")
    if any(value in graph.inputs for value in graph.outputs):
        raise UnsupportedError(
            "an output of the network is an input as it is, which needs no network: choose the "
            "other outputs (outputs=, --keep)"
        )
    if len(graph.nodes) + len(graph.inputs) > MAX_RECORDS:
        raise UnsupportedError(
            f"{len(graph.nodes)} operators, at most {MAX_RECORDS - len(graph.inputs)} fit"
        )
    verify_ports(graph)
    reasons = [
        reason for value in graph.inputs for reason in _against("the input", graph.shapes[value])
    ]
    for node in graph.nodes:
        try:
            node.op.check_limits()
        except ValueError as error:
            reasons.append(f"{node.name}: {error}")
        reasons += _against(node.name, graph.shapes[node.output])
    if reasons:
        raise UnsupportedError(*dict.fromkeys(reasons))


def _against(name: str, shape: tuple[int, ...]) -> list[str]:
    """Why a model file cannot have a value of this shape."""
    if len(shape) not in (1, 3):
        return [f"{name}: shape {shape}; supported are (height, width, channels) and (features,)"]
    if math.prod(shape) > MAX_ELEMENTS:
        return [f"{name}: shape {shape} has more than {MAX_ELEMENTS} elements"]
    return []
