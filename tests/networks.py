"""Networks for tests, as graphs with random weights: no TensorFlow needed to build or pack them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fastdigit.compiler.ir import (
    Activation,
    Affine,
    Conv2D,
    Dense,
    Eltwise,
    Graph,
    Node,
    Op,
    Pool,
    Pool2D,
    Softmax,
)
from fastdigit.compiler.ops import make_graph
from fastdigit.compiler.pack import pack

RELU = Activation("relu")
HALVE = Pool("max", (2, 2), (2, 2))


def chain(shape: tuple[int, ...], ops: Sequence[Op]) -> Graph:
    """A graph of one operator after another."""
    nodes = [Node(f"op{i}", op, (f"v{i}",), f"v{i + 1}") for i, op in enumerate(ops)]
    return make_graph("v0", shape, nodes, f"v{len(ops)}")


def packed(graph: Graph, **options: object) -> bytes:
    """The model file of a graph that takes images in 0..1."""
    options = {"input_range": (0.0, 1.0), "u8_divisor": 255, **options}
    return pack(graph, {"name": "test"}, **options)  # type: ignore[arg-type]


def conv(
    rng: np.random.Generator, kernel: tuple[int, int], inputs: int, outputs: int, **options: object
) -> Conv2D:
    depth = kernel[0] * kernel[1] * inputs
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
        "fully convolutional": chain(
            (9, 8, 3), [conv(rng, (3, 3), 3, 5, activation=RELU), conv(rng, (1, 1), 5, 2)]
        ),
        "bottom padding only": chain(
            (4, 5, 4), [conv(rng, (1, 1), 4, 3, pad=(0, 0, 1, 0)), dense(rng, 5 * 5 * 3, 4)]
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
    }
