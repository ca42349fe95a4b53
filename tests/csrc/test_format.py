"""The loader against hostile files: one malformed file a field of csrc/FORMAT.md, and random damage.

Offsets are written out here, apart from the packer's and the loader's own idea of them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdigit import Model
from fastdigit.compiler.ir import Activation, Graph, Pool
from fastdigit.compiler.ops import (
    Binary,
    Concat,
    Crop,
    Eltwise,
    LayerNorm,
    Pad,
    Pool2D,
    Reshape,
    Softmax,
    Transpose,
)
from fastdigit.errors import ModelFormatError, UnsupportedError
from tests.support.model_files import of_op, of_tensor, sealed
from tests.support.networks import Net, affine, cell, chain, conv, dense, packed, two_headed

NONE = 0xFFFFFFFF


def network() -> Graph:
    """Has every opcode but ELTWISE: INPUT, CONV2D with everything, POOL2D, DENSE, DENSE, SOFTMAX."""
    rng = np.random.default_rng(0)
    pool = Pool("max", (2, 2), (2, 2), (1, 1, 0, 0))
    return chain(
        (10, 9, 2),
        [
            conv(
                rng,
                (3, 3),
                2,
                5,
                pad=(1, 1, 1, 1),
                activation=Activation("elu", 0.5),
                affine=affine(rng, 0, 10),
                pool=pool,
            ),
            Pool2D(Pool("average", (2, 2), (1, 1))),
            dense(rng, 4 * 4 * 5, 33, activation=Activation("relu")),
            dense(rng, 33, 4),
            Softmax(),
        ],
    )


GOOD = packed(network())
INPUT, CONV2D, POOL2D, DENSE, SOFTMAX = 0, 1, 2, 3, 5  # positions in the program


def section(kind: int) -> tuple[int, int]:
    """Offset and size of a section."""
    _, _, offset, size, _ = struct.unpack_from("<IIQQQ", GOOD, 64 + 32 * (kind - 1))
    return offset, size


META, TENSORS, PROGRAM, WEIGHTS = (section(kind)[0] for kind in (1, 2, 3, 4))
TENSOR_COUNT = section(2)[1] // 64


def patched(offset: int, format: str, *values: float) -> bytes:
    out = bytearray(GOOD)
    struct.pack_into("<" + format, out, offset, *values)
    return sealed(out)


def tensor(i: int, field: int) -> int:
    return TENSORS + 64 * i + field


def op(i: int, field: int) -> int:
    return PROGRAM + 160 * i + field


def first_weight() -> int:
    """Index of the first weight tensor: the convolution's panels."""
    return struct.unpack_from("<I", GOOD, op(CONV2D, 16))[0]


def bias_of_conv() -> int:
    return struct.unpack_from("<I", GOOD, op(CONV2D, 20))[0]


