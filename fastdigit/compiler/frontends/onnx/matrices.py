"""Products with a constant matrix."""

from __future__ import annotations

import math

import numpy as np

from fastdigit.compiler.frontends.onnx.importer import Importer
from fastdigit.compiler.frontends.onnx.registry import Operator, converts
from fastdigit.compiler.ir import Array
from fastdigit.compiler.ops import Conv2D, Dense, Reshape
from fastdigit.errors import ModelFormatError


def product(importer: Importer, operator: Operator, weights: Array, bias: Array | None) -> str:
    """Append the product of the first input and a matrix, along its last axis."""
    shape = importer.shape(operator.value())
    if not shape or weights.ndim != 2:
        raise operator.refuse(
            f"an input of rank {len(shape) + 1} times weights of rank {weights.ndim}",
            "a batch of vectors, or of values with more axes, times a matrix",
        )
    if len(shape) == 1:
        return importer.emit(operator, Dense(weights, bias))
    # A product for each pixel, or step of a sequence.
    image = (math.prod(shape[:-2]), *shape[-2:])
    conv = Conv2D(weights[np.newaxis, np.newaxis], bias)
    target = Reshape((*shape[:-1], weights.shape[1]))
    return importer.emit(operator, Reshape(image), conv, target)


@converts("MatMul", by_row=True)
def convert_matmul(importer: Importer, operator: Operator) -> str:
    operator.value()  # refuses a constant on the left
    weights = operator.weights(1)
    if weights is None:
        raise ModelFormatError(f"{operator.name}: the second input is missing")
    return product(importer, operator, weights, None)


@converts("Gemm", by_row=True)
def convert_gemm(importer: Importer, operator: Operator) -> str:
    attributes = operator.attributes
    weights, bias = operator.weights(1), operator.weights(2)
    if weights is None or weights.ndim != 2:
        raise operator.refuse("weights are missing or not of rank 2", "a constant matrix")
    if attributes.get("transA", 0):
        raise operator.refuse("transA=1", "0")
    if attributes.get("transB", 0):
        weights = weights.T
    alpha, beta = float(attributes.get("alpha", 1.0)), float(attributes.get("beta", 1.0))
    if alpha != 1.0:
        weights = weights.astype(np.float64) * alpha
    if bias is not None:
        outputs = weights.shape[1]
        if (
            bias.ndim > 2
            or bias.size not in (1, outputs)
            or bias.shape[-1:] not in ((), (1,), (outputs,))
        ):
            raise operator.refuse(f"a bias of shape {bias.shape}", f"({outputs},)")
        bias = np.broadcast_to(bias.ravel(), (outputs,))
        if beta != 1.0:
            bias = bias.astype(np.float64) * beta
    return product(importer, operator, weights, bias)
