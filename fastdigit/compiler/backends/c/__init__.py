"""Writes a network as one self-contained C11 file and its header.

For firmware, and for services that want no library: weights are constant arrays, each operator is a
function whose loops have this network's sizes, values live in a scratch array that the caller gives
and whose parts are used again when nothing needs them any more. Nothing is allocated, no state is
kept, and of the C library only ``math.h`` is used.
"""

from __future__ import annotations

import re

from fastdigit.compiler.backends.c import operators  # noqa: F401  registers what writes them
from fastdigit.compiler.backends.c.emitter import Emitted, Emitter, plan_scratch
from fastdigit.compiler.backends.fdm.unpack import Program
from fastdigit.errors import InputError

__all__ = ["Emitted", "emit_c", "plan_scratch"]


def emit_c(program: Program, name: str) -> Emitted:
    """Write a compiled model as C.

    Parameters
    ----------
    program
        As :func:`fastdigit.compiler.backends.fdm.unpack.unpack` returns it.
    name
        Prefix of all names, and of the two files.

    Raises
    ------
    InputError
        If ``name`` is not a C identifier.
    UnsupportedError
        If the network has an operator that can't be written as C.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise InputError(f"{name!r} is not a C identifier, which names in C begin with")
    return Emitter(program, name).emit()
