"""Whether the source's images are NHWC or NCHW."""

from __future__ import annotations

from fastdigit.compiler.axes import unit_permutation
from fastdigit.compiler.ir import Graph, Node, Shape
from fastdigit.compiler.ops import (
    Binary,
    Concat,
    Crop,
    Eltwise,
    Pad,
    Reshape,
    Transpose,
    with_nodes,
)

__all__ = ["TO_NCHW", "TO_NHWC", "channels_last"]


# For one image, without the batch axis.
TO_NHWC = Transpose((1, 2, 0))
TO_NCHW = Transpose((2, 0, 1))


def channels_last(graph: Graph) -> tuple[Graph, list[str]]:
    """Make NCHW inputs NHWC, each with a transpose behind it; return the layouts of the source."""
    inputs: dict[str, Shape] = {}
    transposes, layouts = [], []
    for value in graph.inputs:
        shape = graph.shapes[value]
        if len(shape) != 3 or _source_layout(graph, value) == "NHWC":
            layouts.append("NHWC")
            inputs[value] = shape
            continue
        layouts.append("NCHW")
        source = f"{value}:nhwc"
        transposes.append(Node(value, TO_NCHW, (source,), value))
        channels, height, width = shape
        inputs[source] = (height, width, channels)
    if not transposes:
        return graph, layouts
    return with_nodes(graph, (*transposes, *graph.nodes), inputs=inputs), layouts


def _source_layout(graph: Graph, value: str) -> str:
    """Tell the layout of a rank-3 input from the first operator that moves its axes.

    The importer puts a transpose to NHWC before whatever works on NCHW images, so an input that
    goes there is NCHW; one that the source transposes or reshapes to NCHW first is NHWC.
    """
    shape = graph.shapes[value]
    reached = {value}
    for node in graph.nodes:
        if not reached.intersection(node.inputs):
            continue
        perm: tuple[int, ...] | None = None
        if isinstance(node.op, Transpose):
            perm = node.op.perm
        elif isinstance(node.op, Reshape):
            perm = unit_permutation(graph.shapes[node.inputs[0]], node.op.shape)
        elif not isinstance(node.op, Eltwise | Pad | Crop | Binary | Concat):
            continue
        if perm == TO_NHWC.perm:
            return "NCHW"
        if perm == TO_NCHW.perm:
            return "NHWC"
        reached.add(node.output)
    return "NCHW" if shape[0] == 1 and shape[2] != 1 else "NHWC"
