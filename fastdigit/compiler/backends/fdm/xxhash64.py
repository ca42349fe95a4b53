"""XXH64, the checksum of model files.

Method: Yann Collet, "xxHash fast digest algorithm", specification of the XXH64 variant
(https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md).
"""

from __future__ import annotations

import numpy as np

__all__ = ["xxhash64"]

_MASK = (1 << 64) - 1
_P1 = 0x9E3779B185EBCA87
_P2 = 0xC2B2AE3D27D4EB4F
_P3 = 0x165667B19E3779F9
_P4 = 0x85EBCA77C2B2AE63
_P5 = 0x27D4EB2F165667C5


def _rotate(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (64 - bits))) & _MASK


def _round(accumulator: int, lane: int) -> int:
    return _rotate((accumulator + lane * _P2) & _MASK, 31) * _P1 & _MASK


def _accumulate(start: int, products: list[int]) -> int:
    """Run one accumulator over its lane of every stripe; ``products`` are already times P2.

    The rotated value keeps bits above 64: the product's low 64 bits do not depend on them.
    """
    value = start
    for product in products:
        value = (value + product) & _MASK
        value = (((value << 31) | (value >> 33)) * _P1) & _MASK
    return value


def xxhash64(data: bytes | bytearray | memoryview, seed: int = 0) -> int:
    """Return the 64-bit xxHash of ``data``.

    Parameters
    ----------
    data
        Any number of bytes.
    seed
        0 to 2**64 - 1.
    """
    data = memoryview(data).cast("B")
    size = len(data)
    stripes = size // 32
    if stripes:
        lanes = np.frombuffer(data[: 32 * stripes], dtype="<u8").reshape(stripes, 4)
        products = lanes * np.uint64(_P2)
        starts = (seed + _P1 + _P2, seed + _P2, seed, seed - _P1)
        accumulators = [
            _accumulate(start & _MASK, products[:, lane].tolist())
            for lane, start in enumerate(starts)
        ]
        value = sum(_rotate(a, bits) for a, bits in zip(accumulators, (1, 7, 12, 18), strict=True))
        for accumulator in accumulators:
            value = ((value ^ _round(0, accumulator)) * _P1 + _P4) & _MASK
    else:
        value = seed + _P5
    value = (value + size) & _MASK

    tail = bytes(data[32 * stripes :])
    while len(tail) >= 8:
        lane = int.from_bytes(tail[:8], "little")
        value = (_rotate(value ^ _round(0, lane), 27) * _P1 + _P4) & _MASK
        tail = tail[8:]
    if len(tail) >= 4:
        lane = int.from_bytes(tail[:4], "little")
        value = (_rotate(value ^ (lane * _P1 & _MASK), 23) * _P2 + _P3) & _MASK
        tail = tail[4:]
    for byte in tail:
        value = _rotate(value ^ (byte * _P5 & _MASK), 11) * _P1 & _MASK

    value = (value ^ (value >> 33)) * _P2 & _MASK
    value = (value ^ (value >> 29)) * _P3 & _MASK
    return value ^ (value >> 32)
