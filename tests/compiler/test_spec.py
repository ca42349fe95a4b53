"""Shape rules, and what makes a graph valid."""

from dataclasses import replace

import numpy as np
import pytest

from fastdigit.compiler.ir import Activation, Affine, Graph, Node, Pool
from fastdigit.compiler.ops import (
    Binary,
    Concat,
    Dense,
    Eltwise,
    LayerNorm,
    Pad,
    Pool2D,
    Reshape,
    Softmax,
    Transpose,
    infer,
)
from fastdigit.compiler.spec import GraphError, verify, verify_program
from fastdigit.errors import UnsupportedError
from tests.support.compiler_cases import RELU, chain, conv, dense, max_pool

rng = np.random.default_rng(0)


def test_shapes():
    graph = chain(
        (28, 27, 3),
        conv(rng, (3, 2), 3, 8, stride=(2, 1), dilation=(1, 2), pad=(1, 0, 2, 1), pool=max_pool(2)),
        Pad(((1, 0), (0, 2), (0, 0))),
        Transpose((2, 0, 1)),
        Reshape((8 * 8 * 15,)),
        dense(rng, 960, 10),
        Softmax(),
    )
    # height (28 + 3 - 3) // 2 + 1 = 15, pooled 7; width 27 + 1 - 3 + 1 = 26, pooled 13
    assert [graph.shapes[f"v{i}"] for i in range(7)] == [
        (28, 27, 3),
        (7, 13, 8),
        (8, 15, 8),
        (8, 8, 15),
        (960,),
        (10,),
        (10,),
    ]
    verify(graph)


def int8(weights, scale, precision="int8"):
    return Dense(np.array(weights, np.float64), precision=precision, scale=np.array(scale))


def test_integers_times_float32_scales_are_int8():
    scale = np.array([0.1, 3e-44], np.float32).astype(np.float64)
    chain((2,), int8([[-128, 127], [1, 0]] * scale, scale))


@pytest.mark.parametrize(
    ("shape", "op", "message"),
    [
        ((4, 4, 2), conv(rng, (3, 3), 3, 8), "take 3 channels, the input has 2"),
        ((2, 2, 3), conv(rng, (3, 3), 3, 8), "window of 3 does not fit 2"),
        ((12,), conv(rng, (3, 3), 3, 8), "needs \\(height, width, channels\\)"),
        ((4, 4, 3), conv(rng, (3, 3), 3, 8, dilation=(0, 1)), "dilation"),
        ((4, 4, 3), conv(rng, (3, 3), 3, 8, stride=(0, 1)), "stride 0"),
        ((4, 4, 3), conv(rng, (3, 3), 3, 8, pad=(0, -1, 0, 0)), "negative"),
        ((5,), dense(rng, 4, 2), "take 4 inputs"),
        ((2, 2), dense(rng, 4, 2), "a vector or an image"),
        ((1,), Dense(np.array([[np.nan]])), "not all finite"),
        ((2,), Dense(np.ones((2, 3)), np.ones(2)), "bias has shape"),
        ((1,), Dense(np.ones((1, 2)), precision="bf16"), "'bf16' is not one of"),
        ((1,), Dense(np.ones((1, 2)), scale=np.ones(2)), "fp32 with a scale"),
        ((1,), Dense(np.ones((1, 2)), precision="fp16", scale=np.ones(2)), "fp16 with a scale"),
        ((1,), Dense(np.ones((1, 2)), precision="int8"), "int8 without a scale"),
        ((1,), Dense(np.full((1, 2), 0.1), precision="fp16"), "not binary16"),
        ((1,), Dense(np.full((1, 2), 65520.0), precision="fp16"), "not binary16"),
        ((1,), int8([[1, 2]], [1.0]), "scale has shape"),
        ((1,), int8([[1, 2]], [1.0, np.inf]), "scale has values that are not finite"),
        ((1,), int8([[1, 2]], [1.0, 0.0]), "greater than 0"),
        ((1,), int8([[1, 2]], [1.0, 0.1]), "scales of int8 weights are not float32"),
        ((1,), int8([[1, 2]], [1.0, 1e39]), "scales of int8 weights are not float32"),
        ((1,), int8([[1, 2.5]], [1.0, 1.0]), "not integers"),
        ((1,), int8([[1, 128]], [1.0, 1.0]), "not integers"),
        ((1,), int8([[-129, 1]], [1.0, 1.0]), "not integers"),
        ((1,), int8([[-128, 1]], [1.0, 1.0], "int8-dynamic"), "not integers -127 to 127"),
        ((1,), Dense(np.ones((1, 2)), precision="int8-dynamic"), "int8-dynamic without a scale"),
        ((4, 4, 1), Pool2D(Pool("min", (2, 2), (2, 2))), "mode 'min'"),
        ((4, 4, 1), Pool2D(Pool("max", (2, 2), (2, 2), (2, 0, 0, 0))), "not less than the window"),
        ((4,), Eltwise(Activation("swish")), "'swish' is not one of"),
        ((4,), Eltwise(Activation("leaky_relu", -1.0)), "alpha -1.0"),
        ((4,), Eltwise(Activation("relu", 0.5)), "expected none"),
        ((4,), Eltwise(affine=Affine(0, np.ones(3), np.ones(4))), "scale has shape"),
        ((4,), Eltwise(affine=Affine(0, np.ones(4), np.full(4, np.inf))), "shift has values"),
        ((4,), Eltwise(affine=Affine(1, np.ones(4), np.ones(4))), "axis 1"),
        ((4,), Softmax(0.0), "Softmax has temperature 0.0, expected a number > 0"),
        ((4,), Softmax(float("nan")), "Softmax has temperature nan"),
        ((4,), Softmax(1e-60), "that float32 has"),
        ((4, 4, 6), conv(rng, (1, 1), 3, 5, groups=2), "2 groups for 5 outputs"),
        ((4, 4, 5), conv(rng, (1, 1), 3, 6, groups=2), "take 6 channels, the input has 5"),
        ((4, 4, 2), conv(rng, (1, 1), 1, 2, groups=2, pool=max_pool(2)), "groups and a pooling"),
        ((4,), LayerNorm(0.0), "epsilon 0.0 is not > 0"),
        ((4,), LayerNorm(1e-5, np.ones(3)), "scale has shape"),
        ((4,), Binary("pow", np.ones(4)), "'pow' is not one of"),
        ((4,), Binary("add", np.ones(3)), "does not broadcast"),
        ((4,), Binary("add", np.ones((1, 4))), "does not broadcast"),
        ((4,), Binary("add", np.full(4, np.nan)), "not all finite"),
        ((4,), Binary("add", np.ones(4), Activation("relu", 1.0)), "expected none"),
        ((4,), Pad(((0, -1),)), "a crop"),
        ((4,), Pad(((0, 0), (0, 0))), "has 2 axes"),
        ((4, 2), Transpose((0, 0)), "permutation"),
        ((4, 2), Reshape((3, 3)), "number of elements"),
    ],
)
def test_rules_refuse(shape, op, message):
    with pytest.raises(UnsupportedError, match=f"n0: .*{message}"):
        verify(chain(shape, op))


