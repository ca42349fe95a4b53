"""The bytes of a model file: as csrc/FORMAT.md says, and read back the same."""

import json
import re
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdigit import Model
from fastdigit._core import xxhash64
from fastdigit.compiler.backends.fdm.listing import listing
from fastdigit.compiler.backends.fdm.pack import pack, panels
from fastdigit.compiler.backends.fdm.unpack import unpack
from fastdigit.compiler.ir import Pool
from fastdigit.compiler.ops import Conv2D, Dense
from fastdigit.compiler.passes import optimize
from fastdigit.compiler.passes.quantize_weights import quantize_weights
from fastdigit.errors import ModelFormatError, UnsupportedError
from tests.support import reference
from tests.support.compiler_cases import (
    RELU,
    chain,
    conv,
    dense,
    everything,
    images,
    max_pool,
)
from tests.support.networks import operator_networks
from tests.support.random_graphs import networks

rng = np.random.default_rng(0)


def test_reads_back_what_was_packed():
    graph = everything()
    data = pack(graph, {"name": "é"}, input_range=(-1.0, 2.0), u8_divisor=255)
    program = unpack(data)
    assert program.meta == {"name": "é"}
    assert program.input_range == (-1.0, 2.0)
    assert program.u8_divisor == 255
    assert program.size == len(data)
    batch = images(graph)
    want = reference.run_graph(graph, batch)
    np.testing.assert_allclose(reference.run_graph(program.graph, batch), want, atol=1e-6)
    first = program.records[12]
    assert (first.kernel, first.stride, first.dilation, first.pad) == (
        (3, 2),
        (2, 1),
        (1, 2),
        (1, 2, 3, 0),
    )
    assert (first.pool_mode, first.pool, first.pool_stride, first.pool_pad) == (
        "max",
        (3, 3),
        (2, 2),
        (2, 1, 0, 1),
    )
    records = program.records
    assert [record.activation for record in records[11:]] == [
        "clipped_relu",
        "leaky_relu",
        "linear",
        "elu",
        "selu",
        "tanh",
        "sigmoid",
    ] + (["linear"] * 2)
    assert [record.affine_axis for record in records[11:]] == (
        ["width", "width", "none", "height", "channel", "none", "channel", "none", "none"]
    )
    assert (records[11].alpha, first.alpha) == (6.0, 0.25)
    assert not records[16].bias
    assert records[1].perm == (1, 2, 0, 0)
    assert (records[2].pad, records[2].pad_channels, records[2].alpha) == (
        (2, 15, 11, 0),
        (0, 1),
        -0.5,
    )
    assert records[3].alpha == np.float32(1e-3)
    assert (records[4].binary, records[11].binary) == ("prelu", "sub")
    assert (records[7].groups, records[9].concat_axis) == (2, "channel")
    assert records[9].input2_shape == (19, 17, 4)


@pytest.mark.parametrize("name", operator_networks())
def test_every_operator_reads_back(name):
    graph = operator_networks()[name]
    program = unpack(pack(graph, {}))
    batch = images(graph)
    want = reference.run_graph(graph, batch)
    np.testing.assert_allclose(reference.run_graph(program.graph, batch), want, rtol=1e-6)
    assert graph.shapes[graph.output] == program.records[-1].output_shape
    text = listing(program)
    assert all(record.opcode in text for record in program.records)


@settings(max_examples=100, deadline=None)
@given(networks())
def test_random_networks_survive(before):
    graph = optimize(before)
    program = unpack(pack(graph, {}))
    batch = images(graph)
    want = reference.run_graph(graph, batch)
    got = reference.run_graph(program.graph, batch)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * max(1.0, abs(want).max()))


def test_bytes_are_deterministic():
    graph = everything()
    first = pack(graph, {"b": 1, "a": [2]})
    assert first == pack(graph, {"a": [2], "b": 1})


