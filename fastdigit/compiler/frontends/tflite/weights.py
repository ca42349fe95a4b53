"""The numbers of constants: as they are stored, or what quantised ones stand for."""

from __future__ import annotations

import math

import numpy as np

from fastdigit.compiler.frontends.tflite.reader import BITS, DTYPES, Tensor, shown
from fastdigit.compiler.ir import Array
from fastdigit.errors import ModelFormatError, UnsupportedError

__all__ = ["Constant", "dequantized", "stored"]

Constant = np.ndarray


def stored(tensor: Tensor) -> Constant:
    """Return a constant as the file has it.

    Raises
    ------
    UnsupportedError
        If it is of another type than those of :data:`.reader.BITS`, or sparse.
    ModelFormatError
        If it has not as many bytes as its shape asks for.
    """
    assert tensor.data is not None
    name = f"the constant {shown(tensor.name)}"
    if tensor.sparse:
        raise UnsupportedError(f"{name} is stored without its zeros; supported are dense weights")
    if tensor.type not in BITS:
        raise UnsupportedError(f"{name} has type {tensor.type}; supported are {', '.join(BITS)}")
    count = math.prod(tensor.shape)
    size = -(-count * BITS[tensor.type] // 8)
    if tensor.data.size != size:
        raise ModelFormatError(
            f"{name} of type {tensor.type} and shape {tensor.shape} has {tensor.data.size} bytes, "
            f"expected {size}"
        )
    if tensor.type == "INT4":  # two in a byte, the first one low
        pairs = np.stack([tensor.data << 4, tensor.data], axis=-1).view(np.int8) >> 4
        return pairs.ravel()[:count].reshape(tensor.shape)
    return tensor.data.view(DTYPES[tensor.type]).reshape(tensor.shape)


def dequantized(tensor: Tensor) -> Constant:
    """Return a constant, and if its integers are quantised numbers, those, in float64."""
    values = stored(tensor)
    known = tensor.quantization
    if known is None or values.dtype.kind not in "iu":
        return values
    scale, zero = known.scale, known.zero_point
    if scale.size > 1:
        axis = known.axis
        if not 0 <= axis < values.ndim or values.shape[axis] != scale.size:
            raise ModelFormatError(
                f"the constant {shown(tensor.name)} of shape {values.shape} has {scale.size} "
                f"scales along axis {axis}"
            )
        along = [-1 if other == axis else 1 for other in range(values.ndim)]
        scale, zero = scale.reshape(along), zero.reshape(along)
    result: Array = (values.astype(np.float64) - zero) * scale
    return result
