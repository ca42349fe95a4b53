"""Random networks with branches, from ONNX to the engine, held against ONNX Runtime and float64."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdigit import Model
from fastdigit.compiler.backends.fdm.pack import pack
from fastdigit.compiler.frontends import import_model
from fastdigit.compiler.passes import optimize
from tests.support import need, reference
from tests.support.compiler_cases import OnnxNet, run_onnx

need("onnx", "onnxruntime")

UNARY = ("Relu", "Tanh", "Sigmoid", "HardSwish", "Softplus", "Elu", "Erf", "Gelu", "HardSigmoid")


@st.composite
def graphs(draw: st.DrawFn) -> OnnxNet:
    """Values of several sizes, each made from one or two of those before; then a head."""
    size, channels = draw(st.integers(1, 3) | st.integers(4, 7)), draw(st.integers(1, 4))
    net = OnnxNet(("N", channels, size, size), 20, draw(st.integers(0, 2**32 - 1)))
    rng = net.rng
    values: list[tuple[str, int, int, int]] = [("input", channels, size, size)]

    def keep(c: int, h: int, w: int) -> None:
        values.append((net.last, c, h, w))

    for kind in draw(st.lists(st.sampled_from("ccgdppuuaajjsnxbk"), min_size=2, max_size=12)):
        # Recent values are likelier, but any may be read again.
        name, c, h, w = values[-draw(st.integers(1, min(3, len(values))))]
        net.last = name
        if kind == "c":
            k, s, outs = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 20))
            pads = [draw(st.integers(0, 1)) for _ in range(4)]
            sizes = [(n + pads[i] + pads[i + 2] - k) // s + 1 for i, n in enumerate((h, w))]
            if min(n + pads[i] + pads[i + 2] for i, n in enumerate((h, w))) < k:
                continue
            net.conv(c, outs, (k, k), strides=[s, s], pads=pads)
            keep(outs, *sizes)
        elif kind == "g":
            net.conv(1, c * draw(st.integers(1, 2)), (3, 3), group=c, pads=[1, 1, 1, 1])
            keep(net.weights[-1].dims[0], h, w)
        elif kind == "d":
            net.batchnorm(c)
            keep(c, h, w)
        elif kind == "p":
            pool = {"kernel_shape": [2, 2], "strides": [draw(st.integers(1, 2))] * 2}
            net.add(draw(st.sampled_from(["MaxPool", "AveragePool"])), **pool, pads=[1, 0, 0, 1])
            keep(c, *((n + 1 - 2) // pool["strides"][0] + 1 for n in (h, w)))
        elif kind == "u":
            net.add(draw(st.sampled_from(UNARY)))
            keep(c, h, w)
        elif kind == "a":
            others = [v for v in values if v[1:] == (c, h, w)]
            other = draw(st.sampled_from(others))
            net.add(draw(st.sampled_from(["Add", "Sub", "Mul", "Max"])), name, other[0])
            keep(c, h, w)
        elif kind == "j":
            others = [v for v in values if v[2:] == (h, w)]
            other = draw(st.sampled_from(others))
            net.add("Concat", name, other[0], axis=1)
            keep(c + other[1], h, w)
        elif kind == "s":
            net.add("GlobalAveragePool").conv(c, c, (1, 1)).add("Sigmoid")
            net.add("Mul", name, net.last)
            keep(c, h, w)
        elif kind == "n":
            net.add("LayerNormalization", None, rng.normal(size=w), axis=-1, epsilon=1e-2)
            keep(c, h, w)
        elif kind == "x":
            net.add("Softmax", axis=draw(st.integers(1, 3)))
            keep(c, h, w)
        elif kind == "b":
            net.add("PRelu", None, rng.normal(size=(c, 1, 1)))
            keep(c, h, w)
        else:
            net.add("Pad", None, np.array([0, 0, 1, 0, 0, 1, 0, 1]), np.float32(0.25))
            keep(c + 1, h + 1, w + 1)
    name, c, h, w = values[-1]
    if name == "input":
        net.add("Tanh")
    else:
        net.last = name
    match draw(st.sampled_from(["image", "flatten", "pooled", "scores"])):
        case "flatten":
            net.add("Flatten").gemm(c * h * w, 5)
        case "pooled":
            net.add("GlobalMaxPool").add("Flatten").add("Softmax")
        case "scores":
            net.add("Flatten").gemm(c * h * w, 40).add("Relu").gemm(40, 3).add("Softmax")
    return net


@st.composite
def sequences(draw: st.DrawFn) -> OnnxNet:
    """As graphs, of values (channels, steps) or (steps, channels), whichever an operator wants."""
    a, b = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    net = OnnxNet(("N", a, b), 20, draw(st.integers(0, 2**32 - 1)))
    rng = net.rng
    values: list[tuple[str, int, int]] = [("input", a, b)]

    for kind in draw(st.lists(st.sampled_from("ccgppmmtuaajsnxbdvr"), min_size=1, max_size=10)):
        name, a, b = values[-draw(st.integers(1, min(3, len(values))))]
        net.last = name
        if kind == "c":
            k, s, outs = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 20))
            pads = [draw(st.integers(0, 1)) for _ in range(2)]
            if b + sum(pads) < k:
                continue
            weights = rng.normal(size=(outs, a, k)) / np.sqrt(a * k)
            net.add("Conv", None, weights, rng.normal(size=outs), strides=[s], pads=pads)
            a, b = outs, (b + sum(pads) - k) // s + 1
        elif kind == "g":
            net.add("Conv", None, rng.normal(size=(2 * a, 1, 3)), group=a, pads=[1, 1])
            a *= 2
        elif kind == "p":
            pool = {"kernel_shape": [2], "strides": [draw(st.integers(1, 2))], "pads": [1, 0]}
            net.add(draw(st.sampled_from(["MaxPool", "AveragePool"])), **pool)
            b = (b + 1 - 2) // pool["strides"][0] + 1
        elif kind == "m":
            outs = draw(st.integers(1, 20))
            net.add("MatMul", None, rng.normal(size=(b, outs)) / np.sqrt(b))
            b = outs
        elif kind == "t":
            net.add("Transpose", perm=[0, 2, 1])
            a, b = b, a
        elif kind == "u":
            net.add(draw(st.sampled_from(UNARY)))
        elif kind == "a":
            other = draw(st.sampled_from([v for v in values if v[1:] == (a, b)]))
            net.add(draw(st.sampled_from(["Add", "Sub", "Mul", "Max"])), name, other[0])
        elif kind == "j":
            other = draw(st.sampled_from([v for v in values if v[2] == b]))
            net.add("Concat", name, other[0], axis=1)
            a += other[1]
        elif kind == "s":
            net.add("GlobalAveragePool").add("Sigmoid").add("Mul", name, None)
        elif kind == "n":
            net.add("LayerNormalization", None, rng.normal(size=b), axis=-1, epsilon=1e-2)
        elif kind == "x":
            net.add("Softmax", axis=draw(st.integers(1, 2)))
        elif kind == "b":
            net.add("PRelu", None, rng.normal(size=(a, 1)))
        elif kind == "d":
            net.batchnorm(a)
        elif kind == "v":
            net.add("Unsqueeze", None, np.array([draw(st.integers(1, 3))])).add("Relu")
            net.add("Reshape", None, np.array([0, a, b]))
        else:
            net.add("Reshape", None, np.array([0, b, a]))
            a, b = b, a
        values.append((net.last, a, b))
    net.add("Tanh")
    if draw(st.booleans()):
        net.add("Flatten").gemm(a * b, 3).add("Softmax")
    return net


@settings(max_examples=200, deadline=None)
@given(net=graphs() | sequences(), threads=st.integers(1, 3))
def test_random_graphs(net: OnnxNet, threads: int) -> None:
    model = net.model()
    batch = np.random.default_rng(0).normal(size=(5, *net.shape[1:])).astype(np.float32)
    imported = import_model(model)
    graph = optimize(imported.graph)
    images = batch
    if imported.inputs[0].layout == "NCHW":
        images = np.ascontiguousarray(batch.transpose(0, 2, 3, 1))
    images = images.reshape(5, *graph.shapes[graph.input])
    want = run_onnx(model, batch)
    scale = max(1.0, float(np.abs(want).max()))
    exact = reference.run_graph(graph, images)
    np.testing.assert_allclose(exact.reshape(want.shape), want, rtol=0, atol=2e-5 * scale)
    compiled = Model(pack(graph, {}), threads=threads)
    got = compiled.run(images)
    np.testing.assert_allclose(got, exact, rtol=0, atol=2e-5 * scale)
    alone = [compiled.run(images[i : i + 1]) for i in range(5)]
    assert np.concatenate(alone).tobytes() == got.tobytes()
