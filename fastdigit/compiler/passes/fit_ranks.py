"""Give every value one of the ranks that the model file has: 1 or 3."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations_with_replacement, permutations

from fastdigit.compiler.axes import aligned, aligned_shape
from fastdigit.compiler.ir import Affine, Graph, Node, Op, Pair, Shape
from fastdigit.compiler.ops import (
    Binary,
    Concat,
    Crop,
    Dense,
    Eltwise,
    LayerNorm,
    LogSoftmax,
    Pad,
    Recurrent,
    Reshape,
    Softmax,
    Transpose,
    infer,
    with_nodes,
)
from fastdigit.compiler.passes.rewrite import readers_of
from fastdigit.errors import UnsupportedError

__all__ = ["fit_ranks"]

#: Axes that a transpose may move independently of each other.
MAX_MOVED = 6

#: For each of three axes of an image, which axes of a value it stands for, in order.
Groups = list[range]


def fit_ranks(graph: Graph) -> Graph:
    """Carry matrices as images of one row, (1, rows, columns), and values of more axes than three
    as images whose height is all axes but the last two.

    Elements keep their order, so that is a reshape. An operator works on an image in which axes are
    joined that it treats alike. A transpose that moves more than three axes becomes several.

    An input of rank 2 becomes the image that the network makes of it; if it makes none, one of a
    single channel if it flattens it, and of a single row if not.

    Raises
    ------
    UnsupportedError
        If an operator treats more than three groups of axes differently.
    """
    nodes: list[Node] = []
    inputs: dict[str, Shape] = {}
    for value in graph.inputs:
        shape = graph.shapes[value]
        if len(shape) != 2:
            inputs[value] = shape
            continue
        inputs[f"{value}:image"] = _image_of_matrix(graph, value)
        nodes.append(Node(value, Reshape(_carried(shape)), (f"{value}:image",), value))
    if not nodes and all(_fits(graph, node) for node in graph.nodes):
        return graph
    for node in graph.nodes:
        nodes += [node] if _fits(graph, node) else _fitted(graph, node)
    return with_nodes(graph, nodes, inputs=inputs)


def _image_of_matrix(graph: Graph, value: str) -> Shape:
    """Return the image as which to read an input of rank 2: one that has its rows and columns, for
    so batches come.

    It is told by the operators that read it first, with no regard to what else does.
    """
    shape = graph.shapes[value]
    readers = readers_of(graph)
    while readers[value]:
        node = readers[value][0]
        after = graph.shapes[node.output]
        match node.op:
            case Reshape() if len(after) == 3 and tuple(n for n in after if n != 1) == tuple(
                n for n in shape if n != 1
            ):
                return after
            case Dense():
                return (*shape, 1)
            case Reshape() | Eltwise():
                value = node.output
            case Binary(constant=constant) if constant is not None:
                value = node.output
            case _:
                break
    return (*shape, 1) if len(graph.shapes[value]) == 1 else (1, *shape)


def _fits(graph: Graph, node: Node) -> bool:
    if isinstance(node.op, Pad) and len(node.op.widths) == 1:
        return False
    return all(len(graph.shapes[value]) in (1, 3) for value in (*node.inputs, node.output))


def _carried(shape: Shape) -> Shape:
    if len(shape) in (1, 3):
        return shape
    return (math.prod(shape[:-2]), *shape[-2:]) if shape else (1,)


def _fitted(graph: Graph, node: Node) -> list[Node]:
    """Return nodes that do what ``node`` does, between values as :func:`_carried` has them."""
    shapes = [graph.shapes[value] for value in node.inputs]
    out = graph.shapes[node.output]
    nodes: list[Node] = []

    def add(op: Op, shapes: Sequence[Shape], *sources: str) -> tuple[str, Shape]:
        nodes.append(Node(node.name, op, sources, f"{node.output}:{len(nodes)}"))
        return nodes[-1].output, infer(node.name, op, *shapes)

    def reshape(value: str, shape: Shape, target: Shape) -> str:
        return value if shape == target else add(Reshape(target), [shape], value)[0]

    carried = [_carried(shape) for shape in shapes]
    match node.op:
        case Reshape():
            value, shape = node.inputs[0], carried[0]
        case Transpose(perm):
            value, shape = node.inputs[0], carried[0]
            for view, moved in _moves(node.name, shapes[0], perm):
                value, shape = add(Transpose(moved), [view], reshape(value, shape, view))
        case _:
            op, views = _viewed(node, shapes, out)
            sources = [reshape(*given) for given in zip(node.inputs, carried, views, strict=True)]
            value, shape = add(op, views, *sources)
    # The last one writes the output; a reshape that changes nothing is dropped later.
    nodes.append(Node(node.name, Reshape(_carried(out)), (value,), node.output))
    return nodes


def _viewed(node: Node, shapes: list[Shape], out: Shape) -> tuple[Op, list[Shape]]:
    """Return an operator on images that does what ``node`` does, and the images of its inputs."""
    rank = len(shapes[0])
    if isinstance(node.op, Recurrent):
        return node.op, [_carried(shape) for shape in shapes]
    shapes = [aligned_shape(shape, rank) for shape in shapes]
    op = node.op
    labels: list[Hashable] = [None] * rank
    axis: int | None = None  # one that is no other, even if its length is 1
    match op:
        case Eltwise(affine=Affine(axis=axis)):
            pass
        case Softmax() | LogSoftmax() | LayerNorm():
            axis = rank - 1
        case Concat(axis):
            pass
        case Binary(constant=constant, affine=affine):
            other = shapes[-1] if constant is None else aligned(constant, rank).shape
            labels = [b == a for a, b in zip(out, other, strict=True)]
            axis = affine.axis if affine is not None else None
        case Pad(widths) | Crop(widths):
            labels = [axis if any(width) else None for axis, width in enumerate(widths)]
        case Eltwise():
            pass
        case _:
            raise UnsupportedError(
                f"{node.name}: {type(op).__name__} of shape {shapes[0]}; supported are vectors and "
                "images"
            )
    if axis is not None:
        labels = list(zip(labels, _around(axis, rank), strict=True))
    sizes = shapes[0] if isinstance(op, Crop) else out
    free = [size == 1 and other != axis for other, size in enumerate(sizes)]
    groups = _groups(node, labels, free)
    views = [_view(shape, groups) for shape in shapes]
    match op:
        case Eltwise(affine=Affine() as affine):
            op = replace(op, affine=replace(affine, axis=_group_of(affine.axis, groups)))
        case Concat(axis):
            op = Concat(_group_of(axis, groups))
        case Binary(constant=constant, affine=affine):
            if constant is not None:
                constant = aligned(constant, rank)
                op = replace(op, constant=constant.reshape(_view(constant.shape, groups)))
            if affine is not None:
                op = replace(op, affine=replace(affine, axis=_group_of(affine.axis, groups)))
        case Pad(widths, value):
            op = Pad(_joined(widths, groups), value)
        case Crop(widths):
            op = Crop(_joined(widths, groups))
    return op, views


def _joined(widths: tuple[Pair, ...], groups: Groups) -> tuple[Pair, ...]:
    """Borders of groups, in each of which one axis has a border at most."""
    return tuple(
        (sum(widths[axis][0] for axis in group), sum(widths[axis][1] for axis in group))
        for group in groups
    )


def _around(axis: int, rank: int) -> list[int]:
    """Tell the axes before ``axis``, itself, and those behind it apart."""
    return [(other > axis) - (other < axis) for other in range(rank)]


def _groups(node: Node, labels: list[Hashable], free: list[bool]) -> Groups:
    """Join neighbours with the same label to three groups; ``free`` axes have any label."""
    starts: list[int] = []
    last: Hashable = None
    for axis, label in enumerate(labels):
        if not free[axis] and (not starts or label != last):
            # Free axes in front belong to the first group.
            starts.append(axis if starts else 0)
            last = label
    starts = starts or [0]
    if len(starts) > 3:
        raise UnsupportedError(
            f"{node.name}: {type(node.op).__name__} treats {len(starts)} groups of axes "
            "differently; supported are three"
        )
    # The last axes stay apart, as in values that are only carried.
    for axis in range(len(labels) - 1, 0, -1):
        if len(starts) < 3 and axis not in starts:
            starts = sorted([*starts, axis])
    ends = [*starts[1:], len(labels)]
    groups = [range(start, end) for start, end in zip(starts, ends, strict=True)]
    return [range(0)] * (3 - len(groups)) + groups


def _group_of(axis: int, groups: Groups) -> int:
    return next(index for index, group in enumerate(groups) if axis in group)


def _view(shape: Shape, groups: Groups) -> Shape:
    return tuple(math.prod(shape[axis] for axis in group) for group in groups)


# ---- transposes --------------------------------------------------------------------------------


def _moves(name: str, shape: Shape, perm: tuple[int, ...]) -> Iterator[tuple[Shape, Shape]]:
    """Yield (shape, permutation) of the transposes of images, one after the other, that do what one
    of more axes does."""
    perm = tuple(axis for axis in perm if shape[axis] != 1)
    blocks = _blocks(perm)
    sizes = {block: math.prod(shape[axis] for axis in block) for block in blocks}
    order, target = tuple(sorted(blocks)), tuple(blocks)
    if len(blocks) > MAX_MOVED:
        raise UnsupportedError(
            f"{name}: moves {len(blocks)} axes of shape {shape}; supported are up to {MAX_MOVED}"
        )
    for parts, moved in _path(order, target):
        yield tuple(math.prod(sizes[block] for block in part) for part in parts), moved


def _blocks(perm: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Join the axes that stay neighbours, in the order of the result."""
    rank = {axis: place for place, axis in enumerate(sorted(perm))}
    blocks: list[tuple[int, ...]] = []
    for axis in perm:
        if blocks and rank[axis] == rank[blocks[-1][-1]] + 1:
            blocks[-1] += (axis,)
        else:
            blocks.append((axis,))
    return blocks


Block = tuple[int, ...]
Order = tuple[Block, ...]
Move = tuple[tuple[Order, Order, Order], Shape]


def _path(order: Order, target: Order) -> list[Move]:
    """Find the fewest transposes of three parts from one order to another, breadth first."""
    known: dict[Order, list[Move]] = {order: []}
    waiting = deque([order])
    while target not in known:
        current = waiting.popleft()
        for first, second in combinations_with_replacement(range(len(current) + 1), 2):
            parts = (current[:first], current[first:second], current[second:])
            for moved in permutations(range(3)):
                result = tuple(block for part in moved for block in parts[part])
                if result not in known:
                    known[result] = [*known[current], (parts, moved)]
                    waiting.append(result)
    return known[target]
