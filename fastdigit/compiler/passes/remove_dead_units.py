"""Remove hidden units and channels that nothing reads, or that are the same for every image.

Pruning by zeroing weights (and a relu that a training left dead) gives such units: all weights that
read them are zero, or all weights they are computed from. The first kind is dropped. The second has
a known value, which moves into the bias of the layer behind where that is exact; then nothing reads
it, and it is dropped too. Results stay the same up to the rounding of a sum.

Both are properties of the weights alone: no image, and no bound on the input, is needed. A unit
that merely never fires on the images one has is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from fastdigit.compiler.activations import evaluate
from fastdigit.compiler.ir import Activation, Affine, Array, Graph, Node, Op, Pool, Shape
from fastdigit.compiler.ops import Conv2D, Dense, Eltwise, Pad, Pool2D, Reshape, with_nodes
from fastdigit.compiler.passes.rewrite import map_nodes

__all__ = ["live_units", "remove_dead_units"]

Mask = NDArray[np.bool_]

#: Two constants are the same if they differ by less than this, relatively: float64 rounding.
_EQUAL = 1e-12


def remove_dead_units(graph: Graph) -> Graph:
    """Drop units of convolutions and dense layers that make no difference; each keeps at least one.

    A dense layer takes up any constant. A convolution takes up one that contributes the same at
    every position of its output: zero always, other values if no padding (nor a different value in
    another row, as batch normalization of rows gives) meets weights that are not zero.
    """
    folded, live = live_units(graph)
    nodes: list[Node] = []
    changed = folded is not graph
    for node in folded.nodes:
        rank = len(graph.shapes[node.output])
        op = _sliced(node.op, rank, live[node.inputs[0]], live[node.output])
        changed |= op is not node.op
        nodes.append(replace(node, op=op))
    if not changed:
        return graph
    return with_nodes(graph, nodes)


def live_units(graph: Graph) -> tuple[Graph, Mapping[str, Mask]]:
    """Return the graph with constants moved into biases, and what of each value is then kept.

    Returns
    -------
    Graph
        As many units as before; nothing reads the constant ones that could be moved.
    mapping
        For each value, a mask along its last axis. Operators between two layers keep what the layer
        before them keeps.
    """
    folded = _fold_constants(graph)
    read = _units_read(folded)

    def without_weights(node: Node) -> Op:
        # A layer that nothing reads keeps a unit, which must not read what is removed before it.
        op = node.op
        match op:
            case Conv2D(groups=1) | Dense() if not read[node.output].any() and op.weights.any():
                return replace(op, weights=np.zeros_like(op.weights))
        return op

    folded = map_nodes(folded, without_weights)
    live = {value: np.ones(graph.shapes[value][-1:], np.bool_) for value in graph.inputs}
    for node in folded.nodes:
        before = live[node.inputs[0]]
        match node.op:
            case Conv2D(groups=1) | Dense():
                kept = read[node.output]
                if not kept.any():
                    kept[0] = True
            case Reshape(shape=(_,)):
                kept = np.broadcast_to(before, graph.shapes[node.inputs[0]]).ravel()
            case Eltwise() | Pool2D() | Pad(widths=(*_, (0, 0))):
                kept = before
            case _:  # it is read whole, and so is what it reads
                kept = np.ones(graph.shapes[node.output][-1:], np.bool_)
        live[node.output] = kept
    return folded, live


def _units_read(graph: Graph) -> dict[str, Mask]:
    """For each value, which units along its last axis can make a difference to an output."""
    read = {
        value: np.full(shape[-1:], value in graph.outputs) for value, shape in graph.shapes.items()
    }
    for node in reversed(graph.nodes):
        for other in node.inputs[1:]:  # of operators that read everything
            read[other][:] = True
        source, wanted = node.inputs[0], read[node.output]
        channels = graph.shapes[source][-1]
        match node.op:
            case Conv2D(weights=weights, groups=1):
                needs = (weights[..., wanted] != 0).any(axis=(0, 1, 3))
            case Dense(weights=weights):
                needs = (weights[:, wanted] != 0).any(axis=1).reshape(-1, channels).any(axis=0)
            case Reshape(shape=(_,)):
                needs = wanted.reshape(-1, channels).any(axis=0)
            case Eltwise() | Pool2D() | Pad(widths=(*_, (0, 0))):
                needs = wanted
            case _:
                needs = np.ones(channels, np.bool_)
        read[source] |= needs
    return read


def _sliced(op: Op, rank: int, before: Mask, after: Mask) -> Op:
    """Return the operator, whose output has ``rank`` axes, for what is kept before and behind."""
    if before.all() and after.all():
        return op
    match op:
        case Conv2D():
            return replace(
                op,
                weights=op.weights[:, :, before][..., after],
                bias=_along(op.bias, after),
                affine=_sliced_affine(op.affine, 2, after),
            )
        case Dense():
            rows = np.resize(before, op.weights.shape[0])  # an image is read pixel by pixel
            return replace(
                op,
                weights=op.weights[rows][:, after],
                bias=_along(op.bias, after),
                scale=_along(op.scale, after),
            )
        case Eltwise():
            return replace(op, affine=_sliced_affine(op.affine, rank - 1, after))
        case Reshape():
            return Reshape((int(after.sum()),))
    return op


def _along(vector: Array | None, kept: Mask) -> Array | None:
    return None if vector is None else vector[kept]


def _sliced_affine(affine: Affine | None, last: int, kept: Mask) -> Affine | None:
    if affine is None or affine.axis != last:
        return affine
    return Affine(last, affine.scale[kept], affine.shift[kept])


# ---- Constants ----


@dataclass(frozen=True, eq=False)
class _Constants:
    """What is known of a value for every image.

    ``known`` tells for each index of the last axis whether all elements there are constants, and
    ``values``, of the value's shape, which. Elsewhere it is finite and means nothing.
    """

    known: Mask
    values: Array


def _nothing(shape: Shape) -> _Constants:
    return _Constants(np.zeros(shape[-1:], np.bool_), np.zeros(shape))


def _fold_constants(graph: Graph) -> Graph:
    """Move constant units into the bias of the layer that reads them, and set its weights to 0."""
    constants = {value: _nothing(graph.shapes[value]) for value in graph.inputs}

    def change(node: Node) -> Op:
        op, constants[node.output] = _propagate(
            node.op, constants[node.inputs[0]], graph.shapes[node.output]
        )
        return op

    return map_nodes(graph, change)  # calls in order: what a node reads was seen before it


def _propagate(op: Op, before: _Constants, shape: Shape) -> tuple[Op, _Constants]:
    """Return the operator with constants folded, and what is known of its output, of ``shape``."""
    match op:
        case Conv2D(groups=1):
            op, constants = _through_conv2d(op, before)
            constants = _through_eltwise(constants, op.activation, op.affine)
            return op, constants if op.pool is None else _through_pool(constants, op.pool)
        case Dense():
            op, constants = _through_dense(op, before)
            return op, _through_eltwise(constants, op.activation, None)
        case Eltwise():
            return op, _through_eltwise(before, op.activation, op.affine)
        case Pool2D():
            return op, _through_pool(before, op.pool)
        case Pad(widths=(*_, (0, 0))):
            values = np.pad(before.values, op.widths, constant_values=op.value)
            return op, _Constants(before.known, values)
        case Reshape(shape=(_,)):
            known = np.broadcast_to(before.known, before.values.shape).ravel()
            return op, _Constants(known, before.values.ravel())
    return op, _nothing(shape)


def _through_dense(op: Dense, before: _Constants) -> tuple[Dense, _Constants]:
    rows = np.broadcast_to(before.known, before.values.shape).ravel()
    rows = rows & (op.weights != 0).any(axis=1)
    if rows.any():
        weights = op.weights.copy()
        weights[rows] = 0
        moved: Array = before.values.ravel()[rows] @ op.weights[rows].astype(np.float64)
        op = replace(op, weights=weights, bias=moved if op.bias is None else op.bias + moved)
    bias = np.zeros(op.weights.shape[1]) if op.bias is None else op.bias
    return op, _Constants(~(op.weights != 0).any(axis=0), bias.astype(np.float64))


def _through_conv2d(op: Conv2D, before: _Constants) -> tuple[Conv2D, _Constants]:
    height, width, _ = replace(op, affine=None, pool=None).infer(before.values.shape)
    weights = op.weights.copy()
    outputs = weights.shape[3]
    bias = np.zeros(outputs) if op.bias is None else op.bias.astype(np.float64)
    values = np.zeros((height, width, outputs))
    folded = False
    for channel in np.flatnonzero(before.known & (weights != 0).any(axis=(0, 1, 3))):
        share = _share(op, before.values[..., channel], weights[:, :, channel].astype(np.float64))
        if (np.ptp(share, axis=(0, 1)) <= _EQUAL * np.abs(share).max(axis=(0, 1))).all():
            bias = bias + share[0, 0]
            weights[:, :, channel] = 0
            folded = True
        else:
            values += share
    known = ~(weights[:, :, ~before.known] != 0).any(axis=(0, 1, 2))
    if folded:
        op = replace(op, weights=weights, bias=bias)
    return op, _Constants(known, values + bias)


def _share(op: Conv2D, image: Array, weights: Array) -> Array:
    """What one input channel adds to the convolution: (height, width) to that and outputs."""
    top, left, bottom, right = op.pad
    windows = sliding_window_view(np.pad(image, ((top, bottom), (left, right))), op.extent)
    windows = windows[:: op.stride[0], :: op.stride[1], :: op.dilation[0], :: op.dilation[1]]
    # In the same order at every position, so that equal windows give equal sums.
    terms = (
        windows[:, :, y, x, np.newaxis] * weights[y, x] for y, x in np.ndindex(*weights.shape[:2])
    )
    total: Array = sum(terms, np.zeros((*windows.shape[:2], weights.shape[2])))
    return total


def _through_eltwise(
    before: _Constants, activation: Activation, affine: Affine | None
) -> _Constants:
    values = evaluate(activation.name, activation.alpha, before.values)
    known = before.known & np.isfinite(values).all(axis=tuple(range(values.ndim - 1)))
    values = np.where(known, values, 0.0)
    if affine is None:
        return _Constants(known, values)
    along = [1] * values.ndim
    along[affine.axis] = -1
    values = values * affine.scale.reshape(along) + affine.shift.reshape(along)
    if affine.axis == values.ndim - 1:
        known = known | (affine.scale == 0)
    elif not affine.scale.any():
        known = np.ones_like(known)
    return _Constants(known, values)


def _through_pool(before: _Constants, pool: Pool) -> _Constants:
    top, left, bottom, right = pool.pad

    def windows(values: Array, fill: float) -> Array:
        padded = np.pad(values, ((top, bottom), (left, right), (0, 0)), constant_values=fill)
        view: Array = sliding_window_view(padded, pool.size, axis=(0, 1))
        return view[:: pool.stride[0], :: pool.stride[1]]

    if pool.mode == "max":
        return _Constants(before.known, windows(before.values, -np.inf).max(axis=(-2, -1)))
    count = windows(np.ones_like(before.values), 0.0).sum(axis=(-2, -1))
    return _Constants(before.known, windows(before.values, 0.0).sum(axis=(-2, -1)) / count)