def test_layout_of_the_file():
    """The offsets of the format's page, written out once more."""
    data = pack(chain((4, 4, 1), conv(rng, (3, 3), 1, 2), RELU, dense(rng, 8, 3)), {"k": "v"})
    assert data[:8] == b"\x89FDM\r\n\x1a\n"
    assert struct.unpack_from("<HHI", data, 8) == (1, 1, 64)
    assert struct.unpack_from("<QQI", data, 16) == (len(data), xxhash64(data[64:]), 4)
    assert data[36:64] == bytes(28)
    assert len(data) % 64 == 0

    sections = [struct.unpack_from("<IIQQQ", data, 64 + 32 * i) for i in range(4)]
    assert [entry[:2] for entry in sections] == [(1, 1), (2, 64), (3, 160), (4, 1)]
    position = 192
    for _, record_size, offset, size, reserved in sections:
        assert offset == position
        assert size % record_size == 0
        assert reserved == 0
        end = offset + size
        position = -(-end // 64) * 64
        assert data[end:position] == bytes(position - end)
    assert position == len(data)

    meta, tensors, program, weights = (data[e[2] : e[2] + e[3]] for e in sections)
    assert json.loads(meta) == {"k": "v"}
    assert len(program) == 4 * 160
    # INPUT: opcode, none, none, output 0, no weights; accepts anything but bytes.
    assert struct.unpack_from("<8I", program) == (1, *(0xFFFFFFFF,) * 2, 0, *(0xFFFFFFFF,) * 4)
    assert struct.unpack_from("<ffI", program, 124) == (-np.inf, np.inf, 0)
    assert program[32:124] == bytes(92)
    # CONV2D: from 0 to 1; kernel, stride, dilation, groups.
    opcode, source, second, target, matrix, bias, scale, shift = struct.unpack_from(
        "<8I", program, 160
    )
    assert (opcode, source, second, target) == (2, 0, 0xFFFFFFFF, 1)
    assert (scale, shift) == (0xFFFFFFFF, 0xFFFFFFFF)
    assert struct.unpack_from("<6I", program, 160 + 32) == (3, 3, 1, 1, 1, 1)
    assert struct.unpack_from("<I", program, 160 + 72) == (1,)
    assert struct.unpack_from("<I", program, 320 + 76) == (1,)  # ELTWISE: relu
    # The matrix: 9 rows of 2 columns, in panels, padded to 16 columns.
    record = struct.unpack_from("<4I4IQQ", tensors, 64 * matrix)
    assert record[:8] == (1, 0, 1, 2, 9, 2, 0, 0)
    assert record[9] == 4 * 9 * 16
    assert record[8] % 64 == 0
    values = np.frombuffer(weights, "<f4", 9 * 16, record[8]).reshape(9, 16)
    assert not values[:, 2:].any()
    record = struct.unpack_from("<4I4IQQ", tensors, 64 * bias)
    assert record[:8] == (1, 0, 0, 1, 2, 0, 0, 0)
    assert record[9] == 8
    assert record[8] % 64 == 0


@pytest.mark.parametrize("dtype", ["<f4", "<f2", "i1"])
@pytest.mark.parametrize("columns", [1, 15, 16, 17, 95, 96, 97, 112, 192, 193, 300])
def test_panels(columns, dtype):
    matrix = (100 * rng.normal(size=(3, columns))).clip(-127, 127).astype(dtype)
    data = np.frombuffer(panels(matrix), dtype)
    padded = -(-columns // 16) * 16
    assert data.size == 3 * padded
    for (row, column), value in np.ndenumerate(matrix):
        panel, inside = divmod(column, 96)
        width = min(96, padded - 96 * panel)
        assert data[3 * 96 * panel + row * width + inside] == value
    assert np.count_nonzero(data) == np.count_nonzero(matrix)


def test_rows_of_a_convolution_are_taps_then_channels():
    weights = np.arange(2 * 3 * 4 * 16, dtype=np.float32).reshape(2, 3, 4, 16)
    data = pack(chain((2, 3, 4), Conv2D(weights)), {})
    values = np.frombuffer(data[-4 * weights.size :], "<f4").reshape(-1, 16)
    for ky in range(2):
        for kx in range(3):
            for channel in range(4):
                row = (ky * 3 + kx) * 4 + channel
                np.testing.assert_array_equal(values[row], weights[ky, kx, channel])


def weight_records(data):
    """(op record in words, tensor record of its weights, of its scale or None, WEIGHTS) of the op
    after INPUT."""
    offsets = [struct.unpack_from("<Q", data, 64 + 32 * i + 8)[0] for i in range(4)]
    op = struct.unpack_from("<35I", data, offsets[2] + 160)
    records = [
        None if index == 0xFFFFFFFF else struct.unpack_from("<8IQQ", data, offsets[1] + 64 * index)
        for index in (op[4], op[6])
    ]
    return (op, *records, data[offsets[3] :])


@pytest.mark.parametrize("outputs", [33, 96, 97, 112, 208])
def test_layout_of_reduced_weights(outputs):
    graph = chain((3,), Dense(rng.normal(size=(3, outputs))))
    padded = -(-outputs // 16) * 16

    op, record, scale, weights = weight_records(pack(quantize_weights(graph, "fp16"), {}))
    assert scale is None
    assert (record[1], record[2], record[4:6]) == (1, 1, (3, outputs))
    assert record[9] == 3 * padded * 2
    stored = np.frombuffer(weights, "<f2", 3 * padded, record[8])
    assert stored[: min(96, padded)][0] == np.float16(graph.nodes[0].op.weights[0, 0])

    op, record, scale, weights = weight_records(pack(quantize_weights(graph, "int8"), {}))
    assert op[7] == 0xFFFFFFFF
    assert op[-1] == 0
    dynamic = weight_records(pack(quantize_weights(graph, "int8-dynamic"), {}))
    assert dynamic == ((*op[:-1], 1), record, scale, weights)
    assert (record[1], record[2], record[4:6]) == (2, 1, (3, outputs))
    assert record[9] == 3 * padded
    assert (scale[0], scale[1], scale[2], scale[3], scale[4]) == (1, 0, 0, 1, outputs)
    assert record[8] % 64 == scale[8] % 64 == 0
    stored = np.frombuffer(weights, "i1", 3 * padded, record[8])
    scales = np.frombuffer(weights, "<f4", outputs, scale[8]).astype(np.float64)
    for (row, column), value in np.ndenumerate(graph.nodes[0].op.weights):
        panel, inside = divmod(column, 96)
        at = 3 * 96 * panel + row * min(96, padded - 96 * panel) + inside
        # Half a step, and what rounding the scale to float32 adds to it.
        assert abs(stored[at] * scales[column] - value) <= (0.5 + 1e-4) * scales[column]
    assert np.count_nonzero(stored) <= 3 * outputs
    assert abs(stored.astype(int)).max() == 127


@settings(max_examples=60, deadline=None)
@given(
    inputs=st.integers(1, 40),
    outputs=st.integers(1, 300),
    precision=st.sampled_from(["fp16", "int8", "int8-dynamic"]),
    bias=st.booleans(),
    magnitude=st.floats(-40, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_reduced_weights_read_back_exactly(inputs, outputs, precision, bias, magnitude, seed):
    generator = np.random.default_rng(seed)
    weights = generator.normal(size=(inputs, outputs)) * 10**magnitude
    weights[generator.random(weights.shape) < 0.2] = 0
    values = generator.normal(size=outputs).astype(np.float32) if bias else None
    graph = quantize_weights(chain((inputs,), Dense(weights.astype(np.float32), values)), precision)
    data = pack(graph, {})
    program = unpack(data)
    want, got = graph.nodes[0].op, program.graph.nodes[0].op
    assert program.records[1].precision == got.precision == want.precision
    assert (want.precision == precision) == (outputs > 32)
    np.testing.assert_array_equal(got.weights, want.weights)
    if want.scale is None:
        assert got.scale is None
    else:
        np.testing.assert_array_equal(got.scale, want.scale)
    batch = images(graph)
    np.testing.assert_array_equal(
        reference.run_graph(program.graph, batch), reference.run_graph(graph, batch)
    )
    assert pack(program.graph, {}) == data


def test_refuses_what_does_not_fit():
    with pytest.raises(UnsupportedError, match="n0: weights exceed the range of float32"):
        pack(chain((1,), Dense(np.array([[1e39]]))), {})
    with pytest.raises(UnsupportedError, match="metadata of"):
        pack(chain((4,), RELU), {"x": "y" * (1 << 20)})
    with pytest.raises(UnsupportedError, match="at most 4095"):
        pack(chain((1,), *(RELU,) * 4096), {})


def damaged(data, offset, layout, *values):
    """Change a field and make the checksum right again."""
    changed = bytearray(data)
    struct.pack_into(layout, changed, offset, *values)
    if offset >= 64:
        struct.pack_into("<Q", changed, 24, xxhash64(changed[64:]))
    return bytes(changed)


def test_damage_is_found():
    data = pack(chain((4, 4, 1), conv(rng, (3, 3), 1, 2), dense(rng, 8, 3)), {})
    unpack(data)
    program = struct.unpack_from("<Q", data, 64 + 2 * 32 + 8)[0]
    tensors = struct.unpack_from("<Q", data, 64 + 32 + 8)[0]
    meta = struct.unpack_from("<Q", data, 64 + 8)[0]
    cases = [
        (b"", "too short"),
        (data[:-64], "truncated"),
        (b"X" + data[1:], "not a model file"),
        (damaged(data, 8, "<H", 2), "version 2.1"),
        (damaged(data, 10, "<H", 99), "version 1.99"),
        (damaged(data, 24, "<Q", 0), "checksum"),
        (damaged(data, 32, "<I", 3), "sections"),
        (damaged(data, 64, "<I", 2), "sections"),
        (damaged(data, meta, "<2s", b"[]"), "expected a JSON object"),
        (damaged(data, 64 + 16, "<Q", 1 << 40), "a section ends at"),
        (damaged(data, 64 + 16, "<Q", 1 << 63), "a section ends at"),
        (damaged(data, program + 160, "<I", 99), "contradicts itself"),
        (damaged(data, program + 160, "<I", 1), "opcode 1"),
        (damaged(data, program + 160 + 4, "<I", 77), "contradicts itself"),
        (damaged(data, program + 160 + 16, "<I", 0xFFFFFFFF), "no weights"),
        (damaged(data, program + 160 + 40, "<I", 0), "contradicts itself"),
        (damaged(data, tensors + 16, "<I", 5), "has another shape|contradicts"),
    ]
    for changed, message in cases:
        with pytest.raises(ModelFormatError, match=message):
            unpack(changed)


def test_damaged_dtypes_are_found():
    graph = chain((4, 4, 1), conv(rng, (3, 3), 1, 2), dense(rng, 8, 40))
    data = pack(quantize_weights(graph, "int8"), {})
    tensors, program = (struct.unpack_from("<Q", data, 64 + 32 * i + 8)[0] for i in (1, 2))

    def dtype(op, field):
        index = struct.unpack_from("<I", data, program + 160 * op + field)[0]
        return tensors + 64 * index + 4

    scale = program + 160 * 2 + 24
    for offset, value, message in [
        (dtype(1, 16), 1, "dtype 1, where only 0 can be"),
        (dtype(1, 20), 2, "dtype 2, where only 0 can be"),
        (dtype(2, 24), 1, "dtype 1, where only 0 can be"),
        (dtype(2, 16), 3, "contradicts itself"),
        (dtype(2, 16), 1, "contradicts itself"),
        (scale, 0xFFFFFFFF, "no weights|contradicts itself"),
        (program + 160 * 2 + 136, 2, "contradicts itself"),
    ]:
        with pytest.raises(ModelFormatError, match=message):
            unpack(damaged(data, offset, "<I", value))


def test_listing_tells_the_precision():
    graph = chain((4, 4, 1), conv(rng, (3, 3), 1, 2), dense(rng, 8, 40), dense(rng, 40, 3))
    for precision, said, size in [
        ("fp16", "fp16 weights", 2 * 8 * 48 + 160),
        ("int8", "int8 weights", 8 * 48 + 160 + 160),
        ("int8-dynamic", "int8 weights and inputs", 8 * 48 + 160 + 160),
    ]:
        lines = listing(unpack(pack(quantize_weights(graph, precision), {}))).splitlines()
        assert f"of 8, {said}, bias" in lines[3]
        assert lines[3].split()[-2] == f"{size:,}"
        assert "weights" not in lines[2] + lines[4]


def test_listing():
    text = listing(unpack(pack(everything(), {}, input_range=(0, 1), u8_divisor=255)))
    lines = text.splitlines()
    assert [line.split()[0] for line in lines] == (
        [
            "op",
            "INPUT",
            *("TRANSPOSE", "PAD", "LAYERNORM", "BINARY", "RESHAPE", "TRANSPOSE", "CONV2D"),
            *("SOFTMAX", "CONCAT", "CONV2D", "BINARY"),
            "CONV2D",
            "POOL2D",
            "ELTWISE",
            "CONV2D",
            "DENSE",
            "ELTWISE",
            "DENSE",
            "SOFTMAX",
            "total",
        ]
    )
    assert "0 to 1, bytes / 255" in lines[1]
    assert "3x2 of 3 channels, stride 2x1, dilation 1x2, pad 1x2x3x0, bias, leaky_relu 0.25" in text
    assert "affine by width, max pool 3x3 stride 2x2 pad 2x1x0x1" in text
    assert len({len(line) for line in lines}) == 1


def test_multiply_adds_leave_out_what_no_pooling_reads():
    graph = chain((8, 8, 2), conv(rng, (2, 2), 2, 3, pool=max_pool(2)))  # 7x7, of which 6x6 is read
    assert unpack(pack(graph, {})).multiply_adds[1] == 6 * 6 * 2 * 2 * 2 * 3
    total = listing(unpack(pack(graph, {}))).splitlines()[-1]
    assert re.search(r"\b864$", total)


def test_multiply_adds_count_what_is_read_where_padding_is_not():
    """7 rows and one of padding: three windows of 3, two further each, read the 7 alone."""
    pool = Pool("max", (3, 3), (2, 2), (0, 0, 1, 1))
    data = pack(chain((8, 8, 2), conv(rng, (2, 2), 2, 3, pool=pool)), {})
    assert unpack(data).multiply_adds[1] == 7 * 7 * 2 * 2 * 2 * 3
    assert Model(data).info()["multiply_adds"] == 7 * 7 * 2 * 2 * 2 * 3
