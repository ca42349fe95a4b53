"""Networks for tests, as graphs with random weights: no TensorFlow needed to build or pack them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fastdigit.compiler.backends.fdm.pack import pack
from fastdigit.compiler.ir import Activation, Affine, Graph, Node, Op, Pool
from fastdigit.compiler.ops import (
    Binary,
    Concat,
    Conv2D,
    ConvTranspose2D,
    Crop,
    Dense,
    Eltwise,
    LayerNorm,
    LogSoftmax,
    Pad,
    Pool2D,
    Recurrent,
    Reshape,
    Resize,
    Softmax,
    Transpose,
    make_graph,
)

RELU = Activation("relu")
HALVE = Pool("max", (2, 2), (2, 2))
NEW_ACTIVATIONS = ("hard_swish", "silu", "softplus", "gelu", "gelu_tanh", "erf")
#: What has a value for every input, and then what only numbers >= 0 and > 0 have.
NEWEST_ACTIVATIONS = ("exponential", "softsign", "mish", "abs", "sqrt")


def chain(shape: tuple[int, ...], ops: Sequence[Op]) -> Graph:
    """A graph of one operator after another."""
    nodes = [Node(f"op{i}", op, (f"v{i}",), f"v{i + 1}") for i, op in enumerate(ops)]
    return make_graph({"v0": shape}, nodes, [f"v{len(ops)}"])


class Net:
    """Builds a graph with branches: `add` an operator on values, by default on the last one."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.nodes: list[Node] = []
        self.shape, self.last = shape, "v0"

    def add(self, op: Op, *inputs: str) -> str:
        name = f"v{len(self.nodes) + 1}"
        self.nodes.append(Node(f"op{len(self.nodes)}", op, inputs or (self.last,), name))
        self.last = name
        return name

    def graph(self) -> Graph:
        return make_graph({"v0": self.shape}, self.nodes, [self.last])

    def size(self, value: str | None = None) -> tuple[int, ...]:
        return self.graph().shapes[value or self.last]


def two_headed() -> Graph:
    """A network of two inputs and five outputs: a softmax over a vector, a sigmoid, an image, and
    values that other operators read too, one of them with a margin."""
    rng = np.random.default_rng(5)
    same = (1, 1, 1, 1)
    ops: list[tuple[Op, tuple[str, ...], str]] = [
        (conv(rng, (3, 3), 1, 8, pad=same, activation=RELU), ("image",), "first"),
        (conv(rng, (3, 3), 8, 8, pad=same, activation=RELU), ("first",), "features"),
        (dense(rng, 8 * 8 * 8, 16), ("features",), "flat"),
        (Concat(0), ("flat", "meta"), "joined"),
        (dense(rng, 20, 10), ("joined",), "scores"),
        (Softmax(), ("scores",), "digit"),
        (dense(rng, 20, 1, activation=Activation("sigmoid")), ("joined",), "flag"),
        (conv(rng, (3, 3), 8, 2, pad=same), ("features",), "mask"),
    ]
    nodes = [Node(output, op, inputs, output) for op, inputs, output in ops]
    outputs = ["digit", "flag", "mask", "features", "scores"]
    return make_graph({"image": (8, 8, 1), "meta": (4,)}, nodes, outputs)


def packed(graph: Graph, **options: object) -> bytes:
    """The model file of a graph that takes images in 0..1; of several inputs or outputs they are
    called as their values are."""
    options = {"input_range": (0.0, 1.0), "u8_divisor": 255, **options}
    if len(graph.inputs) + len(graph.outputs) > 2:
        options = {"names": (graph.inputs, graph.outputs), **options}
    return pack(graph, {"name": "test"}, **options)  # type: ignore[arg-type]


def conv(
    rng: np.random.Generator, kernel: tuple[int, int], inputs: int, outputs: int, **options: object
) -> Conv2D:
    depth = kernel[0] * kernel[1] * inputs
    depth //= options.get("groups", 1)  # type: ignore[call-overload]
    inputs //= options.get("groups", 1)  # type: ignore[call-overload]
    weights = rng.normal(size=(*kernel, inputs, outputs)) / math.sqrt(depth)
    return Conv2D(
        weights.astype(np.float32), (rng.normal(size=outputs) * 0.1).astype(np.float32), **options
    )  # type: ignore[arg-type]


def dense(rng: np.random.Generator, inputs: int, outputs: int, **options: object) -> Dense:
    weights = rng.normal(size=(inputs, outputs)) / math.sqrt(inputs)
    return Dense(
        weights.astype(np.float32), (rng.normal(size=outputs) * 0.1).astype(np.float32), **options
    )  # type: ignore[arg-type]


