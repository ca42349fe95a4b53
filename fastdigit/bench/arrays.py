"""Arrays as every runtime gets them: aligned to cache lines, and whole batches."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["ALIGNMENT", "FloatArray", "aligned", "whole_batches"]

FloatArray: TypeAlias = npt.NDArray[np.float32]

ALIGNMENT = 64  # bytes


def aligned(shape: tuple[int, ...]) -> FloatArray:
    """Return an uninitialised float32 array that begins a cache line."""
    size = math.prod(shape)
    memory = np.empty(size + ALIGNMENT // 4, np.float32)
    offset = -memory.ctypes.data % ALIGNMENT // 4
    return memory[offset : offset + size].reshape(shape)


def whole_batches(images: FloatArray, batch: int) -> FloatArray:
    """Repeat images from the start until they fill whole batches; copy to aligned memory."""
    count = math.ceil(len(images) / batch) * batch
    whole = aligned((count, *images.shape[1:]))
    for begin in range(0, count, len(images)):
        part = whole[begin : begin + len(images)]
        part[:] = images[: len(part)]
    return whole
