"""Recognise activations that exporters take apart: x sigmoid(x), x hard_sigmoid(x), gelu by erf."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fastdigit.compiler.ir import LINEAR, Activation, Affine, Binary, Eltwise, Graph, Node
from fastdigit.compiler.ops import make_graph
from fastdigit.compiler.passes.merge_eltwise import is_uniform
from fastdigit.compiler.passes.rewrite import remove_dead

__all__ = ["fuse_activations"]

#: Exporters write constants as float32.
_CLOSE = 1e-6


def fuse_activations(graph: Graph) -> Graph:
    """Replace products of a value and an activation of it by one activation."""
    producers = {node.output: node for node in graph.nodes}
    nodes = [_fused(node, producers) or node for node in graph.nodes]
    if all(new is old for new, old in zip(nodes, graph.nodes, strict=True)):
        return graph
    return remove_dead(make_graph(graph.input, graph.shapes[graph.input], nodes, graph.output))


def _fused(node: Node, producers: Mapping[str, Node]) -> Node | None:
    if not isinstance(node.op, Binary) or node.op.kind != "mul" or len(node.inputs) != 2:
        return None
    if node.op.activation != LINEAR or node.op.affine is not None:
        return None
    for value, gate in (node.inputs, node.inputs[::-1]):
        source = producers.get(gate)
        if source is None or not isinstance(source.op, Eltwise):
            continue
        fused = _gated(value, source, producers)
        if fused is not None:
            x, op = fused
            return replace(node, op=op, inputs=(x,))
    return None


def _gated(value: str, gate: Node, producers: Mapping[str, Node]) -> tuple[str, Eltwise] | None:
    """Return (x, operator) for the product of a value and a gate, if that is a function of x."""
    assert isinstance(gate.op, Eltwise)
    activation, affine = gate.op.activation, gate.op.affine
    if activation.name == "erf" and affine is not None:
        return _gelu(value, gate, affine, producers)
    if affine is not None or gate.inputs[0] != value:
        return None
    if activation.name == "sigmoid":
        return value, Eltwise(Activation("silu"))
    if activation.name == "hard_sigmoid" and abs(activation.alpha - 1 / 6) < _CLOSE:
        return value, Eltwise(Activation("hard_swish"))
    return None


def _gelu(
    value: str, gate: Node, affine: Affine, producers: Mapping[str, Node]
) -> tuple[str, Eltwise] | None:
    """``d x * (a erf(x / sqrt(2)) + a)`` is ``2 a d gelu(x)``."""
    inner = producers.get(gate.inputs[0])
    if inner is None or not is_uniform(affine):
        return None
    if abs(affine.scale[0] - affine.shift[0]) > _CLOSE * abs(affine.scale[0]):
        return None
    x, factor = inner.inputs[0], _factor(inner)
    if factor is None or abs(factor - math.sqrt(0.5)) > _CLOSE:
        return None
    outer = 1.0
    if value != x:
        scaled = producers.get(value)
        known = None if scaled is None or scaled.inputs[0] != x else _factor(scaled)
        if known is None:
            return None
        outer = known
    size = len(affine.scale)
    scale = np.full(size, 2.0 * float(affine.scale[0]) * outer)
    return x, Eltwise(Activation("gelu"), Affine(affine.axis, scale, np.zeros(size)))


def _factor(node: Node) -> float | None:
    """Return the number that an operator multiplies each element by, if that is all it does."""
    match node.op:
        case Eltwise(activation, Affine() as affine) if activation == LINEAR:
            if is_uniform(affine) and not affine.shift.any():
                return float(affine.scale[0])
    return None