def affine(rng: np.random.Generator, axis: int, length: int) -> Affine:
    """Scales of both signs: under a negative one the maximum of a pool becomes a minimum."""
    scale, shift = rng.normal(size=length), rng.normal(size=length)
    return Affine(axis, scale.astype(np.float32), shift.astype(np.float32))


def seed_network(seed: int = 0) -> Graph:
    """The seed network, random: 1,886,250 parameters less the folded ones of BatchNormalization."""
    rng = np.random.default_rng(seed)
    ops = [
        conv(rng, (3, 3), 1, 32, activation=RELU, pool=HALVE),
        conv(
            rng,
            (3, 3),
            32,
            48,
            pad=(1, 1, 1, 1),
            activation=RELU,
            affine=affine(rng, 0, 13),
            pool=HALVE,
        ),
        conv(
            rng,
            (2, 2),
            48,
            64,
            pad=(1, 1, 1, 1),
            activation=RELU,
            affine=affine(rng, 0, 7),
            pool=HALVE,
        ),
        dense(rng, 576, 3168, activation=RELU),
        dense(rng, 3168, 10),
        Softmax(),
    ]
    return chain((28, 28, 1), ops)


def residual(rng: np.random.Generator, size: int = 9, channels: int = 12, blocks: int = 1) -> Graph:
    """Residual blocks with squeeze and excitation, a depthwise convolution and a concatenation."""
    net = Net((size, size, 3))
    pad = {"pad": (1, 1, 1, 1), "activation": RELU}
    x = net.add(conv(rng, (3, 3), 3, channels, **pad))
    for _ in range(blocks):
        y = net.add(conv(rng, (3, 3), channels, channels, **pad), x)
        y = net.add(conv(rng, (3, 3), channels, channels, pad=(1, 1, 1, 1), groups=channels), y)
        net.add(Pool2D(Pool("average", (size, size), (size, size))), y)
        net.add(dense(rng, channels, 4, activation=RELU))
        gate = net.add(dense(rng, 4, channels, activation=Activation("sigmoid")))
        y = net.add(Binary("mul"), y, gate)
        x = net.add(Binary("add", activation=RELU, affine=affine(rng, 2, channels)), y, x)
    y = net.add(conv(rng, (1, 1), channels, 8), x)
    z = net.add(conv(rng, (3, 3), channels, 6, pad=(2, 2, 2, 2), dilation=(2, 2), groups=2), x)
    net.add(Concat(2), y, z)
    net.add(dense(rng, size * size * 14, 33, activation=RELU))
    net.add(dense(rng, 33, 5))
    net.add(Softmax())
    return net.graph()


def moves(rng: np.random.Generator) -> Graph:
    """Every operator that only moves or normalises, every kind of operand; values read twice."""
    net = Net((5, 6, 4))
    a = net.add(Transpose((2, 0, 1)))
    a = net.add(Pad(((1, 0), (0, 2), (3, 1)), 0.5), a)
    b = net.add(conv(rng, (3, 3), 10, 7, pad=(1, 1, 1, 1)), a)
    b = net.add(LayerNorm(1e-3, rng.random(7, np.float32), None), b)
    c = net.add(conv(rng, (1, 1), 10, 7, stride=(2, 2)), a)
    c = net.add(Pad(((1, 1), (1, 2), (0, 0))), c)
    d = net.add(Softmax(), b)
    e = net.add(Concat(0), d, b)
    f = net.add(conv(rng, (2, 1), 7, 7, stride=(2, 1), groups=7, pad=(0, 1, 0, 0)), e)
    f = net.add(Binary("prelu", rng.normal(size=net.size()).astype(np.float32)), f)
    g = net.add(Reshape((7, 8, 5)), f)
    g = net.add(Transpose((1, 2, 0)), g)
    row = net.add(Pool2D(Pool("max", (8, 1), (1, 1))), g)
    column = net.add(Pool2D(Pool("average", (1, 5), (1, 5))), g)
    g = net.add(Binary("max"), g, row)
    g = net.add(Binary("min"), g, column)
    one = net.add(conv(rng, (1, 1), 7, 1, activation=Activation("softplus")), g)
    g = net.add(Binary("div", activation=Activation("tanh")), g, one)
    g = net.add(Concat(1), g, g)
    g = net.add(Binary("sub", rng.normal(size=7).astype(np.float32)), g)
    h = net.add(Reshape((8 * 10 * 7,)), g)
    i = net.add(dense(rng, 560, 20), g)  # an image with two readers, one of which wants a vector
    g = net.add(conv(rng, (3, 3), 7, 14, pad=(1, 1, 1, 1), groups=7), g)
    j = net.add(Pool2D(Pool("max", (8, 10), (8, 10))), g)
    j = net.add(Reshape((14,)), j)
    i = net.add(Binary("mul", np.float32([1.5])), i)
    i = net.add(LayerNorm(1e-5, rng.random(20, np.float32), rng.random(20, np.float32)), i)
    k = net.add(Concat(0), i, j)
    k = net.add(Concat(0), k, h)
    c = net.add(dense(rng, math.prod(net.size(c)), 3), c)
    k = net.add(Concat(0), k, c)
    net.add(dense(rng, net.size()[0], 6), k)
    return net.graph()


