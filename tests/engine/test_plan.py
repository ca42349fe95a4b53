"""What a plan says of itself, worked out a second time from the file and the rules of the docs."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest

import fastdigit
from fastdigit import _core
from fastdigit.compiler.activations import ACTIVATIONS
from fastdigit.compiler.backends.fdm.pack import POOL_MODES
from fastdigit.compiler.backends.fdm.unpack import Record, unpack
from fastdigit.compiler.ir import Activation, Graph, Pool
from fastdigit.compiler.passes.quantize_weights import quantize_weights
from tests.support import native, networks
from tests.support.networks import affine, chain, conv

USABLE = [name for name, usable in _core.isas() if usable]
PRECISIONS = {"fp32": "f32", "fp16": "f16", "int8": "i8", "int8-dynamic": "i8"}


def few_channels() -> dict[str, Graph]:
    """Convolutions whose neighbouring outputs share vectors, or just don't."""
    rng = np.random.default_rng(5)
    relu, halve = Activation("relu"), Pool("max", (2, 2), (2, 2))
    return {
        "two abreast": chain((12, 12, 1), [conv(rng, (5, 5), 1, 6, activation=relu, pool=halve)]),
        "strided": chain((15, 16, 3), [conv(rng, (3, 3), 3, 2, stride=(2, 2), pad=(1, 1, 1, 1))]),
        "rows": chain((9, 10, 2), [conv(rng, (3, 3), 2, 3, affine=affine(rng, 0, 7))]),
        "columns": chain((9, 10, 2), [conv(rng, (3, 3), 2, 3, affine=affine(rng, 1, 8))]),
        "without bias": chain((8, 8, 4), [replace(conv(rng, (1, 1), 4, 2), bias=None)]),
        "dilated": chain((9, 9, 2), [conv(rng, (3, 3), 2, 4, dilation=(1, 2))]),
    }


def reduced() -> dict[str, Graph]:
    seed = networks.seed_network()
    return {word: quantize_weights(seed, word) for word in ("fp16", "int8", "int8-dynamic")}


NETWORKS = {
    "seed": networks.seed_network(),
    **networks.small_networks(),
    **few_channels(),
    **reduced(),
}


