"""Limits of the model file (csrc/FORMAT.md)."""

from __future__ import annotations

__all__ = [
    "MAX_DYNAMIC_INPUTS",
    "MAX_ELEMENTS",
    "MAX_META",
    "MAX_NAME",
    "MAX_PORTS",
    "MAX_RECORDS",
    "MAX_SMALL",
    "NARROW",
]

#: Kernels, strides, dilations and paddings.
MAX_SMALL = 255
#: Elements of a value; windows and strides of a pooling.
MAX_ELEMENTS = 1 << 24
#: Operators, with the inputs, and tensors.
MAX_RECORDS = 4096
#: Inputs, and outputs.
MAX_PORTS = 64
#: Bytes of the name of one.
MAX_NAME = 247
#: Bytes of metadata.
MAX_META = 1 << 20
#: Outputs up to which the weights of a dense layer are fp32.
NARROW = 32
#: Inputs up to which a dense layer can be int8-dynamic: its sums fit 32 bits.
MAX_DYNAMIC_INPUTS = 65536