def resizes(rng: np.random.Generator) -> Graph:
    """Images made larger and smaller, of many channels and of one, as in a U-Net."""
    net = Net((6, 5, 3))
    skip = net.add(conv(rng, (3, 3), 3, 4, pad=(1, 1, 1, 1), activation=RELU))
    net.add(Pool2D(HALVE))
    net.add(conv(rng, (3, 3), 4, 21, pad=(1, 1, 1, 1), activation=RELU))
    net.add(Resize(np.float32([0, 0.25, 0.75, 1.25, 1.25, 2]), np.float32([0, 0.2, 0.5, 0.8, 1])))
    net.add(Concat(2), net.last, skip)
    net.add(conv(rng, (3, 3), 25, 1, pad=(1, 1, 1, 1)))
    net.add(Resize(np.float32([5, 5, 0, 1.5, 1.5]), np.float32([0.5, 4, 3.75, 0, 0, 0, 1])))
    net.add(conv(rng, (3, 3), 1, 16, pad=(1, 1, 1, 1)))
    net.add(Resize(np.repeat(np.arange(5), 2) * 1.0, np.repeat(np.arange(7), 3) * 1.0))
    net.add(Pool2D(Pool("average", (3, 4), (3, 4))))
    net.add(dense(rng, math.prod(net.size()), 5))
    return net.graph()


def transpose(
    rng: np.random.Generator, kernel: tuple[int, int], inputs: int, outputs: int, **options: object
) -> ConvTranspose2D:
    """As :func:`conv`."""
    made = conv(rng, kernel, inputs, outputs, groups=options.get("groups", 1))
    return ConvTranspose2D(made.weights, made.bias, **options)  # type: ignore[arg-type]


def transposed(rng: np.random.Generator) -> Graph:
    """Transposed convolutions whose strides leave phases of several taps, of one and of none; an
    input that a dense layer reads too; groups; every way to end."""
    net = Net((3, 4, 5))
    a = net.add(
        transpose(
            rng,
            (3, 4),
            5,
            9,
            stride=(2, 3),
            pad=(1, 0, 2, 1),
            output_padding=(1, 0),
            activation=RELU,
            affine=affine(rng, 2, 9),
        )
    )  # (5, 12, 9)
    flat = net.add(dense(rng, 5 * 12 * 9, 6), a)
    b = net.add(
        transpose(
            rng,
            (2, 3),
            9,
            6,
            stride=(3, 1),
            dilation=(1, 2),
            pad=(0, 2, 0, 2),
            groups=3,
            activation=Activation("elu", 0.5),
        ),
        a,
    )  # (14, 12, 6)
    b = net.add(
        transpose(
            rng, (1, 1), 6, 3, stride=(1, 2), output_padding=(0, 1), affine=affine(rng, 0, 14)
        ),
        b,
    )  # (14, 24, 3)
    b = net.add(transpose(rng, (3, 3), 3, 100, pad=(1, 1, 1, 1), activation=Activation("tanh")), b)
    b = net.add(Pool2D(Pool("max", (14, 24), (1, 1))), b)
    b = net.add(dense(rng, 100, 6), b)
    net.add(Binary("add"), b, flat)
    return net.graph()


