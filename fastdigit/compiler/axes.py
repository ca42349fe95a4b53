"""Axes: what passes and front ends ask about permutations, broadcasting and affines."""

from __future__ import annotations

import numpy as np

from fastdigit.compiler.ir import Affine, Array, Shape

__all__ = [
    "aligned",
    "aligned_shape",
    "inverse",
    "is_identity",
    "is_uniform",
    "moves_only_units",
    "unit_permutation",
]


def inverse(perm: tuple[int, ...]) -> tuple[int, ...]:
    """Return the permutation that undoes ``perm``."""
    return tuple(perm.index(axis) for axis in range(len(perm)))


def is_identity(perm: tuple[int, ...]) -> bool:
    """Whether a permutation moves nothing."""
    return perm == tuple(range(len(perm)))


def unit_permutation(source: Shape, target: Shape) -> tuple[int, ...] | None:
    """Return the permutation that a reshape performs if it only moves axes of length 1, else
    None."""
    if len(source) != len(target) or _squeezed(source) != _squeezed(target):
        return None
    long = iter([axis for axis, size in enumerate(source) if size != 1])
    short = iter([axis for axis, size in enumerate(source) if size == 1])
    return tuple(next(short) if size == 1 else next(long) for size in target)


def moves_only_units(perm: tuple[int, ...], shape: Shape) -> bool:
    """Whether a transpose of a value of ``shape`` keeps the order of its elements."""
    order = [axis for axis in perm if shape[axis] != 1]
    return order == sorted(order)


def _squeezed(shape: Shape) -> Shape:
    return tuple(size for size in shape if size != 1)


def aligned_shape(shape: Shape, rank: int) -> Shape:
    """Return a shape with axes of length 1 in front, as broadcasting reads it."""
    return (1,) * (rank - len(shape)) + shape


def aligned(constant: Array, rank: int) -> Array:
    """Return an array with axes of length 1 in front, as broadcasting reads it."""
    return constant.reshape(aligned_shape(constant.shape, rank))


def is_uniform(affine: Affine) -> bool:
    """Whether every element gets the same scale and shift."""
    return bool(np.ptp(affine.scale) == 0 and np.ptp(affine.shift) == 0)