def padded(columns: int) -> int:
    return -(-columns // 16) * 16


def convolved(record: Record) -> tuple[int, int]:
    """Rows and columns of a convolution, before pooling, that pooling reads."""
    if record.pool_mode == "none":
        return record.output_shape[0], record.output_shape[1]
    rows, cols = (
        (count - 1) * stride + size - before - behind
        for count, stride, size, before, behind in zip(
            record.output_shape[:2],
            record.pool_stride,
            record.pool,
            record.pool_pad[:2],
            record.pool_pad[2:],
            strict=True,
        )
    )
    return rows, cols


def abreast(record: Record, cols: int, vector: int) -> int:
    """So many outputs side by side as leave the narrowest kernel for each of them."""
    channels = record.weights[1]
    if record.dilation[1] > 1 or record.affine_axis in ("width", "channel"):
        return 1

    def cost(n: int) -> Fraction:
        return Fraction(record.kernel[1] + (n - 1) * record.stride[1], n)

    fit = [n for n in range(1, cols + 1) if n == 1 or (n * channels <= vector and cols % n == 0)]
    return min(fit, key=lambda n: (cost(n), n))


class Convolution(NamedTuple):
    """What the description of a convolution must be."""

    kernel: str
    algorithm: str
    executed: int
    weight_bytes: int


def expected(record: Record, size: int, vector: int) -> Convolution:
    depth, channels = record.weights
    in_channels = record.input_shape[2]
    rows, cols = convolved(record)
    definition = rows * cols * depth * channels
    matrix = 4 * depth * padded(channels)
    others = size - matrix - 4 * channels * record.bias
    if record.groups > 1:
        if record.groups == in_channels:
            return Convolution("depthwise", "depthwise", definition, size)
        own = 4 * record.groups * (depth + 1) * padded(channels // record.groups)
        return Convolution("conv2d", "grouped", definition, others + own)
    # The choice is held to a table by tests/csrc/test_algorithm.py.
    chosen, _ = native.algorithm_costs(
        (in_channels, rows, cols, channels),
        kernel=record.kernel,
        stride=record.stride,
        dilation=record.dilation,
        activation=list(ACTIVATIONS).index(record.activation),
        pool_mode=POOL_MODES.get(record.pool_mode, 0),
        pool=record.pool,
        pool_stride=record.pool_stride,
    )
    if chosen != "conv2d":
        m, r, positions, _ = native.winograd_sizes(chosen)
        patches = math.ceil(rows / m[0]) * math.ceil(cols / m[1])
        products = positions * in_channels
        transformed = 4 * products * padded(channels)
        return Convolution(
            chosen,
            f"F({m[0]}x{m[1]},{r[0]}x{r[1]})",
            patches * products * channels,
            size - matrix + transformed,
        )
    n = abreast(record, cols, vector)
    if n == 1:
        return Convolution("conv2d", "direct", definition, size)
    wide = record.kernel[0] * (record.kernel[1] + (n - 1) * record.stride[1]) * in_channels
    own = 4 * (wide + 1) * 16
    return Convolution("conv2d", f"abreast {n}", rows * cols * wide * channels, others + own)


@pytest.mark.parametrize("isa", USABLE)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_plan_describes_itself(name: str, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDIGIT_ISA", isa)
    data = networks.packed(NETWORKS[name])
    model, program = fastdigit.Model(data), unpack(data)
    vector = native.sizes(isa)["FD_VL"]
    plan = model.plan()
    told_by_file = (program.records, program.weight_bytes, program.multiply_adds)
    for op, record, size, work in zip(plan, *told_by_file, strict=True):
        assert op["op"] == record.opcode
        assert op["input_shape"] == (record.input_shape or record.output_shape)
        assert op["output_shape"] == record.output_shape
        has_matrix = len(record.weights) == 2
        assert op["precision"] == (PRECISIONS[record.precision] if has_matrix else "")
        assert op["arithmetic"] == ("bytes" if record.precision == "int8-dynamic" else "float")
        assert op["multiply_adds"] == work
        assert op["kernel"] in native.kernels()
        if record.opcode == "CONV2D":
            told = Convolution(*(op[field] for field in Convolution._fields))
            assert told == expected(record, size, vector)
        else:
            assert (op["algorithm"], op["executed"]) == ("", work)
            assert op["weight_bytes"] == size or record.groups > 1
    info = model.info()
    assert sum(op["multiply_adds"] for op in plan) == info["multiply_adds"]
    assert 0 <= max(op["scratch_bytes"] for op in plan) <= info["context_bytes"]


def test_every_way_to_convolve_is_described() -> None:
    algorithms = {
        op["algorithm"].split()[0]
        for graph in NETWORKS.values()
        for op in fastdigit.Model(networks.packed(graph)).plan()
        if op["algorithm"]
    }
    winograds = {"F(4x4,3x3)", "F(2x2,2x2)", "F(2x2,5x5)", "F(1x4,1x3)", "F(4x1,3x1)"}
    winograds |= {"F(1x4,1x5)", "F(4x1,5x1)", "F(1x2,1x7)", "F(2x1,7x1)", "F(2x2,3x3)"}
    assert algorithms == {"direct", "abreast", "grouped", "depthwise"} | winograds


def test_scratch_is_what_a_step_needs() -> None:
    plan = fastdigit.Model(networks.packed(networks.seed_network())).plan()
    by_label = {op["label"]: op["scratch_bytes"] for op in plan}
    # Nine patches, a vector too many, and 36 positions of them an odd number of cache lines apart.
    lines = [-(-(9 * channels + 15) // 16) | 1 for channels in (32, 48)]
    assert by_label["conv 3x3"] in (64 * 36 * sum(lines), 0)
    assert plan[2]["scratch_bytes"] == 64 * 36 * sum(lines)
    # The sums of a panel, of all rows of a chunk: more than a list of the nonzero inputs of one.
    assert plan[4]["scratch_bytes"] == 4 * 32 * 96 > 4 * (2 * 576 + 16)
    assert by_label["softmax"] == by_label["check input"] == 0
