"""Recognise activations in pieces: x sigmoid(x), x hard_sigmoid(x), gelu by erf or by tanh."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from fastdigit.compiler.axes import is_uniform
from fastdigit.compiler.ir import LINEAR, Activation, Affine, Graph, Node
from fastdigit.compiler.ops import Binary, Eltwise, with_nodes
from fastdigit.compiler.passes.rewrite import remove_dead

__all__ = ["fuse_activations"]

#: Exporters write constants as float32.
_CLOSE = 1e-6

#: Coefficients of 1, x, x^2 and x^3.
_Coefficients = npt.NDArray[np.float64]

#: The function in a gelu's gate: which gelu that is, and of what polynomial it must be taken.
_GELUS = {
    "erf": ("gelu", (0.0, math.sqrt(0.5), 0.0, 0.0)),
    "tanh": ("gelu_tanh", (0.0, math.sqrt(2 / math.pi), 0.0, 0.044715 * math.sqrt(2 / math.pi))),
}


def fuse_activations(graph: Graph) -> Graph:
    """Replace products of a value and an activation of it by one activation."""
    producers = {node.output: node for node in graph.nodes}
    nodes = [_fused(node, producers) or node for node in graph.nodes]
    if all(new is old for new, old in zip(nodes, graph.nodes, strict=True)):
        return graph
    return remove_dead(with_nodes(graph, nodes))


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
    if activation.name in _GELUS and affine is not None:
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
    """``d x * (a f(p(x)) + a)`` is ``2 a d gelu(x)``, with f and p as in ``_GELUS``."""
    assert isinstance(gate.op, Eltwise)
    if not is_uniform(affine):
        return None
    if abs(affine.scale[0] - affine.shift[0]) > _CLOSE * abs(affine.scale[0]):
        return None
    name, expected = _GELUS[gate.op.activation.name]
    x, outer = value, 1.0
    inner = _polynomial(gate.inputs[0], x, producers)
    scaled = producers.get(value)
    if inner is None and scaled is not None and (factor := _factor(scaled)) is not None:
        x, outer = scaled.inputs[0], factor
        inner = _polynomial(gate.inputs[0], x, producers)
    if inner is None or not np.allclose(inner, expected, rtol=0, atol=_CLOSE):
        return None
    size = len(affine.scale)
    scale = np.full(size, 2.0 * float(affine.scale[0]) * outer)
    return x, Eltwise(Activation(name), Affine(affine.axis, scale, np.zeros(size)))


def _polynomial(
    value: str, x: str, producers: Mapping[str, Node], steps: int = 8
) -> _Coefficients | None:
    """Return what `value` is as a polynomial of `x`, if it is one of the third degree at most.

    It may be computed in any order: x + c x x x, x (1 + c x x) and so on. No more than `steps`
    operators lie between.
    """
    if value == x:
        return np.array([0.0, 1.0, 0.0, 0.0])
    node = producers.get(value)
    if node is None or steps == 0:
        return None
    parts = [_polynomial(name, x, producers, steps - 1) for name in node.inputs]
    match node.op, parts:
        case Eltwise(activation, affine), [np.ndarray() as inner] if activation == LINEAR:
            if affine is None or not is_uniform(affine):
                return None
            result = inner * float(affine.scale[0])
            result[0] += float(affine.shift[0])
            return result
        case Binary() as op, [np.ndarray() as left, np.ndarray() as right]:
            if op.activation != LINEAR or op.affine is not None:
                return None
            if op.kind == "add":
                return left + right
            if op.kind == "mul":
                product = np.convolve(left, right)
                return None if product[4:].any() else product[:4]
    return None


def _factor(node: Node) -> float | None:
    """Return the number that an operator multiplies each element by, if that is all it does."""
    match node.op:
        case Eltwise(activation, Affine() as affine) if activation == LINEAR:
            if is_uniform(affine) and not affine.shift.any():
                return float(affine.scale[0])
    return None
