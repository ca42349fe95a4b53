"""Round the weights of dense layers to fewer bits: a smaller file, and less to read for each image.

A dense layer run on one image uses each weight once, so its time is that of reading them. Weights
of convolutions, which are used many times, and of narrow layers, which are few, stay float32.

Only weights are rounded here. With fp16 and int8, everything else stays float32; a layer of
int8-dynamic has the weights of int8, and the engine rounds its inputs too, when they come.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastdigit.compiler.ir import Graph, Node, Op
from fastdigit.compiler.limits import NARROW
from fastdigit.compiler.ops import PRECISIONS, Dense
from fastdigit.compiler.passes.rewrite import map_nodes
from fastdigit.errors import InputError, UnsupportedError

__all__ = ["quantize_weights"]

_INT8_MAX = 127
_FP16_MAX = 65504


def quantize_weights(graph: Graph, precision: str) -> Graph:
    """Round the fp32 weights of each dense layer with more than 32 outputs.

    It runs last: a pass that computes weights would leave numbers that the precision does not have.

    Parameters
    ----------
    graph
        As :func:`fastdigit.compiler.passes.optimize` returns it.
    precision
        "fp16": to the nearest binary16, ties to even. "int8": to an integer -127 to 127 times a
        scale for each output, which is the largest absolute weight of that output / 127, rounded to
        float32; an output without weights other than 0 has scale 1. "int8-dynamic": the same, and
        the layer is marked to quantise its inputs. "fp32": not at all.

    Raises
    ------
    UnsupportedError
        If a weight is beyond the range of binary16.
    InputError
        If ``precision`` is another word.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision!r}, expected one of {', '.join(PRECISIONS)}")

    def change(node: Node) -> Op:
        op = node.op
        if not isinstance(op, Dense) or op.precision != "fp32" or op.weights.shape[1] <= NARROW:
            return op
        match precision:
            case "fp16":
                return _fp16(node.name, op)
            case "int8" | "int8-dynamic":
                return _int8(op, precision)
        return op

    return map_nodes(graph, change)


def _fp16(name: str, dense: Dense) -> Dense:
    with np.errstate(over="ignore"):
        weights = dense.weights.astype(np.float16)
    if not np.isfinite(weights).all():
        raise UnsupportedError(
            f"{name}: weights go up to {np.abs(dense.weights).max():.6g}, beyond the {_FP16_MAX} "
            "of fp16; use precision int8 or fp32"
        )
    return replace(dense, weights=weights.astype(np.float64), precision="fp16")


def _int8(dense: Dense, precision: str) -> Dense:
    weights = np.asarray(dense.weights, np.float64)
    with np.errstate(over="ignore"):  # the shape rule refuses an infinite scale
        scale = (np.abs(weights).max(axis=0) / _INT8_MAX).astype(np.float32)
    scale[scale == 0] = 1.0  # also where all weights are too small for float32
    factors = scale.astype(np.float64)
    # A scale near the end of float32's range is rounded so much that a quotient may pass 127.
    integers = np.clip(np.rint(weights / factors), -_INT8_MAX, _INT8_MAX)
    return replace(dense, weights=integers * factors, precision=precision, scale=scale)
