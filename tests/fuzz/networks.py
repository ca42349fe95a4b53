"""Networks whose files the fuzzers start from: small, and together with every opcode and field."""

from __future__ import annotations

import struct

import numpy as np

from fastdigit.compiler.ir import Activation, Graph, Node, Pool
from fastdigit.compiler.ops import (
    Binary,
    Concat,
    Crop,
    Eltwise,
    LayerNorm,
    LogSoftmax,
    Op,
    Pad,
    Pool2D,
    Reshape,
    Resize,
    Softmax,
    Transpose,
    make_graph,
)
from fastdigit.compiler.passes.quantize_weights import quantize_weights
from tests.support.model_files import sealed
from tests.support.networks import (
    affine,
    cell,
    chain,
    conv,
    dense,
    operator_networks,
    packed,
    residual,
    transpose,
    two_headed,
)

__all__ = ["fuzzed_networks", "seeds", "with_room"]

SECTION = struct.Struct("<IIQQQ")  # as in csrc/FORMAT.md
WEIGHTS, ALIGN = 4, 64


def fuzzed_networks() -> dict[str, Graph]:
    """Small files, for many rounds in a second."""
    rng = np.random.default_rng(3)
    relu, elu, leaky = Activation("relu"), Activation("elu", 0.5), Activation("leaky_relu", 0.1)
    halve, odd = Pool("max", (2, 2), (2, 2)), Pool("average", (3, 2), (2, 1), (1, 0, 1, 1))
    around = (1, 1, 1, 1)
    rows, cols = affine(rng, 0, 9), affine(rng, 1, 5)
    classifier = chain(
        (10, 9, 2),
        [
            conv(rng, (3, 3), 2, 5, activation=Activation("sigmoid"), pool=halve),
            dense(rng, 60, 35, activation=Activation("selu")),
            Eltwise(Activation("linear"), affine(rng, 0, 35)),
            dense(rng, 35, 4),
            Softmax(),
        ],
    )
    return {
        "convolutions": chain(
            (9, 8, 2),
            [
                conv(rng, (3, 3), 2, 20, pad=around, activation=relu, affine=rows, pool=halve),
                conv(rng, (2, 3), 20, 17, pad=(0, 1, 1, 2), activation=elu, pool=odd),
            ],
        ),
        # Channels enough for Winograd's algorithms; patches that just fit the image.
        "winograd": chain(
            (10, 10, 15),
            [
                conv(rng, (3, 3), 15, 20, activation=relu, affine=affine(rng, 0, 8), pool=halve),
                conv(rng, (2, 2), 20, 17, pad=around),
            ],
        ),
        "winograd_kinds": chain(
            (12, 16, 16),
            [
                *(
                    conv(rng, size, 16, 16, pad=(size[0] // 2, size[1] // 2) * 2)
                    for size in ((5, 5), (1, 3), (3, 1), (1, 5), (5, 1))
                ),
                conv(rng, (7, 1), 16, 32, pad=(3, 0, 3, 0)),
                conv(rng, (3, 3), 32, 48, pad=around, stride=(2, 2)),
                conv(rng, (1, 7), 48, 16, pad=(0, 3, 0, 3), activation=relu, pool=halve),
            ],
        ),
        "pools": chain(
            (10, 9, 5),
            [
                Eltwise(Activation("tanh"), affine(rng, 2, 5)),
                Pool2D(Pool("max", (3, 3), (2, 2), around)),
                conv(rng, (1, 1), 5, 33, activation=leaky, affine=cols),
            ],
        ),
        "classifier": classifier,
        "residual": residual(rng, 4, 4),  # values with several readers
        "two_headed": two_headed(),
        **operator_networks(),
    }


def _tiny_networks() -> dict[str, Graph]:
    """Files of a few kB, for tens of thousands of rounds in a second: of few channels, for 16 of
    them are stored."""
    rng = np.random.default_rng(4)
    relu = Activation("relu")
    halve = Pool("max", (2, 2), (2, 2))
    around = (1, 1, 1, 1)
    head: list[Op] = [dense(rng, 4, 3), Softmax()]
    cells = [
        (kind, cell(rng, kind, 2, backwards=kind == "lstm"), gates)
        for kind, gates in (("simple", 1), ("lstm", 4), ("gru", 3), ("gru_reset_after", 3))
    ]
    graphs = {
        "convolution": chain(
            (4, 4, 1),
            [
                conv(
                    rng,
                    (2, 2),
                    1,
                    2,
                    pad=around,
                    activation=relu,
                    affine=affine(rng, 0, 5),
                    pool=halve,
                ),
                Reshape((8,)),
            ],
        ),
        "strided": chain((5, 4, 2), [conv(rng, (2, 1), 2, 4, stride=(2, 1), groups=2)]),
        "depthwise": chain((4, 4, 2), [conv(rng, (3, 3), 2, 2, groups=2, pad=around)]),
        "winograd": chain((4, 4, 8), [conv(rng, (2, 2), 8, 16, pad=around, activation=relu)]),
        "transposed": chain((2, 3, 2), [transpose(rng, (2, 2), 2, 2, stride=(2, 2))]),
        "dense": chain((4,), head),
        "wide": chain((3,), [dense(rng, 3, 40, activation=Activation("elu", 0.5))]),
        "pooling": chain(
            (4, 4, 2), [Pool2D(Pool("average", (2, 2), (1, 2), (1, 0, 0, 1))), Pool2D(halve)]
        ),
        "elementwise": chain(
            (2, 2, 2),
            [
                Eltwise(Activation("leaky_relu", 0.1), affine(rng, 2, 2)),
                Eltwise(Activation("gelu")),
            ],
        ),
        "constants": chain((2, 2, 2), [Binary("mul", np.full(2, 0.5, np.float32))]),
        "moves": chain(
            (2, 3, 2),
            [
                Transpose((1, 0, 2)),
                Pad(((1, 0), (0, 1), (1, 1)), -1.0),
                Crop(((1, 0), (0, 1), (0, 1))),
            ],
        ),
        "resize": chain(
            (2, 2, 2),
            [Resize(np.array([0, 0.5, 1], np.float32), np.array([0, 1, 1], np.float32))],
        ),
        "normalization": chain(
            (2, 2, 2),
            [
                LayerNorm(1e-3, np.ones(2, np.float32), np.zeros(2, np.float32)),
                Reshape((8,)),
                LogSoftmax(),
            ],
        ),
        **{kind: chain((1, 3, 2 * gates), [layer]) for kind, layer, gates in cells},
    }
    values = [("a", conv(rng, (1, 1), 1, 2), "in"), ("b", Eltwise(relu), "a")]
    nodes = [Node(name, op, (value,), name) for name, op, value in values]
    nodes += [Node("c", Binary("add"), ("a", "b"), "c"), Node("d", Concat(2), ("c", "b"), "d")]
    graphs["branches"] = make_graph({"in": (2, 2, 1)}, nodes, ["d"])
    ports = [
        Node("e", Concat(0), ("x", "y"), "e"),
        Node("f", dense(rng, 4, 1, activation=Activation("sigmoid")), ("e",), "f"),
    ]
    graphs["ports"] = make_graph({"x": (2,), "y": (2,)}, ports, ["e", "f"])
    for precision in ("fp16", "int8", "int8-dynamic"):
        graphs[f"dense-{precision}"] = quantize_weights(graphs["wide"], precision)
    return graphs


def seeds() -> dict[str, bytes]:
    """What libFuzzer starts from, beside what it kept."""
    return {name: with_room(packed(graph)) for name, graph in _tiny_networks().items()}


def with_room(data: bytes) -> bytes:
    """A model file whose WEIGHTS are three times as long: they may not overlap, so that without
    room a changed network would hardly ever have weights that fit."""
    (count,) = struct.unpack_from("<I", data, 32)
    table = [SECTION.unpack_from(data, 64 + SECTION.size * i) for i in range(count)]
    _, _, offset, size, _ = table[WEIGHTS - 1]
    end, whole = offset + size, size // ALIGN * ALIGN
    weights = data[offset : offset + whole]
    out = bytearray(data[:end] + weights + weights + data[end:])
    for i, (kind, record, at, length, reserved) in enumerate(table):
        at += 2 * whole * (at >= end)
        length += 2 * whole * (i == WEIGHTS - 1)
        SECTION.pack_into(out, 64 + SECTION.size * i, kind, record, at, length, reserved)
    return sealed(out)
