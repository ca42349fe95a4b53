"""Turn padding and flattening that nothing absorbed into layers with identity weights."""

from __future__ import annotations

from functools import partial

import numpy as np

from fastdigit.compiler.ir import Conv2D, Dense, Graph, Node, Op, Pad, Reshape
from fastdigit.compiler.passes.rewrite import map_nodes

__all__ = ["materialize_moves"]

#: A dense identity has the square of this many weights.
MAX_FEATURES = 4096


def materialize_moves(graph: Graph) -> Graph:
    """Replace zero padding by a 1x1 convolution that pads, and flattening by a dense layer.

    Exact, as a sum of one value and zeros is, and slow; networks that need it are rare (padding
    before a max pooling, batch normalization of flattened features before an activation).
    """
    return map_nodes(graph, partial(_materialized, graph))


def _materialized(graph: Graph, node: Node) -> Op:
    shape = graph.shapes[node.inputs[0]]
    match node.op:
        case Pad(((top, bottom), (left, right), (0, 0)), 0.0) if shape[2] <= MAX_FEATURES:
            identity = np.eye(shape[2]).reshape(1, 1, shape[2], shape[2])
            return Conv2D(identity, pad=(top, left, bottom, right))
        case Reshape((features,)) if len(shape) == 3 and features <= MAX_FEATURES:
            return Dense(np.eye(features))
    return node.op
