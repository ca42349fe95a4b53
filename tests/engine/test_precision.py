"""Dense weights of binary16 and of scaled bytes, from the pass through the file to the engine."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdigit import Model, _core
from fastdigit.compiler import unpack
from fastdigit.compiler.ir import Activation, Graph, Node
from fastdigit.compiler.ops import Dense, Softmax, with_nodes
from fastdigit.compiler.passes.quantize_weights import quantize_weights
from fastdigit.errors import ModelFormatError, UnsupportedError
from tests.support import native, reference
from tests.support.networks import RELU, chain, conv, dense, packed, seed_network, small_networks

USABLE = [name for name, usable in _core.isas() if usable]
PRECISIONS = ["fp16", "int8", "int8-dynamic"]


def has_wide_dense(graph: Graph) -> bool:
    return any(isinstance(n.op, Dense) and n.op.weights.shape[1] > 32 for n in graph.nodes)


NETWORKS = {
    **{name: graph for name, graph in small_networks().items() if has_wide_dense(graph)},
    "seed": seed_network(),
}


@pytest.fixture(params=USABLE)
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every ISA of this CPU in turn."""
    monkeypatch.setenv("FASTDIGIT_ISA", request.param)
    return request.param


def images(shape: tuple[int, ...], n: int) -> np.ndarray:
    """Half of the pixels zero; the first image blank, the last one full."""
    rng = np.random.default_rng(0)
    x = rng.random((n, *shape), np.float32)
    x[rng.random(x.shape) < 0.5] = 0.0
    x[:1] = 0.0
    x[1:][-1:] = 1.0
    return x


def outputs(model: Model, x: np.ndarray) -> np.ndarray:
    return model.predict_proba(x) if model.info()["has_softmax"] else model.logits(x)


def is_dynamic(node: Node) -> bool:
    return isinstance(node.op, Dense) and node.op.precision == "int8-dynamic"


def rounds_twice(graph: Graph) -> bool:
    """Whether a dynamically quantised layer reads what another layer computed.

    That layer's last bit decides what becomes of an input half-way between two bytes, and the
    reference has another last bit: test_dynamic_layers_are_exact looks at those alone.
    """
    return any(is_dynamic(node) and node.inputs[0] != graph.input for node in graph.nodes)


def check(graph: Graph, x: np.ndarray, threads: int = 1) -> None:
    """The engine computes what the reference does with the rounded weights, row by row the same."""
    data = packed(graph)
    model = Model(data, threads=threads)
    for node, stored in zip(graph.nodes, unpack(data).graph.nodes, strict=True):
        if isinstance(node.op, Dense):
            np.testing.assert_array_equal(stored.op.weights, node.op.weights)
    together = outputs(model, x)
    want = reference.run_graph(graph, x)
    scale = max(1.0, float(np.abs(want).max()))
    atol = 1e-2 if rounds_twice(graph) else 1e-5
    np.testing.assert_allclose(together, want, rtol=0, atol=atol * scale)
    np.testing.assert_array_equal(model.predict(x), together.argmax(1))
    for batch in (1, 2, 3, 5, 33):
        for start in range(0, len(x), batch):
            rows = slice(start, start + batch)
            assert outputs(model, x[rows]).tobytes() == together[rows].tobytes(), (batch, start)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_networks(isa: str, name: str, precision: str, threads: int) -> None:
    graph = quantize_weights(NETWORKS[name], precision)
    assert graph is not NETWORKS[name]
    x = images(graph.shapes[graph.input], 40)
    check(graph, x, threads)
    assert isinstance(graph.nodes[-1].op, Softmax)
    # Logits show what probabilities hide.
    check(first_nodes(graph, len(graph.nodes) - 1), x, threads)


def first_nodes(graph: Graph, count: int) -> Graph:
    output = graph.nodes[count - 1].output if count else graph.input
    return with_nodes(graph, graph.nodes[:count], outputs=[output])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_dynamic_layers_are_exact(isa: str, name: str, threads: int) -> None:
    """From what the engine's own layers before it return, such a layer has the reference's bits."""
    graph = quantize_weights(NETWORKS[name], "int8-dynamic")
    x = images(graph.shapes[graph.input], 37)
    found = 0
    for index, node in enumerate(graph.nodes):
        if not is_dynamic(node):
            continue
        found += 1
        before = x
        if index:
            before = Model(packed(first_nodes(graph, index)), threads=threads).logits(x)
        got = Model(packed(first_nodes(graph, index + 1)), threads=threads).logits(x)
        want = reference.run_op(node.op, before)
        if node.op.activation.name in ("linear", "relu"):
            np.testing.assert_array_equal(got, want.astype(np.float32))
        else:
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
    assert found