def crops(rng: np.random.Generator) -> Graph:
    """Borders cut off every side and channel: of the input, of what is padded or read twice, of a
    vector; what a dense layer reads."""
    net = Net((7, 8, 5))
    a = net.add(Crop(((1, 2), (0, 1), (0, 0))))  # (4, 7, 5)
    b = net.add(Crop(((0, 0), (0, 0), (1, 2))), "v0")  # (7, 8, 2)
    b = net.add(conv(rng, (4, 2), 2, 5, activation=RELU), b)  # (4, 7, 5)
    a = net.add(Binary("add"), a, b)
    c = net.add(conv(rng, (3, 3), 5, 17, pad=(1, 1, 1, 1)), a)
    d = net.add(Crop(((1, 1), (2, 3), (0, 1))), c)  # (2, 2, 16)
    flat = net.add(dense(rng, 64, 30), d)
    e = net.add(Crop(((3, 0), (6, 0), (0, 0))), c)  # a pixel
    e = net.add(Reshape((17,)), e)
    f = net.add(Concat(0), net.add(Crop(((3, 20),)), flat), e)  # 7 + 17
    net.add(dense(rng, 24, 4), f)
    return net.graph()


def cell(rng: np.random.Generator, kind: str, units: int, **options: object) -> Recurrent:
    """As :func:`conv`."""
    gates = {"simple": 1, "lstm": 4}.get(kind, 3)
    weights = rng.normal(size=(units, gates * units)) / math.sqrt(units)
    if kind == "simple":
        options = {"gates": Activation("linear"), **options}
    return Recurrent(kind, weights.astype(np.float32), **options)  # type: ignore[arg-type]


def recurrents(rng: np.random.Generator) -> Graph:
    """Every kind of recurrent layer, of one sequence and of many, both ways, as in a CRNN."""
    net = Net((3, 11, 2))
    a = net.add(conv(rng, (3, 3), 2, 4 * 9, pad=(1, 1, 1, 1)))
    a = net.add(cell(rng, "lstm", 9), a)  # a sequence each row
    a = net.add(Pool2D(Pool("max", (3, 1), (1, 1))), a)  # (1, 11, 9)
    b = net.add(conv(rng, (1, 1), 9, 4 * 35), a)
    bias = rng.normal(size=4 * 35).astype(np.float32)
    b = net.add(cell(rng, "lstm", 35, backwards=True, bias=bias), b)
    c = net.add(conv(rng, (1, 1), 9, 3 * 33), a)
    bias = rng.normal(size=99).astype(np.float32)
    c = net.add(cell(rng, "gru_reset_after", 33, bias=bias), c)
    d = net.add(conv(rng, (1, 1), 9, 3 * 17), a)
    bias = rng.normal(size=51).astype(np.float32)
    hard = Activation("hard_sigmoid", 0.2)
    d = net.add(cell(rng, "gru", 17, bias=bias, backwards=True, gates=hard), d)
    e = net.add(conv(rng, (1, 1), 9, 8), a)
    e = net.add(cell(rng, "simple", 8, activation=Activation("elu", 0.5)), e)
    f = net.add(conv(rng, (1, 1), 9, 3), a)
    f = net.add(cell(rng, "gru", 1, activation=RELU), f)
    for other in (c, d, e, f):
        b = net.add(Concat(2), b, other)
    net.add(conv(rng, (1, 1), 35 + 33 + 17 + 8 + 1, 6), b)
    net.add(Softmax())
    net.add(dense(rng, 66, 5))
    return net.graph()


