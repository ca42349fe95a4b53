"""Resizing of images, and the positions that ONNX's modes mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

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
Positions: TypeAlias = NDArray[np.floating[Any]]
HALF = np.float32(0.5)

#: By coordinate_transformation_mode: of (output index, what divides by the scale, size of input, of
#: output). In this order, as ONNX Runtime computes them: what is nearest hangs on the last bit.
COORDINATES: Mapping[
    str, Callable[[Positions, Callable[[Positions], Positions], int, int], Positions]
] = {
    "half_pixel": lambda x, unscale, size, out: unscale(x + HALF) - HALF,
    "asymmetric": lambda x, unscale, size, out: unscale(x),
    "align_corners": lambda x, unscale, size, out: (
        x * (size - 1) / (out - 1) if out > 1 else np.zeros_like(x)
    ),
    "pytorch_half_pixel": lambda x, unscale, size, out: (
        unscale(x + HALF) - HALF if out > 1 else np.zeros_like(x)
    ),
    "tf_half_pixel_for_nn": lambda x, unscale, size, out: unscale(x + HALF),
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
    given = np.float32(out) / np.float32(size) if scale is None else np.float32(scale)
    index: Positions = np.arange(out, dtype=np.float32)

    def unscale(x: Positions) -> Positions:
        return x / given

    if scale is None and rounding in ("round_prefer_floor", "round_prefer_ceil"):
        # Exactly: float32 puts some ties a bit to one side, which ONNX Runtime does not.
        index = index.astype(np.float64)

        def unscale(x: Positions) -> Positions:
            return x * size / out

    found = COORDINATES[coordinates](index, unscale, size, out)
    if rounding is not None:
        found = ROUNDINGS[rounding](found.astype(np.float64)).astype(np.float32)
    return np.clip(found, 0, size - 1).astype(np.float32)
