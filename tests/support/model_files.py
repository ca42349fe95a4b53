"""Model files with single fields changed.

Offsets are those of csrc/FORMAT.md, written out apart from the packer's and the loader's own idea
of them.
"""

from __future__ import annotations

import struct

from tests.support import native

__all__ = ["of_op", "of_tensor", "sealed"]


def sealed(data: bytes | bytearray) -> bytes:
    """The same with the right checksum and file size, so that the other checks are reached."""
    out = bytearray(data)
    struct.pack_into("<Q", out, 16, len(out))
    struct.pack_into("<Q", out, 24, native.xxhash64(bytes(out[64:])))
    return bytes(out)


def of_op(data: bytes, i: int, field: int, format: str, *values: float) -> bytes:
    """A file with the values at offset ``field`` of op ``i`` changed."""
    return _changed(data, 3, 160 * i + field, format, *values)


def of_tensor(data: bytes, i: int, field: int, *values: int) -> bytes:
    """A file with the words at offset ``field`` of tensor ``i`` changed."""
    return _changed(data, 2, 64 * i + field, f"{len(values)}I", *values)


def _changed(data: bytes, section: int, at: int, format: str, *values: float) -> bytes:
    out = bytearray(data)
    (start,) = struct.unpack_from("<Q", out, 64 + 32 * (section - 1) + 8)
    struct.pack_into("<" + format, out, start + at, *values)
    return sealed(out)
