"""Resizing of images, and the positions that ONNX's modes mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastdigit.compiler.ir import Array, Op, Shape
from fastdigit.compiler.ops.rules import require

__all__ = ["Resize"]


@dataclass(frozen=True, eq=False)
class Resize(Op):
    """A (height, width, channels) value with other rows and columns.

    ``rows`` is (new height,) and has, for each row of the output, its position among those of the
    input: from 0, the first, to height - 1, the last, with linear interpolation in between.
    ``columns`` is the same for the width.
    """

    rows: Array
    columns: Array

    def infer(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        require(len(shape) == 3, f"Resize needs (height, width, channels), got shape {shape}")
        for what, given, size in (
            ("rows", self.rows, shape[0]),
            ("columns", self.columns, shape[1]),
        ):
            require(
                given.ndim == 1 and given.size >= 1,
                f"Resize has {what} of shape {given.shape}, expected a position for each",
            )
            require(
                bool(((given >= 0) & (given <= size - 1)).all()),
                f"Resize has {what} at {given.min()} to {given.max()}, expected 0 to {size - 1}",
            )
        return self.rows.size, self.columns.size, shape[2]


# ---- Positions, as ONNX's specification of Resize has them ----

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

#: By coordinate_transformation_mode: of (output index, scale, size of input, of output).
#:
#: In float32 and in this order, as ONNX Runtime computes them: which of two equally near neighbours
#: is the nearest hangs on the last bit.
COORDINATES: Mapping[str, Callable[[F32, np.float32, np.float32, np.float32], F32]] = {
    "half_pixel": lambda x, scale, size, out: (x + np.float32(0.5)) / scale - np.float32(0.5),
    "asymmetric": lambda x, scale, size, out: x / scale,
    "align_corners": lambda x, scale, size, out: (
        x * (size - 1) / (out - 1) if out > 1 else np.zeros_like(x)
    ),
    "pytorch_half_pixel": lambda x, scale, size, out: (
        (x + np.float32(0.5)) / scale - np.float32(0.5) if out > 1 else np.zeros_like(x)
    ),
    "tf_half_pixel_for_nn": lambda x, scale, size, out: (x + np.float32(0.5)) / scale,
}

#: By nearest_mode; of float64, in which a half more or less is exact.
ROUNDINGS: Mapping[str, Callable[[F64], F64]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def positions(
    coordinates: str, rounding: str | None, size: int, out: int, scale: float | None = None
) -> F32:
    """Return the positions of ``out`` rows or columns among ``size``.

    Parameters
    ----------
    coordinates
        A key of :data:`COORDINATES`.
    rounding
        A key of :data:`ROUNDINGS`: the nearest; None: linear interpolation.
    scale
        By default ``out / size``.
    """
    index = np.arange(out, dtype=np.float32)
    factor = np.float32(out) / np.float32(size) if scale is None else np.float32(scale)
    found = COORDINATES[coordinates](index, factor, np.float32(size), np.float32(out))
    if rounding is not None:
        found = ROUNDINGS[rounding](found.astype(np.float64)).astype(np.float32)
    return np.clip(found, np.float32(0), np.float32(size - 1))