def cut_layers() -> Graph:
    """Each kind of layer that threads can share one image of, and some that they cannot, large
    enough that they do."""
    rng = np.random.default_rng(16)
    same, wide = (1, 1, 1, 1), (2, 2, 2, 2)
    tanh = Activation("tanh")
    net = Net((22, 24, 16))
    for layer in (
        conv(rng, (3, 3), 16, 48, pad=same, activation=RELU, affine=affine(rng, 0, 22)),
        conv(
            *(rng, (3, 3), 48, 32),
            pad=same,
            activation=RELU,
            affine=affine(rng, 0, 22),
            pool=Pool("max", (3, 3), (1, 1), same),
        ),
        Eltwise(tanh, affine(rng, 0, 22)),
        Pool2D(Pool("average", (5, 5), (1, 1), wide)),
        conv(rng, (1, 1), 32, 48, activation=Activation("gelu"), affine=affine(rng, 0, 22)),
    ):
        x = net.add(layer)
    y = net.add(Binary("mul", np.linspace(-2, 2, 48, dtype=np.float32), tanh))
    y = net.add(Binary("sub", rng.random((22, 24, 48), np.float32), tanh, affine(rng, 0, 22)))
    x = net.add(Binary("add", activation=tanh, affine=affine(rng, 0, 22)), x, y)
    for mode, activation, binary in (("average", tanh, "mul"), ("max", RELU, "add")):
        net.add(
            conv(
                *(rng, (1, 1), 48, 104),
                activation=activation,
                affine=affine(rng, 2, 104),
                pool=Pool(mode, (22, 24), (1, 1)),
            )
        )
        y = net.add(conv(rng, (1, 1), 104, 48, activation=tanh))
        x = net.add(Binary(binary), x, y)
    for layer in (
        conv(
            *(rng, (3, 3), 48, 32),
            pad=same,
            activation=RELU,
            affine=affine(rng, 0, 22),
            pool=HALVE,
        ),
        conv(rng, (3, 3), 32, 32, groups=32, pad=same, activation=RELU, affine=affine(rng, 0, 11)),
        conv(rng, (1, 1), 32, 40, activation=RELU),
        conv(
            *(rng, (1, 1), 40, 24),
            activation=tanh,
            affine=affine(rng, 0, 11),
            pool=Pool("max", (3, 3), (1, 1), same),
        ),
        conv(rng, (5, 5), 24, 24, pad=wide, affine=affine(rng, 0, 11)),
        conv(rng, (5, 5), 24, 24, pad=wide, pool=Pool("average", (3, 3), (2, 2), same)),
        conv(rng, (5, 5), 24, 24, pad=wide, affine=affine(rng, 0, 6), pool=HALVE),
        conv(rng, (2, 2), 24, 32, pad=(0, 0, 1, 1), activation=RELU),
        conv(rng, (3, 3), 32, 6, pad=same, affine=affine(rng, 0, 3)),
        conv(rng, (3, 3), 6, 12, groups=2, pad=same, activation=RELU),
        conv(rng, (3, 3), 12, 12, pad=same, pool=Pool("average", (2, 2), (1, 1))),
        dense(rng, 48, 200, activation=RELU),
        dense(rng, 200, 10),
        Softmax(),
    ):
        net.add(layer)
    return net.graph()


def operator_networks() -> dict[str, Graph]:
    """Networks of one operator, or of a few, with all that its record can say; small files.

    They are among :func:`small_networks`, which engine and back ends run, are damaged and opened
    by tests/csrc/test_sanitizers.py, and are read back by tests/compiler/test_pack.py.
    """
    return {
        "moves": moves(np.random.default_rng(10)),
        "resizes": resizes(np.random.default_rng(11)),
        "crops": crops(np.random.default_rng(13)),
        "logarithms": chain(
            (3, 4, 9),
            [
                *(Eltwise(Activation(name)) for name in NEWEST_ACTIVATIONS),
                Eltwise(affine=Affine(2, np.full(9, 2.0), np.full(9, 0.125))),
                Eltwise(Activation("log")),
                dense(np.random.default_rng(15), 108, 21),
                LogSoftmax(),
            ],
        ),
        "recurrent layers": recurrents(np.random.default_rng(14)),
        "transposed convolutions": transposed(np.random.default_rng(12)),
    }