def test_every_isa_has_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    graph = quantize_weights(chain((77,), [dense(rng, 77, 145, activation=RELU)]), "int8-dynamic")
    x = images((77,), 21)
    results = set()
    for name in USABLE:
        monkeypatch.setenv("FASTDIGIT_ISA", name)
        results.add(Model(packed(graph)).logits(x).tobytes())
    assert len(results) == 1


@settings(max_examples=80, deadline=None)
@given(
    inputs=st.integers(1, 70),
    width=st.sampled_from([33, 47, 48, 49, 95, 96, 97, 111, 112, 113, 191, 193, 240, 289]),
    outputs=st.integers(2, 130),
    precision=st.sampled_from(PRECISIONS),
    activation=st.sampled_from([RELU, Activation(), Activation("tanh"), Activation("elu", 0.7)]),
    bias=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_random_dense_layers(
    inputs: int,
    width: int,
    outputs: int,
    precision: str,
    activation: Activation,
    bias: bool,
    seed: int,
) -> None:
    """On the best ISA: any width of the last panel, then a layer that reads zeros of a relu."""
    rng = np.random.default_rng(seed)
    first = dense(rng, inputs, width, activation=activation)
    if not bias:
        first = Dense(first.weights, None, activation)
    graph = quantize_weights(chain((inputs,), [first, dense(rng, width, outputs)]), precision)
    check(graph, images((inputs,), 34))


def test_every_binary16_is_read_as_it_is(isa: str) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    weights = bits.view(np.float16)[(bits & 0x7C00) != 0x7C00].astype(np.float64)
    graph = chain((1,), [Dense(weights.reshape(1, -1), precision="fp16")])
    got = Model(packed(graph)).logits(np.ones((5, 1), np.float32))
    np.testing.assert_array_equal(got, np.tile(weights, (5, 1)))


def test_every_byte_is_read_as_it_is(isa: str) -> None:
    integers = np.arange(-128.0, 128.0)
    scale = np.float32(2) ** np.linspace(-100, 100, 256).round().astype(np.float32)
    weights = np.stack([integers, integers[::-1]]) * scale.astype(np.float64)
    graph = chain((2,), [Dense(weights, precision="int8", scale=scale)])
    model = Model(packed(graph))
    x = np.array([[1, 0], [0, 1], [1, 0], [0, 0], [1, 0]], np.float32)
    np.testing.assert_array_equal(model.logits(x), x.astype(np.float64) @ weights)


# ---- Files that are not what they should be ------------------------------------------------------

NONE = 0xFFFFFFFF
TENSORS, PROGRAM, WEIGHTS = 2, 3, 4  # sections
# An op and the weights of the file that changed() makes.
WIDE = 2
CONV_WEIGHTS, CONV_BIAS, WIDE_WEIGHTS, WIDE_BIAS, WIDE_SCALE = 4, 5, 6, 7, 8
NARROW_WEIGHTS = 8  # in a file without scale


def changed(precision: str, *changes: tuple[int, int, str, float]) -> bytes:
    """A good file but for some fields, each (section, offset, format, value), with its checksum
    right."""
    rng = np.random.default_rng(0)
    ops = [conv(rng, (1, 1), 4, 16), dense(rng, 32, 40), dense(rng, 40, 4)]
    data = bytearray(packed(quantize_weights(chain((2, 1, 4), ops), precision)))
    for section, offset, layout, value in changes:
        start = struct.unpack_from("<Q", data, 64 + 32 * (section - 1) + 8)[0]
        struct.pack_into("<" + layout, data, start + offset, value)
    struct.pack_into("<Q", data, 24, native.xxhash64(bytes(data[64:])))
    return bytes(data)


def tensor(index: int, field: int, value: int, layout: str = "I") -> tuple[int, int, str, int]:
    return TENSORS, 64 * index + field, layout, value


def op(index: int, field: int, value: int) -> tuple[int, int, str, int]:
    return PROGRAM, 160 * index + field, "I", value


def weight(precision: str, index: int) -> int:
    """Offset of a tensor's values in WEIGHTS."""
    data = changed(precision)
    start = struct.unpack_from("<Q", data, 64 + 32 * (TENSORS - 1) + 8)[0]
    return struct.unpack_from("<Q", data, start + 64 * index + 32)[0]


MALFORMED = [
    ("int8", [tensor(WIDE_WEIGHTS, 4, 3)], "unknown dtype 3"),
    ("int8", [tensor(WIDE_WEIGHTS, 4, 1)], "its dimensions make"),
    ("int8", [tensor(WIDE_WEIGHTS, 4, 0)], "its dimensions make"),
    ("fp16", [tensor(WIDE_WEIGHTS, 4, 2)], "its dimensions make"),
    ("fp16", [tensor(WIDE_WEIGHTS, 40, 32 * 48, "Q")], "its dimensions make"),
    ("int8", [tensor(WIDE_BIAS, 4, 2)], "not laid out in panels"),
    ("int8", [tensor(WIDE_SCALE, 4, 1)], "not laid out in panels"),
    ("int8", [op(WIDE, 24, NONE)], "scale of op 2"),
    ("int8", [op(WIDE, 24, CONV_BIAS)], "scale of op 2"),
    ("int8", [op(WIDE, 24, WIDE_WEIGHTS)], "scale of op 2"),
    ("int8", [op(WIDE, 24, 1 << 31)], "scale of op 2"),
    ("int8", [op(WIDE, 28, WIDE_SCALE)], "does not use"),
    ("int8", [op(WIDE, 84, 3)], "does not use"),
    ("fp16", [op(WIDE, 24, WIDE_BIAS)], "a scale, but not i8 weights"),
    ("fp32", [op(WIDE, 24, WIDE_BIAS)], "a scale, but not i8 weights"),
    (
        "fp32",
        [tensor(CONV_WEIGHTS, 4, 2), tensor(CONV_WEIGHTS, 40, 4 * 16, "Q")],
        "CONV2D whose weights are not f32",
    ),
    (
        "fp32",
        [tensor(NARROW_WEIGHTS, 4, 2), tensor(NARROW_WEIGHTS, 40, 40 * 16, "Q")],
        "op 3 has 4 outputs and weights that are not f32",
    ),
    ("fp16", [(WEIGHTS, weight("fp16", WIDE_WEIGHTS) + 2, "e", math.nan)], "NaN or an infinity"),
    ("fp16", [(WEIGHTS, weight("fp16", WIDE_WEIGHTS), "e", -math.inf)], "NaN or an infinity"),
    ("int8", [(WEIGHTS, weight("int8", WIDE_SCALE), "f", math.inf)], "NaN or an infinity"),
    ("int8-dynamic", [op(WIDE, 136, 2)], "unknown quantization 2"),
    ("int8-dynamic", [op(1, 136, 1)], "does not use"),  # a CONV2D
    ("int8-dynamic", [op(WIDE, 140, 1)], "has a field that its opcode does not use"),
    ("fp16", [op(WIDE, 136, 1)], "a quantization, but not i8 weights"),
    ("fp32", [op(WIDE, 136, 1)], "a quantization, but not i8 weights"),
    (
        "int8-dynamic",
        [(WEIGHTS, weight("int8-dynamic", WIDE_WEIGHTS) + 32 * 48 - 9, "b", -128)],
        "quantises its inputs and has a weight of -128",
    ),
]


@pytest.mark.parametrize(("precision", "changes", "message"), MALFORMED)
def test_malformed_file_is_refused(
    precision: str, changes: list[tuple[int, int, str, float]], message: str
) -> None:
    Model(changed(precision))
    with pytest.raises(ModelFormatError, match=message):
        Model(changed(precision, *changes))


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(PRECISIONS),
    st.lists(
        st.tuples(
            st.sampled_from([TENSORS, PROGRAM]),
            st.integers(0, 155).map(lambda word: 4 * word),
            st.just("I"),
            st.sampled_from([0, 1, 2, 3, 32, 33, 40, 64, 2**24, NONE]) | st.integers(0, NONE),
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_random_damage_never_crashes(
    precision: str, changes: list[tuple[int, int, str, float]]
) -> None:
    """Whatever passes the loader runs; whatever does not is refused with an error of ours."""
    try:
        model = Model(changed(precision, *changes))
    except (ModelFormatError, UnsupportedError):
        return
    low = model.info()["range"][0]  # which the damage may have changed, and legitimately
    model.logits(np.full((2, *model.input_shape), low, np.float32))


@pytest.mark.parametrize("inputs", [65536, 65537])
def test_sums_of_too_many_inputs_are_refused(inputs: int) -> None:
    weights = np.full((inputs, 33), 127.0)
    graph = chain((inputs,), [Dense(weights, precision="int8", scale=np.ones(33))])
    data = bytearray(packed(graph))
    start = struct.unpack_from("<Q", data, 64 + 32 * (PROGRAM - 1) + 8)[0]
    struct.pack_into("<I", data, start + 160 + 136, 1)
    struct.pack_into("<Q", data, 24, native.xxhash64(bytes(data[64:])))
    if inputs > 65536:
        with pytest.raises(ModelFormatError, match="quantises 65537 inputs, at most 65536"):
            Model(bytes(data))
        return
    x = np.ones((1, inputs), np.float32)
    want = reference.dense_dynamic(x, weights, np.ones(33))
    np.testing.assert_array_equal(Model(bytes(data)).logits(x), want)