def broken(**changes):
    graph = chain((4,), RELU, RELU)
    return replace(graph, **changes)


def test_verify_accepts():
    verify(broken())


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (broken(inputs=("other",)), "no shape"),
        (broken(inputs=()), "without inputs"),
        (broken(inputs=("v0", "v0")), "there twice"),
        (broken(outputs=()), "without inputs or outputs"),
        (broken(outputs=("v2", "other")), "'other' is never written"),
        (broken(outputs=("v1",)), "nothing reads \\['v2'\\]"),
        (broken(shapes={"v0": (4,), "v1": (4,), "v2": (5,)}), "n1: shape"),
        (broken(shapes={"v0": (4,), "v1": (4,), "v2": (4,), "v3": (4,)}), "unknown values"),
        (broken(nodes=(Node("a", RELU, ("v1",), "v2"),)), "reads 'v1' before"),
        (broken(nodes=(Node("a", RELU, ("v0",), "v0"),)), "a second time"),
        (broken(nodes=(Node("a", RELU, ("v0", "v0"), "v1"),)), "2 inputs, expected 1"),
        (broken(nodes=(Node("a", Concat(0), ("v0",), "v1"),)), "1 inputs, expected 2"),
        (broken(nodes=(Node("a", Binary("add"), ("v0", "v2"), "v1"),)), "reads 'v2' before"),
        (broken(nodes=(Node("a", "relu", ("v0",), "v1"),)), "str is not an operator"),
    ],
)
def test_verify_refuses(graph, message):
    with pytest.raises(GraphError, match=message):
        verify(graph)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (Graph(("v0",), ("v0",), (), {"v0": (4,)}), "no operators"),
        (broken(outputs=("v2", "v0")), "an output of the network is an input"),
        (chain((4, 4), RELU), "supported are \\(height, width, channels\\)"),
        (chain((4,), Pad(((1, 1),))), "padding of a vector"),
        (chain((4, 4, 1), Pad(((256, 0), (0, 0), (0, 0)))), "up to 255, got 256"),
        (chain((300, 1, 1), conv(rng, (256, 1), 1, 1)), "up to 255, got 256"),
        (chain((3, 1, 1), Pool2D(Pool("max", (1, 1), (2**24 + 1, 1)))), "up to 16777216"),
        (chain((4097, 4096, 1), RELU), "more than 16777216 elements"),
        (chain((1,), Dense(np.ones((1, 32)), precision="fp16")), "fp16 for 32 outputs"),
        (chain((1,), int8(np.ones((1, 32)), np.ones(32))), "int8 for 32 outputs"),
    ],
)
def test_verify_program_refuses(graph, message):
    with pytest.raises(UnsupportedError, match=message):
        verify_program(graph)


def test_joins_refuse():
    for op, shapes in ((Concat(1), ((4, 4, 2), (3, 4, 2))), (Concat(3), ((4, 4, 2),) * 2)):
        with pytest.raises(UnsupportedError, match="j: Concat"):
            infer("j", op, *shapes)
    for other in ((2, 4, 2), (1, 4, 4, 2), (4, 1)):
        with pytest.raises(UnsupportedError, match=r"j: Binary of shape .* does not broadcast"):
            infer("j", Binary("add"), (4, 4, 2), other) if other != (4, 1) else infer(
                "j", Binary("add"), (4, 5, 2), (4, 1)
            )
    assert infer("j", Binary("add"), (4, 5, 2), (5, 1)) == (4, 5, 2)