def reduced_to(position: int, dtype: int, value: int = 0) -> bytes:
    """The weights of an op said to be of another dtype, and of its size; the first one set."""
    out = bytearray(GOOD)
    (index,) = struct.unpack_from("<I", out, op(position, 16))
    offset, size = struct.unpack_from("<QQ", out, tensor(index, 32))
    struct.pack_into("<I", out, tensor(index, 4), dtype)
    struct.pack_into("<Q", out, tensor(index, 40), size // {1: 2, 2: 4}[dtype])
    if dtype == 1:
        out[WEIGHTS + offset : WEIGHTS + offset + size] = bytes(size)
        struct.pack_into("<H", out, WEIGHTS + offset, value)
    return sealed(out)


PORTS = packed(two_headed())
INTERFACE = struct.unpack_from("<Q", PORTS, 64 + 32 * 4 + 8)[0]


def port(i: int, field: int, format: str, *values: float | bytes) -> bytes:
    """Record i of INTERFACE: 0 and 1 are the inputs, tensors 0 and 1, 2 to 6 the outputs."""
    out = bytearray(PORTS)
    struct.pack_into("<" + format, out, INTERFACE + 256 * i + field, *values)
    return sealed(out)


CASES: dict[str, tuple[Callable[[], bytes], str]] = {
    # Header.
    "empty": (lambda: b"", "not a .fdm file"),
    "short": (lambda: GOOD[:40], "not a .fdm file"),
    "magic": (lambda: b"\x00" + GOOD[1:], "not a .fdm file"),
    "text mode": (lambda: GOOD.replace(b"\r\n", b"\n", 1), "not a .fdm file"),
    "version_major": (lambda: patched(8, "H", 2), "format version 2.1, this library reads 1.3"),
    "version_minor": (lambda: patched(10, "H", 4), "format version 1.4"),
    "header_size": (lambda: patched(12, "I", 65), "header_size"),
    "file_size": (lambda: GOOD[:16] + struct.pack("<Q", len(GOOD) + 64) + GOOD[24:], "truncated or was added to"),
    "truncated": (lambda: GOOD[:-64], "truncated or was added to"),
    "added to": (lambda: GOOD + bytes(64), "truncated or was added to"),
    "size not a multiple": (lambda: sealed(GOOD + b"\0"), "not a multiple of 64"),
    "checksum": (lambda: GOOD[:24] + bytes(8) + GOOD[32:], "checksum"),
    "a flipped bit": (lambda: GOOD[:-9] + bytes([GOOD[-9] ^ 1]) + GOOD[-8:], "checksum"),
    "section_count": (lambda: patched(32, "I", 6), "section_count is 6, expected 4 or 5"),
    "section_count without INTERFACE": (lambda: patched(32, "I", 5), "section 0 starts at 192, expected 256"),
    "section_count, INTERFACE left out": (
        lambda: sealed(PORTS[:32] + struct.pack("<I", 4) + PORTS[36:]), "section 0 starts at"
    ),
    # Inputs and outputs.
    "padding after the table": (
        lambda: sealed(PORTS[:224] + b"\1" + PORTS[225:]), "padding after the section table"
    ),
    "no inputs": (lambda: port(0, 0, "I", 1), "INTERFACE has 0 inputs"),
    "no outputs": (lambda: sealed(PORTS[:64 + 32 * 4 + 16] + struct.pack("<Q", 512) + PORTS[64 + 32 * 4 + 24 : INTERFACE + 512]),
                   "INTERFACE has 2 inputs and then 0"),
    "an input among outputs": (lambda: port(4, 0, "I", 0), "record 4 of INTERFACE has kind 0"),
    "kind of a port": (lambda: port(5, 0, "I", 7), "record 5 of INTERFACE has kind 7"),
    "tensor of an input": (lambda: port(1, 4, "I", 0), "record 1 of INTERFACE is tensor 0, op 1 writes 1"),
    "one input more than INPUT ops": (lambda: port(2, 0, "I", 0), "the first 3, and no others, are INPUT"),
    "one input less than INPUT ops": (lambda: port(1, 0, "I", 1), "the first 1, and no others, are INPUT"),
    "output is no tensor": (lambda: port(2, 4, "I", 2**32 - 1), "output 0 is tensor 4294967295, expected one"),
    "output is a weight": (lambda: port(2, 4, "I", 12), "output 0 is tensor 12, expected one"),
    "output is an input": (lambda: port(3, 4, "I", 1), "output 1 is tensor 1, expected one that an op writes, which"),
    "an output that nobody wants": (lambda: port(4, 4, "I", 2), "is never read"),
    "name is empty": (lambda: port(2, 8, "B", 0), "the name of record 2"),
    "name without an end": (lambda: port(2, 8, "248s", b"x" * 248), "the name of record 2"),
    "name is not UTF-8": (lambda: port(2, 8, "B", 0xFF), "the name of record 2"),
    "bytes behind a name": (lambda: port(2, 8 + 247, "B", 1), "the name of record 2"),
    "the same name twice": (lambda: port(3, 8, "8s", b"digit"), "records 2 and 3 of INTERFACE have the same name"),
    "reserved of header": (lambda: patched(63, "B", 1), "reserved bytes of the header"),
    "only a header": (lambda: sealed(GOOD[:64]), "section table does not fit"),
    # Sections.
    **{
        f"section {i} kind": (lambda i=i: patched(64 + 32 * i, "I", 9), f"section {i} has kind 9") for i in range(4)
    },
    **{
        f"section {i} record_size": (lambda i=i: patched(68 + 32 * i, "I", 2), f"section {i} has record_size 2")
        for i in range(4)
    },
    **{
        f"section {i} offset": (lambda i=i: patched(72 + 32 * i, "Q", 2**40), f"section {i} starts at")
        for i in range(4)
    },
    **{
        f"section {i} size": (lambda i=i: patched(80 + 32 * i, "Q", 2**64 - 1), f"section {i} does not fit")
        for i in range(4)
    },
    **{
        f"section {i} reserved": (lambda i=i: patched(88 + 32 * i, "Q", 1), f"reserved field of section {i}")
        for i in range(4)
    },
    "section size not a multiple": (lambda: patched(64 + 32 + 16, "Q", section(2)[1] - 1), "multiple of its record_size"),
    "padding": (lambda: patched(META + section(1)[1], "B", 1), "padding after section 0"),
    "no tensors": (lambda: patched(64 + 32 + 16, "Q", 0), "TENSORS has 0 records|padding after section 1"),
    "meta is not UTF-8": (lambda: patched(META, "B", 0xFF), "META is not UTF-8"),
    "meta is overlong UTF-8": (lambda: patched(META, "BB", 0xC0, 0x80), "META is not UTF-8"),
    "meta has a surrogate": (lambda: patched(META, "BBB", 0xED, 0xA0, 0x80), "META is not UTF-8"),
    "sections end early": (lambda: sealed(GOOD + bytes(64)), "the sections end at"),
    # Tensors.
    "tensor kind": (lambda: patched(tensor(0, 0), "I", 2), "tensor 0 has unknown kind"),
    "tensor dtype": (lambda: patched(tensor(0, 4), "I", 3), "tensor 0 has unknown dtype"),
    "activation dtype": (lambda: patched(tensor(0, 4), "I", 1), "tensor 0 has dtype 1 and is not laid out in panels"),
    "vector dtype": (lambda: patched(tensor(bias_of_conv(), 4), "I", 2), "has dtype 2 and is not laid out in panels"),
    "weight dtype and size": (lambda: patched(tensor(first_weight(), 4), "I", 1), "its dimensions make"),
    "convolution of halves": (lambda: reduced_to(CONV2D, 1), "CONV2D whose weights are not f32"),
    "narrow layer of halves": (lambda: reduced_to(4, 1), "4 outputs and weights that are not f32"),
    "half infinite": (lambda: reduced_to(DENSE, 1, 0x7C00), "holds a NaN or an infinity"),
    "half NaN": (lambda: reduced_to(DENSE, 1, 0xFE00), "holds a NaN or an infinity"),
    "bytes without scale": (lambda: reduced_to(DENSE, 2), "scale of op 3"),
    "tensor layout": (lambda: patched(tensor(bias_of_conv(), 8), "I", 2), "unknown layout"),
    "activation layout": (lambda: patched(tensor(0, 8), "I", 1), "activation 0 has a layout"),
    "tensor rank 0": (lambda: patched(tensor(0, 12), "I", 0), "tensor 0 has rank 0"),
    "tensor rank 4": (lambda: patched(tensor(0, 12), "I", 4), "tensor 0 has rank 4"),
    "activation rank 2": (lambda: patched(tensor(0, 12), "IIII", 2, 4, 4, 0), "activation 0 has rank 2"),
    "panels of rank 1": (lambda: patched(tensor(first_weight(), 12), "III", 1, 18, 0), "laid out in panels and has rank 1"),
    "row-major of rank 2": (lambda: patched(tensor(bias_of_conv(), 12), "III", 2, 5, 1), "row-major and has rank 2"),
    "dim 0": (lambda: patched(tensor(0, 16), "I", 0), "dimension 0 of tensor 0 is 0"),
    "dim huge": (lambda: patched(tensor(0, 16), "I", 2**32 - 1), "dimension 0 of tensor 0"),
    "dim beyond rank": (lambda: patched(tensor(0, 28), "I", 1), "rank 3 but dimension 3 is 1"),
    "activation huge": (lambda: patched(tensor(0, 16), "III", 2**24, 2**24, 1), "elements, at most"),
    "weight huge": (lambda: patched(tensor(first_weight(), 16), "II", 2**24, 2**24), "its dimensions make"),
    "activation offset": (lambda: patched(tensor(0, 32), "Q", 64), "activation 0 has a layout, an offset or a size"),
    "activation size": (lambda: patched(tensor(0, 40), "Q", 64), "activation 0 has a layout, an offset or a size"),
    "weight offset unaligned": (lambda: patched(tensor(first_weight(), 32), "Q", 4), "not aligned"),
    "weight offset outside": (lambda: patched(tensor(first_weight(), 32), "Q", 2**63), "lies outside WEIGHTS"),
    "weight offset wraps": (lambda: patched(tensor(first_weight(), 32), "Q", 2**64 - 64), "lies outside WEIGHTS"),
    "weight offset at the end": (lambda: patched(tensor(first_weight(), 32), "Q", section(4)[1] // 64 * 64), "lies outside WEIGHTS"),
    "weights over the same bytes": (
        lambda: patched(tensor(bias_of_conv(), 32), "Q", 0), "does not lie behind the weights before it"
    ),
    "weight size": (lambda: patched(tensor(first_weight(), 40), "Q", 4), "its dimensions make"),
    "tensor reserved": (lambda: patched(tensor(0, 63), "B", 1), "reserved bytes of tensor 0"),
    "weight NaN": (lambda: patched(WEIGHTS, "f", math.nan), "holds a NaN or an infinity"),
    "weight infinite": (lambda: patched(WEIGHTS + 8, "f", -math.inf), "holds a NaN or an infinity"),
    # Ops.
    "opcode 0": (lambda: patched(op(CONV2D, 0), "I", 0), "op 1"),
    "opcode unknown": (lambda: patched(op(SOFTMAX, 0), "I", 99), "op 5 has unknown opcode 99"),
    "two inputs": (lambda: patched(op(SOFTMAX, 0), "I", 1), "the first 1, and no others, are INPUT"),
    "no input": (lambda: patched(op(INPUT, 0), "I", 6), "the first 1, and no others, are INPUT"),
    "input of INPUT": (lambda: patched(op(INPUT, 4), "I", 0), "op 0 is INPUT and has an input"),
    "input out of range": (lambda: patched(op(CONV2D, 4), "I", TENSOR_COUNT), "was not written before"),
    "input a weight": (lambda: patched(op(CONV2D, 4), "I", first_weight()), "was not written before"),
    "input of a later op": (lambda: patched(op(CONV2D, 4), "I", 2), "was not written before"),
    "never read": (lambda: patched(op(4, 4), "I", 2), "weights of op 4|never read"),
    "input2": (lambda: patched(op(CONV2D, 8), "I", 0), "does not use"),
    "weights on POOL2D": (lambda: patched(op(POOL2D, 16), "I", 0), "does not use"),
    "output out of range": (lambda: patched(op(CONV2D, 12), "I", NONE), "not an activation of its own"),
    "output written twice": (lambda: patched(op(CONV2D, 12), "I", 0), "not an activation of its own"),
    "output a weight": (lambda: patched(op(CONV2D, 12), "I", first_weight()), "not an activation of its own"),
    "output of another size": (lambda: patched(tensor(1, 16), "I", 6), "by its fields"),
    "weights none": (lambda: patched(op(DENSE, 16), "I", NONE), "weights of op 3 are not panels"),
    "weights of another op": (lambda: patched(op(DENSE, 16), "I", first_weight()), "weights of op 3 are not panels"),
    "weights an activation": (lambda: patched(op(DENSE, 16), "I", 0), "weights of op 3 are not panels"),
    "bias an activation": (lambda: patched(op(DENSE, 20), "I", 0), "bias of op 3"),
    "bias of another length": (lambda: patched(op(DENSE, 20), "I", bias_of_conv()), "bias of op 3"),
    "scale none": (lambda: patched(op(CONV2D, 24), "I", NONE), "scale of op 1"),
    "shift none": (lambda: patched(op(CONV2D, 28), "I", NONE), "shift of op 1"),
    "scale of another length": (lambda: patched(op(CONV2D, 24), "I", bias_of_conv()), "scale of op 1"),
    "scale on DENSE": (lambda: patched(op(DENSE, 24), "I", bias_of_conv()), "a scale, but not i8 weights"),
    "shift on DENSE": (lambda: patched(op(DENSE, 28), "I", bias_of_conv()), "does not use"),
    "scale on POOL2D": (lambda: patched(op(POOL2D, 24), "I", bias_of_conv()), "does not use"),
    "kernel 0": (lambda: patched(op(CONV2D, 32), "I", 0), "kernel of op 1 is 0"),
    "kernel huge": (lambda: patched(op(CONV2D, 36), "I", 256), "kernel of op 1 is 256"),
    "kernel does not fit": (lambda: patched(op(CONV2D, 32), "I", 255), "does not fit"),
    "kernel of another depth": (lambda: patched(op(CONV2D, 32), "I", 2), "weights of op 1 are not panels of 12 rows"),
    "stride 0": (lambda: patched(op(CONV2D, 40), "I", 0), "stride of op 1 is 0"),
    "stride huge": (lambda: patched(op(CONV2D, 44), "I", 2**31), "stride of op 1"),
    "dilation 0": (lambda: patched(op(CONV2D, 48), "I", 0), "dilation of op 1 is 0"),
    "dilation does not fit": (lambda: patched(op(CONV2D, 52), "I", 200), "does not fit"),
    "pad huge": (lambda: patched(op(CONV2D, 56), "I", 256), "pad of op 1 is 256"),
    "pad of another output": (lambda: patched(op(CONV2D, 56), "I", 5), "scale of op 1|by its fields"),
    "kernel on DENSE": (lambda: patched(op(DENSE, 32), "I", 1), "does not use"),
    "pad on POOL2D": (lambda: patched(op(POOL2D, 56), "I", 1), "does not use"),
    "groups 0": (lambda: patched(op(CONV2D, 72), "I", 0), "0 groups"),
    "groups 2": (lambda: patched(op(CONV2D, 72), "I", 2), "op 1 has 2 groups and a pooling"),
    "groups 3": (lambda: patched(op(CONV2D, 72), "I", 3), "op 1 has 3 groups of 2 channels"),
    "activation": (lambda: patched(op(CONV2D, 76), "I", 99), "unknown activation 99"),
    "activation on POOL2D": (lambda: patched(op(POOL2D, 76), "I", 1), "does not use"),
    "alpha NaN": (lambda: patched(op(CONV2D, 80), "f", math.nan), "alpha of op 1"),
    "alpha infinite": (lambda: patched(op(CONV2D, 80), "f", math.inf), "alpha of op 1"),
    "alpha negative": (lambda: patched(op(CONV2D, 80), "f", -0.5), "alpha of op 1"),
    "temperature NaN": (lambda: patched(op(SOFTMAX, 80), "f", math.nan), "alpha of op 5 is not a finite number >= 0"),
    "temperature infinite": (lambda: patched(op(SOFTMAX, 80), "f", math.inf), "alpha of op 5"),
    "temperature negative": (lambda: patched(op(SOFTMAX, 80), "f", -1.0), "alpha of op 5"),
    "activation on SOFTMAX": (lambda: patched(op(SOFTMAX, 76), "I", 1), "does not use"),
    "alpha without use": (lambda: patched(op(DENSE, 80), "f", 0.5), "not an activation that takes one"),
    "affine_axis": (lambda: patched(op(CONV2D, 84), "I", 4), "unknown affine_axis"),
    "affine_axis none": (lambda: patched(op(CONV2D, 84), "I", 0), "a scale or a shift but no affine_axis"),
    "affine_axis of another length": (lambda: patched(op(CONV2D, 84), "I", 3), "scale of op 1"),
    "affine_axis on DENSE": (lambda: patched(op(DENSE, 84), "I", 3), "does not use"),
    "pool_mode": (lambda: patched(op(CONV2D, 88), "I", 3), "unknown pool_mode"),
    "pool_mode none with fields": (lambda: patched(op(CONV2D, 88), "I", 0), "pooling fields that are not zero"),
    "pool_mode none of POOL2D": (lambda: patched(op(POOL2D, 88), "9I", *[0] * 9), "of no mode"),
    "pool 0": (lambda: patched(op(POOL2D, 92), "I", 0), "pool of op 2 is 0"),
    "pool huge": (lambda: patched(op(POOL2D, 96), "I", 2**24 + 1), "pool of op 2 is 16777217"),
    "pool does not fit": (lambda: patched(op(POOL2D, 92), "I", 100), "does not fit"),
    "pool_stride 0": (lambda: patched(op(POOL2D, 100), "I", 0), "pool_stride of op 2 is 0"),
    "pool_pad": (lambda: patched(op(CONV2D, 108), "I", 2), "not smaller than the window"),
    "pool on DENSE": (lambda: patched(op(DENSE, 92), "I", 1), "does not use"),
    "range empty": (lambda: patched(op(INPUT, 124), "ff", 1.0, 1.0), "empty or not a number"),
    "range NaN": (lambda: patched(op(INPUT, 128), "f", math.nan), "empty or not a number"),
    "bytes out of range": (lambda: patched(op(INPUT, 132), "I", 254), "bytes whose values are outside"),
    "bytes below range": (lambda: patched(op(INPUT, 124), "f", 0.5), "bytes whose values are outside"),
    "range on DENSE": (lambda: patched(op(DENSE, 128), "f", 1.0), "does not use"),
    "u8_divisor on DENSE": (lambda: patched(op(DENSE, 132), "I", 255), "does not use"),
    **{
        f"{name} on {other}": (lambda i=i, field=field: patched(op(i, field), "B", 1), f"op {i} .*does not use")
        for name, field in (("binary", 140), ("concat_axis", 144), ("pad_channels", 148), ("perm", 156))
        for other, i in (("INPUT", INPUT), ("CONV2D", CONV2D), ("DENSE", DENSE), ("SOFTMAX", SOFTMAX))
    },
    "ops in another order": (
        lambda: sealed(GOOD[: op(4, 0)] + GOOD[op(5, 0) : op(6, 0)] + GOOD[op(4, 0) : op(5, 0)] + GOOD[op(6, 0) :]),
        "op 4",
    ),
}  # fmt: skip


# ---- Operators with two inputs, and those that move ----


def branches() -> Graph:
    """PAD, TRANSPOSE, RESHAPE, CONV2D of groups, LAYERNORM, BINARY of three kinds, CONCAT."""
    rng = np.random.default_rng(0)
    net = Net((4, 5, 6))
    net.add(Pad(((1, 2), (0, 1), (0, 2))))  # op 1: (7, 6, 8)
    net.add(Transpose((1, 0, 2)))  # 2: (6, 7, 8)
    net.add(Reshape((7, 6, 8)))
    x = net.add(conv(rng, (1, 1), 8, 4, groups=2))  # 4: (7, 6, 4)
    y = net.add(LayerNorm(1e-3, rng.random(4, np.float32), rng.random(4, np.float32)))
    net.add(Binary("mul", None, Activation("clipped_relu", 6.0)), x, y)
    net.add(Binary("prelu", rng.random((7, 6, 4), np.float32)))  # 7
    z = net.add(Pool2D(Pool("max", (7, 6), (1, 1))))
    net.add(Binary("add"), x, z)  # 9: broadcasts
    net.add(Concat(2), net.last, x)  # 10: (7, 6, 8)
    net.add(dense(rng, 7 * 6 * 8, 3))
    return net.graph()


BRANCHES = packed(branches())
PAD, TRANSPOSE, RESHAPE, GROUPS, LAYERNORM, MUL, PRELU, ADD, CONCAT = 1, 2, 3, 4, 5, 6, 7, 9, 10


branched, of_branch = partial(of_op, BRANCHES), partial(of_tensor, BRANCHES)


BRANCH_CASES: dict[str, tuple[bytes, str]] = {
    "input2 out of range": (branched(MUL, 8, "I", 10**6), "second input of op 6 was not written"),
    "input2 of a later op": (branched(MUL, 8, "I", 9), "second input of op 6 was not written"),
    "input2 a weight": (branched(MUL, 8, "I", 14), "second input of op 6 was not written"),
    "no second operand": (branched(MUL, 8, "I", NONE), "op 6 has not one second operand"),
    "two second operands": (branched(PRELU, 8, "I", 0), "op 7 has not one second operand"),
    "constant an activation": (branched(PRELU, 16, "I", 0), "weights of op 7 are not a vector"),
    "constant of another length": (
        branched(PRELU, 16, "I", struct.unpack_from("<I", BRANCHES, struct.unpack_from("<Q", BRANCHES, 136)[0] + 160 * 11 + 20)[0]),
        "weights of op 7 are not a vector of 168, 4 or 1",
    ),
    "does not broadcast": (branched(ADD, 8, "I", 1), "op 9 is .7, 6, 8., which does not broadcast"),
    "binary 0": (branched(MUL, 140, "I", 0), "op 6 has unknown binary 0"),
    "binary unknown": (branched(MUL, 140, "I", 8), "op 6 has unknown binary 8"),
    "clipped_relu of NaN": (branched(MUL, 80, "f", math.nan), "alpha of op 6"),
    "clipped_relu negative": (branched(MUL, 80, "f", -1.0), "alpha of op 6"),
    "affine without scale": (branched(MUL, 84, "I", 3), "scale of op 6"),
    "pool on BINARY": (branched(MUL, 92, "I", 1), "does not use"),
    "bias on BINARY": (branched(MUL, 20, "I", 0), "does not use"),
    "concat without input2": (branched(CONCAT, 8, "I", NONE), "CONCAT without a second input"),
    "concat_axis 0": (branched(CONCAT, 144, "I", 0), "unknown concat_axis 0"),
    "concat_axis 4": (branched(CONCAT, 144, "I", 4), "unknown concat_axis 4"),
    "concat along another axis": (branched(CONCAT, 144, "I", 1), "op 10 .*by its fields"),
    "concat of other sizes": (branched(CONCAT, 8, "I", 0), "op 10 joins tensors whose other axes differ"),
    "alpha on CONCAT": (branched(CONCAT, 80, "f", 1.0), "does not use"),
    "reshape of other sizes": (of_branch(3, 16, 7, 6, 9), "op 3 reshapes 336 elements to 378"),
    "perm twice": (branched(TRANSPOSE, 156, "4B", 1, 1, 2, 0), "not a permutation"),
    "perm beyond": (branched(TRANSPOSE, 156, "4B", 1, 3, 2, 0), "not a permutation"),
    "perm of four": (branched(TRANSPOSE, 156, "4B", 1, 0, 2, 1), "not a permutation"),
    "perm of another output": (branched(TRANSPOSE, 156, "4B", 0, 1, 2, 0), "op 2 .*by its fields"),
    "pad of PAD": (branched(PAD, 56, "I", 256), "pad of op 1 is 256"),
    "pad of another output ": (branched(PAD, 56, "I", 2), "op 1 .*by its fields"),
    "pad_channels": (branched(PAD, 148, "I", 2**24 + 1), "pad_channels of op 1"),
    "pad_channels of another output": (branched(PAD, 152, "I", 2**24), "op 1 .*by its fields"),
    "fill NaN": (branched(PAD, 80, "f", math.nan), "alpha of op 1 is not finite"),
    "activation on PAD": (branched(PAD, 76, "I", 1), "does not use"),
    "groups for the outputs": (branched(GROUPS, 72, "I", 8), "weights of op 4"),
    "groups of the inputs": (branched(GROUPS, 72, "I", 3), "op 4 has 3 groups of 8"),
    "epsilon 0": (branched(LAYERNORM, 80, "f", 0.0), "alpha of op 5"),
    "epsilon negative": (branched(LAYERNORM, 80, "f", -1.0), "alpha of op 5"),
    "epsilon infinite": (branched(LAYERNORM, 80, "f", math.inf), "alpha of op 5"),
    "scale an activation": (branched(LAYERNORM, 24, "I", 0), "scale of op 5"),
    "shift an activation": (branched(LAYERNORM, 28, "I", 0), "shift of op 5"),
    "affine_axis on LAYERNORM": (branched(LAYERNORM, 84, "I", 3), "does not use"),
}  # fmt: skip


def test_the_good_file_is_good() -> None:
    assert sealed(BRANCHES) == BRANCHES
    assert Model(BRANCHES).logits(np.zeros((2, 4, 5, 6), np.float32)).shape == (2, 3)
    assert sealed(GOOD) == GOOD
    assert Model(GOOD).logits(np.zeros((2, 10, 9, 2), np.float32)).shape == (2, 4)


@pytest.mark.parametrize("name", CASES)
def test_malformed_file_is_refused(name: str) -> None:
    make, message = CASES[name]
    with pytest.raises(ModelFormatError, match=message):
        Model(make())


@pytest.mark.parametrize("name", BRANCH_CASES)
def test_malformed_branches_are_refused(name: str) -> None:
    data, message = BRANCH_CASES[name]
    with pytest.raises(ModelFormatError, match=message):
        Model(data)


CROPS = packed(chain((4, 5, 6), [Crop(((1, 2), (0, 3), (4, 1))), Reshape((2,)), Crop(((0, 1),))]))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (of_op(CROPS, 1, 56, "I", 2**24 + 1), "pad of op 1 is 16777217"),
        (of_op(CROPS, 1, 56, "I", 2), "op 1 cuts off all of its input"),
        (of_op(CROPS, 1, 68, "I", 2**24), "op 1 cuts off all of its input"),
        (of_op(CROPS, 1, 148, "2I", 2**24, 2**24), "op 1 cuts off all of its input"),
        (of_op(CROPS, 1, 152, "I", 2**24 + 1), "pad_channels of op 1"),
        (of_op(CROPS, 1, 60, "I", 1), "op 1 .*by its fields"),
        (of_op(CROPS, 1, 80, "f", 1.0), "does not use"),
        (of_op(CROPS, 3, 56, "I", 1), "op 3 cuts off all of its input"),
        (of_op(CROPS, 3, 152, "I", 0), "op 3 .*by its fields"),
    ],
)  # fmt: skip
def test_malformed_crops_are_refused(data: bytes, message: str) -> None:
    assert Model(CROPS).run(np.ones((1, 4, 5, 6), np.float32)).shape == (1, 1)
    with pytest.raises(ModelFormatError, match=message):
        Model(data)


RECURRENT = packed(
    chain(
        (2, 3, 15),
        [
            cell(
                np.random.default_rng(0),
                "gru",
                5,
                bias=np.ones(15, np.float32),
                gates=Activation("hard_sigmoid", 0.2),
            )
        ],
    )
)
SIMPLE = packed(chain((2, 3, 15), [cell(np.random.default_rng(0), "simple", 15)]))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (of_op(RECURRENT, 1, 156, "B", 0), "unknown recurrent kind 0"),
        (of_op(RECURRENT, 1, 156, "B", 5), "unknown recurrent kind 5"),
        (of_op(RECURRENT, 1, 156, "B", 2), "op 1 has 15 channels for 4 gates"),
        (of_op(RECURRENT, 1, 156, "B", 1), "weights of op 1 are not panels of 15 rows"),
        (of_op(RECURRENT, 1, 157, "B", 200), "op 1 has unknown activation 200"),
        (of_op(RECURRENT, 1, 157, "B", 1), "op 1 has an alpha, but not an activation"),
        (of_op(RECURRENT, 1, 124, "f", math.nan), "alpha of op 1"),
        (of_op(RECURRENT, 1, 158, "B", 2), "that its recurrent kind does not use"),
        (of_op(RECURRENT, 1, 159, "B", 1), "that its recurrent kind does not use"),
        (of_op(RECURRENT, 1, 128, "f", 1.0), "that its recurrent kind does not use"),
        (of_op(RECURRENT, 1, 132, "I", 1), "that its recurrent kind does not use"),
        (of_op(RECURRENT, 1, 76, "I", 200), "op 1 has unknown activation 200"),
        (of_op(RECURRENT, 1, 80, "f", 0.5), "op 1 has an alpha"),
        (of_op(RECURRENT, 1, 20, "I", 0), "bias of op 1"),
        (of_op(RECURRENT, 1, 16, "I", NONE), "weights of op 1"),
        (of_op(RECURRENT, 1, 72, "I", 1), "does not use"),
        (of_tensor(RECURRENT, 2, 20, 16), "bias of op 1"),
        (of_tensor(RECURRENT, 1, 24, 6), "op 1 .*by its fields"),
        (of_op(SIMPLE, 1, 157, "B", 5), "an activation of gates, but no gates"),
    ],
)  # fmt: skip
def test_malformed_recurrent_layers_are_refused(data: bytes, message: str) -> None:
    assert Model(RECURRENT).run(np.ones((1, 2, 3, 15), np.float32)).shape == (1, 2, 3, 5)
    with pytest.raises(ModelFormatError, match=message):
        Model(data)