def small_networks() -> dict[str, Graph]:
    """One of each kind: what a planner could get wrong, small enough to run thousands of times."""
    rng = np.random.default_rng(7)
    return {
        "softmax only": chain((5,), [Softmax()]),
        "perceptron": chain(
            (784,), [dense(rng, 784, 40, activation=RELU), dense(rng, 40, 10), Softmax()]
        ),
        "perceptron on an image": chain((4, 5, 3), [dense(rng, 60, 7)]),
        "lenet": chain(
            (28, 28, 1),
            [
                conv(
                    rng,
                    (5, 5),
                    1,
                    6,
                    pad=(2, 2, 2, 2),
                    activation=Activation("tanh"),
                    pool=Pool("average", (2, 2), (2, 2)),
                ),
                conv(
                    rng,
                    (5, 5),
                    6,
                    16,
                    activation=Activation("sigmoid"),
                    pool=Pool("average", (2, 2), (2, 2)),
                ),
                dense(rng, 400, 120, activation=Activation("tanh")),
                dense(rng, 120, 84, activation=Activation("tanh")),
                dense(rng, 84, 10),
                Softmax(),
            ],
        ),
        "winograd": chain(
            (13, 12, 12),
            [
                conv(
                    rng,
                    (5, 5),
                    12,
                    24,
                    pad=(2, 2, 2, 2),
                    activation=Activation("tanh"),
                    affine=affine(rng, 1, 12),
                    pool=Pool("max", (2, 2), (2, 2)),
                ),
                conv(
                    rng,
                    (3, 3),
                    24,
                    32,
                    pad=(2, 2, 1, 1),
                    activation=Activation("leaky_relu", 0.2),
                    affine=affine(rng, 0, 7),
                    pool=Pool("max", (3, 3), (2, 2), (1, 1, 1, 1)),
                ),
                conv(
                    rng,
                    (2, 2),
                    32,
                    20,
                    pad=(1, 1, 1, 1),
                    affine=affine(rng, 2, 20),
                    pool=Pool("average", (2, 2), (1, 1)),
                ),
            ],
        ),
        # More patches than are computed together, and an odd number of their rows.
        "winograd, in blocks": chain(
            (44, 43, 16),
            [
                conv(
                    rng,
                    (3, 3),
                    16,
                    16,
                    pad=(1, 1, 1, 1),
                    activation=RELU,
                    affine=affine(rng, 0, 44),
                    pool=Pool("max", (2, 2), (2, 2)),
                )
            ],
        ),
        "winograd, stride 2": chain(
            (33, 30, 16),
            [
                conv(
                    rng, (3, 3), 16, 40, stride=(2, 2), pad=(1, 1, 1, 1), affine=affine(rng, 0, 17)
                ),
                conv(
                    rng,
                    (3, 3),
                    40,
                    33,
                    stride=(2, 2),
                    pad=(0, 0, 1, 1),
                    activation=RELU,
                    pool=Pool("max", (3, 3), (2, 2), (1, 1, 0, 0)),
                ),
            ],
        ),
        "winograd, filters of one dimension": chain(
            (18, 21, 16),
            [
                conv(rng, (1, 3), 16, 20, pad=(0, 1, 0, 1), activation=RELU),
                conv(
                    rng,
                    (3, 1),
                    20,
                    24,
                    activation=Activation("tanh"),
                    affine=affine(rng, 0, 16),
                    pool=Pool("max", (2, 2), (2, 2)),
                ),
                conv(rng, (1, 5), 24, 24, pad=(0, 2, 0, 1), affine=affine(rng, 1, 9)),
                conv(
                    rng,
                    (5, 1),
                    24,
                    32,
                    pad=(2, 1, 2, 0),
                    activation=Activation("leaky_relu", 0.2),
                    affine=affine(rng, 2, 32),
                    pool=Pool("average", (3, 2), (1, 2), (1, 0, 1, 0)),
                ),
                conv(rng, (1, 7), 32, 40, pad=(0, 3, 0, 3), activation=RELU),
                conv(rng, (7, 1), 40, 20, pad=(3, 0, 2, 0), affine=affine(rng, 0, 7)),
            ],
        ),
        # In blocks of a row's columns.
        "winograd, a long row": chain(
            (1, 701, 32),
            [
                conv(
                    rng,
                    (1, 5),
                    32,
                    32,
                    pad=(0, 2, 0, 2),
                    activation=RELU,
                    affine=affine(rng, 1, 701),
                )
            ],
        ),
        "fully convolutional": chain(
            (9, 8, 3), [conv(rng, (3, 3), 3, 5, activation=RELU), conv(rng, (1, 1), 5, 2)]
        ),
        "bottom padding only": chain(
            (4, 5, 4), [conv(rng, (1, 1), 4, 3, pad=(0, 0, 1, 0)), dense(rng, 5 * 5 * 3, 4)]
        ),
        "residual": residual(np.random.default_rng(8)),
        "residual, large": residual(np.random.default_rng(9), 24, 20, 3),
        "activations": chain(
            (3, 4, 9),
            [Eltwise(Activation(name), affine(rng, 2, 9)) for name in NEW_ACTIVATIONS],
        ),
        "separate layers": chain(
            (12, 11, 2),
            [
                Eltwise(Activation("linear"), affine(rng, 2, 2)),
                conv(rng, (3, 3), 2, 20, pad=(2, 0, 1, 1)),
                Eltwise(Activation("elu", 0.8), affine(rng, 1, 10)),
                Pool2D(Pool("max", (3, 3), (2, 2), (1, 1, 1, 1))),
                Pool2D(Pool("average", (2, 2), (1, 1))),
                dense(rng, 6 * 4 * 20, 30),
                Eltwise(Activation("selu"), affine(rng, 0, 30)),
                dense(rng, 30, 33),
                Softmax(),
            ],
        ),
        "tempered softmax": chain((5,), [dense(rng, 5, 20), Softmax(1.5)]),
        **operator_networks(),
    }
