"""Resizing of images."""

from __future__ import annotations

import numpy as np

from fastdigit.compiler.frontends.tflite.importer import Importer
from fastdigit.compiler.frontends.tflite.registry import Operator, Value, converts
from fastdigit.compiler.frontends.tflite.windows import image_of
from fastdigit.compiler.ir import Array
from fastdigit.compiler.limits import MAX_ELEMENTS
from fastdigit.compiler.ops import Resize

HALF = np.float32(0.5)


def _positions(size: int, out: int, *, nearest: bool, align: bool, half: bool) -> Array:
    """Return the positions of ``out`` rows or columns among ``size``, as TensorFlow Lite computes
    them: in float32, and in this order, for what is nearest hangs on the last bit."""
    scale = np.float32(size) / np.float32(out)
    if align and out > 1:
        scale = np.float32(size - 1) / np.float32(out - 1)
    index = np.arange(out, dtype=np.float32)
    if nearest:
        at = (index + HALF if half else index) * scale
        # Halves away from zero, and nothing here is negative.
        found = np.floor(at.astype(np.float64) + 0.5) if align else np.floor(at)
    else:
        found = (index + HALF) * scale - HALF if half else index * scale
    return np.clip(found, 0, size - 1)


@converts("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
def convert_resize(importer: Importer, operator: Operator) -> Value:
    height, width, channels = image_of(operator)
    target = operator.ints(1)
    if len(target) != 2 or not all(1 <= size <= MAX_ELEMENTS for size in target):
        raise operator.refuse(f"a size of {target}", f"two numbers, 1 to {MAX_ELEMENTS}")
    nearest = operator.op_type == "RESIZE_NEAREST_NEIGHBOR"
    align, half = bool(operator.option("AlignCorners")), bool(operator.option("HalfPixelCenters"))
    if align and half and not nearest:
        raise operator.refuse("align_corners with half_pixel_centers", "one of them")
    rows, columns = (
        _positions(size, out, nearest=nearest, align=align, half=half)
        for size, out in zip((height, width), target, strict=True)
    )
    return importer.emit(operator, (1, *target, channels), Resize(rows, columns))