def test_a_file_of_the_first_version_loads() -> None:
    first = patched(10, "H", 0)
    x = np.random.default_rng(0).random((3, 10, 9, 2), np.float32)
    assert Model(first).logits(x).tobytes() == Model(GOOD).logits(x).tobytes()


def test_truncation_at_every_length() -> None:
    for size in range(0, len(GOOD), 61):
        with pytest.raises(ModelFormatError):
            Model(GOOD[:size])
        with pytest.raises(ModelFormatError):
            Model(sealed(GOOD[:size]) if size >= 64 else GOOD[:size])


@pytest.mark.parametrize("good", [GOOD, BRANCHES], ids=["chain", "branches"])
@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_random_damage_never_crashes(good: bytes, data: st.DataObject) -> None:
    """Whatever passes the loader runs; whatever does not is refused with an error of ours."""
    out = bytearray(good)
    end = struct.unpack_from("<Q", good, 64 + 32 * 3 + 8)[0] + 256
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(64, end - 4)) & ~3
        value = data.draw(
            st.sampled_from([0, 1, 2, 3, 255, 256, 2**24, 2**31, NONE]) | st.integers(0, NONE)
        )
        struct.pack_into("<I", out, position, value)
    try:
        model = Model(sealed(out))
    except (ModelFormatError, UnsupportedError):
        return
    low = model.info()["range"][0]  # which the damage may have changed, and legitimately
    model.logits(np.full((2, *model.input_shape), low, np.float32))


def test_many_weights_over_the_same_bytes_are_refused() -> None:
    """Each record costs no look at the file of its own, however many there are: 1 of 4,000 is looked at."""
    out = bytearray(
        packed(
            chain(
                (64, 1, 1), [Eltwise(Activation("relu"), affine(np.random.default_rng(0), 0, 64))]
            )
        )
    )
    tensors, count = struct.unpack_from("<QQ", out, 64 + 32 + 8)
    records = out[tensors : tensors + count]
    weight = next(records[i : i + 64] for i in range(0, count, 64) if records[i] == 1)
    more = 4000
    grown = out[:tensors] + records + bytes(weight) * more + out[tensors + count :]
    struct.pack_into("<Q", grown, 64 + 32 + 16, count + 64 * more)
    for entry in (2, 3):
        (offset,) = struct.unpack_from("<Q", grown, 64 + 32 * entry + 8)
        struct.pack_into("<Q", grown, 64 + 32 * entry + 8, offset + 64 * more)
    with pytest.raises(
        ModelFormatError,
        match="tensor 4 does not lie behind the weights before it, which end at 512",
    ):
        Model(sealed(grown))


def test_limits_of_the_engine() -> None:
    """Well formed, but more than a call may use: refused, not tried."""
    rng = np.random.default_rng(0)
    memory = Net((4096, 4096, 1))
    for _ in range(40):  # values that are all needed at the end
        memory.add(conv(rng, (1, 1), 1, 1))
    for i in range(40, 0, -1):
        memory.add(Binary("add"), memory.last, f"v{i}")
    with pytest.raises(UnsupportedError, match=r"the limit (operations|context_bytes) of"):
        Model(packed(memory.graph()))
    padded = conv(rng, (1, 1), 256, 1, stride=(1, 255), pad=(0, 255, 0, 255))
    wide = chain((65536, 1, 1), [conv(rng, (1, 1), 1, 256), padded])
    with pytest.raises(UnsupportedError, match="MiB an image"):
        Model(packed(wide))
    work = chain((4096, 4096, 1), [Pool2D(Pool("average", (255, 255), (1, 1)))] * 2)
    with pytest.raises(UnsupportedError, match="operations an image"):
        Model(packed(work))


def test_a_small_file_cannot_ask_for_much_memory() -> None:
    """Many convolutions that share one weight tensor, each of which would be transformed anew."""
    rng = np.random.default_rng(0)
    layer = conv(rng, (3, 3), 80, 80, pad=(1, 1, 1, 1), activation=Activation("relu"))
    whole = bytearray(packed(chain((8, 8, 80), [layer] * 300)))
    tensors, program = (struct.unpack_from("<Q", whole, 64 + 32 * i + 8)[0] for i in (1, 2))
    first = struct.unpack_from("<I", whole, program + 160 + 16)[0]
    for i in range(1, 301):
        struct.pack_into("<I", whole, program + 160 * i + 16, first)
    size = struct.unpack_from("<Q", whole, tensors + 64 * first + 40)[0]
    assert size < 1 << 20
    with pytest.raises(
        UnsupportedError, match="bytes beside the file, more than the limit plan_bytes"
    ):
        Model(sealed(whole))
