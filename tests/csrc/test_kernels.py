"""Every kernel of every ISA against the float64 reference, between canaries.

Every ISA is tested on every machine: one that this CPU lacks by its own loops and tile sizes, in
the generic vocabulary (tests/support/native). ``generic`` shares its source with the others and is
no oracle: the oracle is tests/support/reference.py.
"""

from __future__ import annotations

import itertools
import math
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.support import native, reference
from tests.support.cases import (
    ACTIVATIONS,
    AXES,
    BINARIES,
    CHANNELS,
    CONVS,
    DENSES,
    LENGTHS,
    NARROW,
    PANEL,
    POOLS,
    SEED_CONVS,
    Conv,
    Dense,
    Guarded,
)

WITH_ALPHA = {"leaky_relu": 0.3, "elu": 0.3, "clipped_relu": 6.0, "hard_sigmoid": 0.2}

EPSILON = float(np.finfo(np.float32).eps)


def matrix(isas: tuple[str, ...]) -> pytest.MarkDecorator:
    """A test for each of the ISAs; its name tells which of them this CPU can't run as they are."""
    names = [isa if isa in native.USABLE else f"{isa}-by-generic" for isa in isas]
    return pytest.mark.parametrize("isa", isas, ids=names)


float_matrix = matrix(native.FLOAT_ISAS)
byte_matrix = matrix(native.BYTE_ISAS)


def rng_of(case: Any) -> np.random.Generator:
    """A generator seeded by the case, the same in every process."""
    return np.random.default_rng(zlib.crc32(str(case).encode()))


def panels(w: np.ndarray) -> np.ndarray:
    """FORMAT.md's panels of a (K, N) matrix, the padding poisoned by nothing: it is zero."""
    k, n = w.shape
    padded = np.zeros((k, -(-n // 16) * 16), np.float32)
    padded[:, :n] = w
    cuts = range(0, padded.shape[1], PANEL)
    return np.concatenate([padded[:, c : c + PANEL].ravel() for c in cuts])


def padded(x: np.ndarray) -> np.ndarray:
    """A vector rounded up to 16 with zeros, as the file has it."""
    return np.concatenate([x, np.zeros(-x.size % 16, np.float32)])


def epilogue(
    activation: str,
    alpha: float = 0.0,
    axis: str | None = None,
    scale: Any = None,
    shift: Any = None,
):
    return {
        "activation": ACTIVATIONS.index(activation),
        "alpha": alpha,
        "axis": AXES.index(axis),
        "scale": None if scale is None else padded(scale),
        "shift": None if shift is None else padded(shift),
    }


def tolerance(depth: int, magnitude: float) -> float:
    """Rounding of a sum of ``depth`` products: like its square root, with room for bad luck."""
    return 8 * EPSILON * np.sqrt(depth) * max(magnitude, 1.0)


def test_every_kernel_is_tested() -> None:
    covered = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    several = {"dense_narrow", "recurrent_reset"} | set(native.ALGORITHMS)
    assert set(native.kernels()) <= covered | several
    assert any(case.channels <= NARROW for case in DENSES), (
        "dense_narrow is the dense kernel of few outputs"
    )


@float_matrix
@pytest.mark.parametrize("n", LENGTHS)
def test_find_outside(isa: str, n: int) -> None:
    kernels = native.Kernels(isa)
    x = np.random.default_rng(n).random(n, np.float32)
    x[0], x[-1] = 0.0, 1.0
    assert kernels.find_outside(x=x, n=n, lo=0.0, hi=1.0) == n
    for bad in (np.nan, np.inf, -np.inf, -1e-7, np.nextafter(np.float32(1), np.float32(2))):
        for i in range(n) if n < 40 else (0, 1, n // 2, n - 2, n - 1):
            y = x.copy()
            y[i:] = bad
            assert kernels.find_outside(x=y, n=n, lo=0.0, hi=1.0) == i
    big = np.finfo(np.float32).max
    ends = np.array([big, -big, np.inf], np.float32)
    assert kernels.find_outside(x=ends, n=3, lo=-big, hi=big) == 2


@float_matrix
@pytest.mark.parametrize("n", LENGTHS)
def test_from_u8(isa: str, n: int) -> None:
    x = np.resize(np.arange(256, dtype=np.uint8), n)
    y = Guarded(n)
    native.Kernels(isa).from_u8(x=x, y=y.data, n=n, divisor=255.0)
    np.testing.assert_array_equal(y.check(), x.astype(np.float32) / np.float32(255))


@float_matrix
@pytest.mark.parametrize("n", [n for n in LENGTHS if n < 100])
@pytest.mark.parametrize("spread", [1e-3, 1.0, 10.0, 300.0])
def test_softmax(isa: str, n: int, spread: float) -> None:
    x = (np.random.default_rng(n).normal(size=n) * spread).astype(np.float32)
    y = Guarded(n)
    native.Kernels(isa).softmax(x=x, y=y.data, n=n)
    got = y.check()
    np.testing.assert_allclose(got, reference.softmax(x[None])[0], rtol=0, atol=3e-7)
    assert abs(float(got.sum(dtype=np.float64)) - 1) < 1e-6


@float_matrix
@pytest.mark.parametrize("n", [n for n in LENGTHS if n < 100])
@pytest.mark.parametrize("spread", [1e-3, 1.0, 10.0, 300.0])
def test_log_softmax(isa: str, n: int, spread: float) -> None:
    x = (np.random.default_rng(n).normal(size=n) * spread).astype(np.float32)
    y = Guarded(n)
    native.Kernels(isa).log_softmax(x=x, y=y.data, n=n)
    exact = x - x.astype(np.float64).max()
    want = exact - np.log(np.exp(exact).sum())
    np.testing.assert_allclose(y.check(), want, rtol=3e-7, atol=4e-7)


def run_activation(isa: str, activation: str, x: np.ndarray) -> np.ndarray:
    y = Guarded(x.size)
    e = epilogue(activation, WITH_ALPHA.get(activation, 0.0))
    native.Kernels(isa).eltwise(
        **{"in_": x, "out": y.data, "in_row": 0, "out_row": 0, "row_index": 0, "epilogue": e},
        **{"rows": 1, "cols": 1, "channels": x.size},
    )
    return y.check()


@float_matrix
@pytest.mark.parametrize("activation", ACTIVATIONS)
@given(x=hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(-200, 200, width=32)))
@settings(max_examples=60, deadline=None)
def test_activation(isa: str, activation: str, x: np.ndarray) -> None:
    with np.errstate(all="ignore"):
        want = reference.activate(x, activation, WITH_ALPHA.get(activation, 0.0)).astype(np.float32)
    np.testing.assert_allclose(run_activation(isa, activation, x), want, rtol=5e-7, atol=4e-7)


@float_matrix
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_everywhere(isa: str, activation: str) -> None:
    """Closely spaced, tiny and huge: a few units in the last place of the result or of 1."""
    scales = 10.0 ** np.arange(-38, 38)
    x = np.concatenate([np.linspace(-20, 20, 40001), np.linspace(-110, 110, 9999), scales, -scales])
    x = x.astype(np.float32)
    with np.errstate(all="ignore"):
        want = reference.activate(x, activation, WITH_ALPHA.get(activation, 0.0))
        want[abs(want) > np.finfo(np.float32).max] *= np.inf
    got = run_activation(isa, activation, x)
    # erf is 1 - erfc(x), whose rounding is some units in the last place of 1.
    np.testing.assert_allclose(got, want, rtol=6e-7, atol=4e-7 if activation == "erf" else 2e-7)
    # Those that are like x near zero keep their relative accuracy there.
    if activation in ("elu", "selu", "tanh", "silu", "gelu", "gelu_tanh", "hard_swish"):
        near = (abs(x) < 0.5) & (abs(x) > 1e-30)
        np.testing.assert_allclose(got[near], want[near], rtol=6e-7, atol=0)


@float_matrix
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("channels", [1, 3, 4, 7, 8, 9, 16, 17, 48])
@pytest.mark.parametrize("in_place", [False, True])
def test_eltwise(isa: str, axis: str | None, channels: int, in_place: bool) -> None:
    rows, cols, gap, first = 4, 3, 5, 2
    rng = np.random.default_rng(channels)
    x = rng.normal(size=(rows, cols * channels + gap)).astype(np.float32)
    length = {None: 0, "height": first + rows, "width": cols, "channel": channels}[axis]
    scale, shift = (rng.normal(size=length).astype(np.float32) for _ in range(2))
    y = Guarded(x) if in_place else Guarded(x.size)
    row = cols * channels + gap
    source = y.data if in_place else x.ravel()
    affine = (axis, scale, shift) if axis else ()
    native.Kernels(isa).eltwise(
        in_=source,
        out=y.data,
        in_row=row,
        out_row=row,
        rows=rows,
        cols=cols,
        channels=channels,
        row_index=first,
        epilogue=epilogue("relu", 0.0, *affine),
    )
    image = reference.activate(x[:, : cols * channels].reshape(1, rows, cols, channels), "relu")
    if axis:
        image = reference.affine(
            image,
            scale[first:] if axis == "height" else scale,
            shift[first:] if axis == "height" else shift,
            axis,
        )
    got = y.check().reshape(rows, row)
    np.testing.assert_allclose(
        got[:, : cols * channels].reshape(image[0].shape), image[0], rtol=1e-6, atol=1e-6
    )
    untouched = got[:, cols * channels :]
    assert (
        np.array_equal(untouched, x[:, cols * channels :])
        if in_place
        else np.isnan(untouched).all()
    )


def pool_args(
    mode: str | None,
    size,
    stride,
    pad,
    rows,
    cols,
    channels,
    out,
    *,
    in_row,
    ring,
    out_row,
    first=0,
):
    return {
        "in_": None,
        "out": None,
        "in_row": in_row,
        "in_ring": ring,
        "out_row": out_row,
        "rows": rows,
        "cols": cols,
        "channels": channels,
        "out_first": first,
        "out_count": out[0],
        "out_cols": out[1],
        "mode": POOLS.index(mode),
        "size": size,
        "stride": stride,
        "pad": pad[:2],
    }


@float_matrix
@pytest.mark.parametrize("mode", ["max", "average"])
@pytest.mark.parametrize("channels", [1, 3, 4, 5, 8, 9, 16, 17, 40])
@pytest.mark.parametrize(
    ("size", "stride", "pad"),
    [
        ((2, 2), (2, 2), (0, 0, 0, 0)),
        ((3, 3), (2, 2), (1, 1, 1, 1)),
        ((3, 2), (1, 3), (2, 0, 1, 1)),
        ((7, 6), (1, 1), (0, 0, 0, 0)),
    ],
)
def test_pool2d(isa: str, mode: str, channels: int, size, stride, pad) -> None:
    rows, cols = 7, 6
    x = np.random.default_rng(channels).normal(size=(1, rows, cols, channels)).astype(np.float32)
    want = reference.pool2d(x, mode, size, stride, pad)[0]
    y = Guarded(want.size)
    args = pool_args(
        mode,
        size,
        stride,
        pad,
        rows,
        cols,
        channels,
        want.shape[:2],
        in_row=cols * channels,
        ring=rows,
        out_row=want.shape[1] * channels,
    )
    native.Kernels(isa).pool2d(**{**args, "in_": x.ravel(), "out": y.data})
    np.testing.assert_allclose(y.check().reshape(want.shape), want, rtol=1e-6, atol=1e-6)


def run_conv(
    kernels: Any,
    case: Conv,
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray,
    scale: Any,
    shift: Any,
    planes: bool = True,
    wanted: slice = slice(None),
) -> np.ndarray:
    """Calls conv2d as the engine does: padded input, taps, only the outputs that pooling reads.

    Without `planes`, a 3x3 filter over one channel is one like any other. Of `wanted` channels
    alone, the result has no others.
    """
    first, end, _ = wanted.indices(case.channels)
    channels = end - first
    top, left, bottom, right = case.pad
    image = np.pad(x, ((top, bottom), (left, right), (0, 0)))
    in_row = image.shape[1] * case.in_channels
    ky, kx, c = np.meshgrid(
        *(np.arange(n) for n in (*case.kernel, case.in_channels)), indexing="ij"
    )
    taps = (
        (ky * case.dilation[0] * in_row + kx * case.dilation[1] * case.in_channels + c)
        .ravel()
        .astype(np.uint32)
    )
    rows, cols = (
        (image.shape[d] - case.dilation[d] * (case.kernel[d] - 1) - 1) // case.stride[d] + 1
        for d in range(2)
    )
    out = (rows, cols)
    if case.pool_mode:
        out = tuple(
            (n + case.pool_pad[d] + case.pool_pad[d + 2] - case.pool[d]) // case.pool_stride[d] + 1
            for d, n in enumerate((rows, cols))
        )
        rows, cols = (
            min((out[d] - 1) * case.pool_stride[d] + case.pool[d] - case.pool_pad[d], n)
            for d, n in enumerate((rows, cols))
        )
    gap = 3  # an output row may have a margin
    out_row = out[1] * channels + gap
    y = Guarded(out[0] * out_row)
    ring = Guarded(case.pool[0] * cols * channels)
    pool = pool_args(
        case.pool_mode,
        case.pool,
        case.pool_stride,
        case.pool_pad,
        rows,
        cols,
        channels,
        out,
        in_row=cols * channels,
        ring=case.pool[0],
        out_row=out_row,
    )
    if case.axis == "channel":
        scale, shift = scale[wanted], shift[wanted]
    affine = (case.axis, scale, shift) if case.axis else ()
    planes &= case.kernel == (3, 3) and case.stride == case.dilation == (1, 1)
    planes &= case.in_channels == 1
    kernels.conv2d(
        in_=image.ravel(),
        out=y.data,
        weights=panels(w.reshape(-1, case.channels)),
        bias=padded(bias[wanted]),
        taps=taps,
        depth=taps.size,
        in_row_step=case.stride[0] * in_row,
        in_col_step=case.stride[1] * case.in_channels,
        plane_row=in_row if planes else 0,
        rows=rows,
        cols=cols,
        channels=channels,
        before=first,
        after=case.channels - end,
        out_row=out_row,
        out_col=channels,
        epilogue=epilogue(case.activation, case.alpha, *affine),
        pool_mode=pool["mode"],
        ring=ring.data,
        pool=pool,
    )
    ring.check()
    got = y.check().reshape(out[0], out_row)
    assert np.isnan(got[:, out[1] * channels :]).all(), "wrote into the margin of a row"
    return got[:, : out[1] * channels].reshape(*out, channels)


def conv_data(case: Conv):
    rng = rng_of(case)
    x = rng.random((case.height, case.width, case.in_channels), np.float32)
    depth = case.kernel[0] * case.kernel[1] * case.in_channels
    w = (rng.normal(size=(*case.kernel, case.in_channels, case.channels)) / np.sqrt(depth)).astype(
        np.float32
    )
    bias = rng.normal(size=case.channels).astype(np.float32) * np.float32(0.1)
    full = reference.conv2d(x[None], w, bias, case.stride, case.dilation, case.pad)
    length = {None: 0, "height": full.shape[1], "width": full.shape[2], "channel": case.channels}[
        case.axis
    ]
    # Scales of both signs: under a negative one the maximum becomes a minimum.
    scale, shift = (rng.normal(size=length).astype(np.float32) for _ in range(2))
    want = reference.activate(full, case.activation, case.alpha)
    if case.axis:
        want = reference.affine(want, scale, shift, case.axis)
    if case.pool_mode:
        want = reference.pool2d(want, case.pool_mode, case.pool, case.pool_stride, case.pool_pad)
    return x, w, bias, scale, shift, want[0], depth


@float_matrix
@pytest.mark.parametrize("case", CONVS, ids=str)
def test_conv2d(isa: str, case: Conv) -> None:
    x, w, bias, scale, shift, want, depth = conv_data(case)
    got = run_conv(native.Kernels(isa), case, x, w, bias, scale, shift)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance(depth, float(np.abs(want).max())))


@float_matrix
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("pool_mode", [None, "max", "average"])
@pytest.mark.parametrize("axis", [None, "height", "width", "channel"])
def test_planes_are_the_same_bits(
    isa: str, channels: int, pool_mode: str | None, axis: str | None
) -> None:
    """3x3 over one channel has its own tiles, whose outputs take their inputs in the same order."""
    kernels = native.Kernels(isa)
    for width in range(4, 40):
        case = Conv(6, width, 1, channels, axis=axis, pool_mode=pool_mode)
        x, w, bias, scale, shift, *_ = conv_data(case)
        x[::3, ::2] = 0.0
        got, expected = (
            run_conv(kernels, case, x, w, bias, scale, shift, planes) for planes in (True, False)
        )
        np.testing.assert_array_equal(got.view(np.int32), expected.view(np.int32))


@float_matrix
@pytest.mark.parametrize("channels", [17, 40, 64, 100, 200])
@pytest.mark.parametrize("pool_mode", [None, "max", "average"])
@pytest.mark.parametrize("axis", [None, "height", "channel"])
def test_channels_by_themselves_are_the_same_bits(
    isa: str, channels: int, pool_mode: str | None, axis: str | None
) -> None:
    """Threads that share an image whose pooling leaves one pixel take some channels each."""
    kernels = native.Kernels(isa)
    for activation in ("linear", "relu", *(("tanh",) if pool_mode else ())):
        case = Conv(7, 9, 2, channels, (1, 2), activation=activation, axis=axis)
        if pool_mode:
            case = replace(case, pool_mode=pool_mode, pool=(7, 8))
        x, w, bias, scale, shift, *_ = conv_data(case)
        w[..., ::3], bias[::3] = 0, -0.0
        whole = run_conv(kernels, case, x, w, bias, scale, shift)
        for first in range(0, channels, 16):
            for end in {first + 16, first + 96, channels}:
                part = slice(first, min(end, channels))
                got = run_conv(kernels, case, x, w, bias, scale, shift, wanted=part)
                np.testing.assert_array_equal(got.view(np.int32), whole[..., part].view(np.int32))


@float_matrix
@pytest.mark.parametrize("cols", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("channels", [8, 16, 20, 48])
@pytest.mark.parametrize("axis", [None, "height", "width", "channel"])
def test_tiles_go_on_in_the_next_rows(isa: str, cols: int, channels: int, axis: str | None) -> None:
    """Of a narrow image in several: the bits are those of each row alone."""
    kernels = native.Kernels(isa)
    for rows in (2, 3, 4, 9):
        case = Conv(rows, cols, 5, channels, (1, 1), activation="linear", axis=axis)
        x, w, bias, scale, shift, *_ = conv_data(case)
        whole = run_conv(kernels, case, x, w, bias, scale, shift)
        for r in range(rows):
            part = slice(r, r + 1) if axis == "height" else slice(None)
            one = replace(case, height=1)
            alone = run_conv(kernels, one, x[r : r + 1], w, bias, scale[part], shift[part])
            np.testing.assert_array_equal(alone.view(np.int32), whole[r : r + 1].view(np.int32))


@float_matrix
@pytest.mark.parametrize("case", SEED_CONVS, ids=str)
def test_conv2d_on_blank_and_full_images(isa: str, case: Conv) -> None:
    _, w, bias, scale, shift, _, depth = conv_data(case)
    for value in (0.0, 1.0):
        x = np.full((case.height, case.width, case.in_channels), value, np.float32)
        full = reference.activate(reference.conv2d(x[None], w, bias, pad=case.pad), case.activation)
        if case.axis:
            full = reference.affine(full, scale, shift, case.axis)
        want = reference.pool2d(full, "max", (2, 2), (2, 2), (0, 0, 0, 0))[0]
        got = run_conv(native.Kernels(isa), case, x, w, bias, scale, shift)
        np.testing.assert_allclose(
            got, want, rtol=0, atol=tolerance(depth, float(np.abs(want).max()))
        )


def run_depthwise(isa: str, x, w, bias, shape, stride, dilation, epilogue_) -> np.ndarray:
    """`shape` (rows, cols) of outputs; the kernel must not write between rows."""
    (rows, cols), out_gap = shape, 3
    kernel, channels = w.shape[:2], w.shape[-1]
    in_row = x.shape[1] * channels
    ky, kx = np.meshgrid(*(np.arange(n) for n in kernel), indexing="ij")
    taps = (ky * dilation[0] * in_row + kx * dilation[1] * channels).ravel().astype(np.uint32)
    out_row = cols * channels + out_gap
    y = Guarded(rows * out_row)
    native.Kernels(isa).depthwise(
        in_=Guarded(x).data,
        out=y.data,
        weights=panels(w.reshape(-1, channels)),
        bias=padded(bias),
        taps=taps,
        taps_count=taps.size,
        in_row_step=stride[0] * in_row,
        in_col_step=stride[1] * channels,
        rows=rows,
        cols=cols,
        channels=channels,
        out_row=out_row,
        epilogue=epilogue_,
    )
    got = y.check().reshape(rows, out_row)
    assert np.isnan(got[:, cols * channels :]).all(), "wrote into the margin of a row"
    return got[:, : cols * channels].reshape(rows, cols, channels)


def depthwise_data(channels: int, shape, kernel, stride, dilation):
    """Input, weights and bias."""
    rng = np.random.default_rng(channels + shape[1])
    height, width = (
        (n - 1) * stride[d] + dilation[d] * (kernel[d] - 1) + 1 for d, n in enumerate(shape)
    )
    sizes = (height, width, channels), (*kernel, 1, channels), (channels,)
    return rng, *(rng.normal(size=size).astype(np.float32) for size in sizes)


@float_matrix
@pytest.mark.parametrize("channels", [1, 3, 4, 7, 8, 9, 16, 17, 24, 96, 97, 200])
@pytest.mark.parametrize("cols", [1, 3, 4, 5, 9])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "activation", "axis"),
    [
        ((3, 3), (1, 1), (1, 1), "relu", None),
        ((3, 3), (2, 2), (1, 1), "linear", "channel"),
        ((3, 3), (2, 2), (1, 1), "clipped_relu", None),
        ((3, 3), (1, 3), (2, 1), "clipped_relu", "width"),
        ((3, 3), (1, 2), (1, 1), "relu", "height"),
        ((3, 3), (2, 1), (1, 1), "relu", "width"),
        ((3, 3), (1, 1), (2, 1), "relu", None),
        ((3, 3), (2, 1), (2, 1), "tanh", None),
        ((3, 3), (1, 1), (1, 2), "relu", None),
        ((9, 1), (1, 1), (1, 1), "relu", None),
        ((5, 2), (1, 2), (1, 2), "relu", "height"),
        ((1, 1), (1, 1), (1, 1), "hard_swish", "width"),
    ],
)
def test_depthwise(
    isa: str, channels: int, cols: int, kernel, stride, dilation, activation: str, axis: str | None
) -> None:
    shape = 5, cols
    rng, x, w, bias = depthwise_data(channels, shape, kernel, stride, dilation)
    length = {None: 0, "height": 5, "width": cols, "channel": channels}[axis]
    scale, shift = (rng.normal(size=length).astype(np.float32) for _ in range(2))
    alpha = WITH_ALPHA.get(activation, 0.0)
    want = reference.conv2d(x[None], w, bias, stride, dilation, groups=channels)
    want = reference.activate(want, activation, alpha)
    if axis:
        want = reference.affine(want, scale, shift, axis)
    after = epilogue(activation, alpha, *((axis, scale, shift) if axis else ()))
    got = run_depthwise(isa, x, w, bias, shape, stride, dilation, after)
    atol = tolerance(math.prod(kernel), float(np.abs(want).max()))
    np.testing.assert_allclose(got, want[0], rtol=0, atol=atol)


@float_matrix
@pytest.mark.parametrize("channels", [32, 128, 144, 256, 512, 1024])
@pytest.mark.parametrize("shape", [(1, 7), (3, 4), (5, 14), (6, 9), (5, 40), (4, 70)])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_of_many_channels(isa: str, channels: int, shape, stride: int) -> None:
    """Pixels so far apart that lines of a cache run out are copied, in bands of rows: the bits are
    those of sixteen channels alone."""
    kernel, strides, dilation = (3, 3), (stride, stride), (1, 1)
    _, x, w, bias = depthwise_data(channels, shape, kernel, strides, dilation)
    after = epilogue("relu")
    got = run_depthwise(isa, x, w, bias, shape, strides, dilation, after)
    for c in range(0, channels, 16):
        part = (np.ascontiguousarray(v[..., c : c + 16]) for v in (x, w, bias))
        alone = run_depthwise(isa, *part, shape, strides, dilation, after)
        assert alone.tobytes() == got[..., c : c + 16].tobytes()


@float_matrix
@pytest.mark.parametrize("kind", BINARIES)
@pytest.mark.parametrize("channels", [1, 7, 8, 17])
@pytest.mark.parametrize("ones", [(), (0,), (1,), (2,), (0, 1), (0, 1, 2)])
@pytest.mark.parametrize("axis", [None, "channel"])
@pytest.mark.parametrize("activation", ["linear", "relu", "tanh"])
def test_binary(
    isa: str, kind: str, channels: int, ones: tuple[int, ...], axis: str, activation: str
) -> None:
    rng = np.random.default_rng(channels)
    shape = (3, 4, channels)
    other_shape = tuple(1 if d in ones else n for d, n in enumerate(shape))
    x = rng.normal(size=shape).astype(np.float32)
    other = rng.uniform(0.5, 2, size=other_shape).astype(np.float32)
    length = {None: 0, "height": 3, "channel": channels}[axis]
    scale, shift = (rng.normal(size=length).astype(np.float32) for _ in range(2))
    gap = 5
    row, out_row = 4 * channels, 4 * channels + gap
    y = Guarded(3 * out_row)
    b_row = 0 if 0 in ones else other_shape[1] * other_shape[2]
    native.Kernels(isa).binary(
        a=Guarded(x).data,
        b=Guarded(other).data,
        out=y.data,
        a_row=row,
        b_row=b_row,
        b_col=0 if 1 in ones else other_shape[2],
        out_row=out_row,
        one=2 in ones,
        rows=shape[0],
        cols=shape[1],
        channels=shape[2],
        op=1 + BINARIES.index(kind),
        epilogue=epilogue(activation, 0.0, *((axis, scale, shift) if axis else ())),
    )
    want = reference.activate(reference.binary(x[None], other[None], kind), activation)
    if axis:
        want = reference.affine(want, scale, shift, axis)
    got = y.check().reshape(3, out_row)
    assert np.isnan(got[:, row:]).all(), "wrote into the margin of a row"
    np.testing.assert_allclose(got[:, :row].reshape(shape), want[0], rtol=1e-6, atol=2e-6)


@float_matrix
@pytest.mark.parametrize("perm", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 4, 5), (2, 1, 17), (5, 9, 1)])
def test_copy(isa: str, perm: tuple[int, ...], shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    want = x.transpose(perm)
    y = Guarded(x.size)
    strides = (shape[1] * shape[2], shape[2], 1)
    to = (want.shape[1] * want.shape[2], want.shape[2], 1)
    native.Kernels(isa).copy(
        in_=Guarded(x).data,
        out=y.data,
        size=want.shape,
        in_stride=[strides[axis] for axis in perm],
        out_stride=to,
    )
    np.testing.assert_array_equal(y.check().reshape(want.shape), want)


@float_matrix
@pytest.mark.parametrize("channels", CHANNELS)
def test_interpolate(isa: str, channels: int) -> None:
    """Pixels between two others, and the pixel itself where the weight is 0, whatever is behind."""
    rng = np.random.default_rng(channels)
    pixels, step, n = 7, 3 * channels, 40
    x = rng.normal(size=pixels * channels).astype(np.float32)
    x[-channels:] = np.nan
    at = (rng.integers(0, pixels - 1, n) * channels).astype(np.uint32)
    weight = rng.random(n, np.float32)
    weight[(rng.random(n) < 0.3) | (at + step >= x.size - channels)] = 0
    out = Guarded(n * channels)
    native.Kernels(isa).interpolate(
        x=x, step=step, at=at, weight=weight, y=out.data, n=n, channels=channels
    )
    for got, first, share in zip(out.check().reshape(n, channels), at, weight, strict=True):
        a, b = x[first : first + channels], x[first + step : first + step + channels]
        if share == 0:
            assert got.tobytes() == a.tobytes()
        else:
            want = a * (1 - float(share)) + b * float(share)
            np.testing.assert_allclose(got, want, rtol=0, atol=tolerance(2, 4.0))


@float_matrix
@pytest.mark.parametrize("channels", [1, 3, 20])
def test_interpolate_keeps_what_is_equal(isa: str, channels: int) -> None:
    x = np.full(2 * channels, 0.1, np.float32)
    at, weight = np.zeros(9, np.uint32), np.linspace(0, 1, 9, endpoint=False, dtype=np.float32)
    out = Guarded(9 * channels)
    native.Kernels(isa).interpolate(
        x=x, step=channels, at=at, weight=weight, y=out.data, n=9, channels=channels
    )
    assert (out.check() == np.float32(0.1)).all()


@float_matrix
@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize(("scaled", "shifted"), [(True, True), (False, False), (True, False)])
def test_layernorm(isa: str, n: int, mean: float, scaled: bool, shifted: bool) -> None:
    rng = np.random.default_rng(n)
    x, scale, shift = (rng.normal(size=n).astype(np.float32) for _ in range(3))
    x += np.float32(mean)
    y = Guarded(n)
    scale, shift = (scale if scaled else None), (shift if shifted else None)
    native.Kernels(isa).layernorm(
        in_=Guarded(x).data, out=y.data, n=n, epsilon=1e-3, scale=scale, shift=shift
    )
    want = reference.layernorm(x, float(np.float32(1e-3)), scale, shift)
    np.testing.assert_allclose(y.check(), want, rtol=0, atol=4e-6 * max(1.0, mean))


@float_matrix
@pytest.mark.parametrize("units", LENGTHS)
@pytest.mark.parametrize("kind", ["simple", "lstm", "gru", "gru_reset_after"])
@pytest.mark.parametrize(
    ("gates", "activation"),
    [(("sigmoid", 0.0), ("tanh", 0.0)), (("hard_sigmoid", 0.2), ("elu", 0.7))],
)
def test_recurrent(
    isa: str, units: int, kind: str, gates: tuple[str, float], activation: tuple[str, float]
) -> None:
    """A step of one sequence, of which the products have been taken."""
    rng = np.random.default_rng(units)
    columns = {"simple": 1, "lstm": 4}.get(kind, 3) * units
    x, product = (rng.normal(size=columns).astype(np.float32) for _ in range(2))
    h, c = (rng.normal(size=units).astype(np.float32) for _ in range(2))
    state, cell, kept = Guarded(h), Guarded(c), Guarded(units)
    arguments = {
        "in_": Guarded(x).data,
        "product": Guarded(product).data,
        "state": state.data,
        "cell": cell.data,
        "kept": kept.data,
        "units": units,
        "kind": 1 + ["simple", "lstm", "gru", "gru_reset_after"].index(kind),
        "gates": ACTIVATIONS.index(gates[0]),
        "gates_alpha": gates[1],
        "activation": ACTIVATIONS.index(activation[0]),
        "alpha": activation[1],
    }
    if kind == "gru":
        native.Kernels(isa).recurrent_reset(**arguments)
        reset = reference.activate((x + product)[units : 2 * units], *gates)
        np.testing.assert_allclose(kept.check(), reset * h, rtol=0, atol=1e-6)
    native.Kernels(isa).recurrent(**arguments)
    x, product, h, c = (np.float64(a).reshape(-1, units) for a in (x, product, h, c))
    s = [reference.activate(part, *gates) for part in x + product]
    if kind == "simple":
        h = reference.activate(x + product, *activation)
    elif kind == "lstm":
        c = s[1] * c + s[0] * reference.activate((x + product)[2], *activation)
        h = s[3] * reference.activate(c, *activation)
    else:
        candidate = x[2] + (product[2] if kind == "gru" else s[1] * product[2])
        h = s[0] * h + (1 - s[0]) * reference.activate(candidate, *activation)
    np.testing.assert_allclose(state.check(), h.ravel(), rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(cell.check(), c.ravel(), rtol=2e-6, atol=1e-6)


def run_winograd(kernels: Any, name: str, case: Conv, data: tuple[Any, ...]) -> np.ndarray:
    """Calls a Winograd kernel as the engine does, with zeros as far as the last patches reach."""
    x, w, bias, scale, shift = data
    m, r, positions, stride = native.winograd_sizes(name)
    top, left, bottom, right = case.pad
    rows = (case.height + top + bottom - r[0]) // stride + 1
    cols = (case.width + left + right - r[1]) // stride + 1
    if case.pool_mode:
        rows, cols = rows // 2 * 2, cols // 2 * 2
    patches = (-(-rows // m[0]), -(-cols // m[1]))
    image = np.pad(x, ((top, bottom), (left, right), (0, 0)))
    reach = [max((patches[d] * m[d] - 1) * stride + r[d] - image.shape[d], 0) for d in range(2)]
    image = np.pad(image, ((0, reach[0]), (0, reach[1]), (0, 0)))
    padded_channels = -(-case.channels // 16) * 16
    sizes = (case.in_channels, rows, cols, case.channels)
    weights = Guarded(positions * case.in_channels * padded_channels)
    native.winograd_transform(name, panels(w.reshape(-1, case.channels)), sizes, weights.data)
    halve = 2 if case.pool_mode else 1
    gap = 3
    out_row = cols // halve * case.channels + gap
    y = Guarded(rows // halve * out_row)
    count = patches[0] * patches[1]
    # As many floats between positions as a cache may want, here an odd number.
    steps = (count * case.in_channels + 15, count * padded_channels + 5)
    v, products = (Guarded(positions * step) for step in steps)
    affine = (case.axis, scale, shift) if case.axis else ()
    getattr(kernels, name)(
        in_=Guarded(image).data,
        out=y.data,
        weights=weights.check(),
        bias=padded(bias),
        in_row=image.shape[1] * case.in_channels,
        in_channels=case.in_channels,
        rows=rows,
        cols=cols,
        channels=case.channels,
        out_row=out_row,
        epilogue=epilogue(case.activation, case.alpha, *affine),
        pooled=halve == 2,
        patch_rows=patches[0],
        patch_cols=patches[1],
        v=v.data,
        products=products.data,
        v_step=steps[0],
        products_step=steps[1],
    )
    v.check(), products.check()
    got = y.check().reshape(rows // halve, out_row)
    assert np.isnan(got[:, cols // halve * case.channels :]).all(), "wrote into a row's margin"
    got = got[:, : cols // halve * case.channels]
    return got.reshape(rows // halve, cols // halve, case.channels)


WINOGRADS = (
    *SEED_CONVS[1:],
    *(
        Conv(h, w, c, n, kernel=(r, r), pad=p, axis=a, pool_mode=m, activation=act, alpha=0.4)
        for r in (2, 3, 5)
        for h, w, c, n, p, a, m, act in (
            (8, 8, 16, 16, (1, 1, 1, 1), None, None, "relu"),
            (9, 11, 5, 20, (0, 0, 0, 0), "width", None, "relu"),
            (9, 11, 5, 20, (1, 2, 0, 1), "channel", "max", "linear"),
            (r, r, 1, 1, (0, 0, 0, 0), None, None, "linear"),
            (r, r + 1, 33, 7, (1, 0, 0, 1), "height", "max", "relu"),
            (20, 7, 17, 48, (1, 1, 1, 1), None, "max", "relu"),
            (14, 14, 24, 100, (1, 1, 1, 1), "channel", None, "relu"),
            (12, 30, 8, 200, (2, 2, 2, 2), None, "max", "relu"),
            (9, 11, 5, 20, (1, 1, 1, 1), "height", "max", "clipped_relu"),
            (8, 9, 16, 16, (1, 1, 1, 1), None, None, "clipped_relu"),
            (9, 11, 5, 20, (1, 1, 1, 1), "channel", "max", "tanh"),
            (10, 7, 9, 24, (1, 1, 1, 1), "width", None, "leaky_relu"),
        )
    ),
    *(
        Conv(h, w, c, n, kernel=(3, 3), stride=(2, 2), pad=p, axis=a, pool_mode=m, activation=act)
        for h, w, c, n, p, a, m, act in (
            (16, 16, 16, 16, (1, 1, 1, 1), None, None, "relu"),
            (19, 15, 5, 20, (0, 0, 0, 0), "width", None, "relu"),
            (18, 22, 5, 20, (0, 0, 1, 1), "channel", "max", "linear"),
            (3, 3, 1, 1, (0, 0, 0, 0), None, None, "linear"),
            (3, 9, 33, 7, (1, 0, 0, 1), "height", None, "tanh"),
            (24, 40, 24, 100, (1, 1, 1, 1), "height", "max", "relu"),
        )
    ),
    *(
        Conv(h, w, c, n, kernel=kernel, pad=p, axis=a, activation=act, alpha=0.4)
        for r in (3, 5, 7)
        for kernel in ((1, r), (r, 1))
        for h, w, c, n, p, a, act in (
            (8, 8, 16, 16, (1, 1, 1, 1), None, "relu"),
            (9, 11, 5, 20, (0, 0, 0, 0), "width", "relu"),
            (9, 11, 5, 20, (1, 2, 0, 1), "height", "clipped_relu"),
            (*kernel, 1, 1, (0, 0, 0, 0), None, "linear"),
            (kernel[0], kernel[1] + 1, 33, 7, (1, 0, 0, 1), "channel", "relu"),
            (20, 8, 17, 48, (3, 0, 3, 0), "channel", "tanh"),
            (7, 30, 8, 200, (0, 3, 0, 3), None, "leaky_relu"),
            (10, 13, 9, 24, (1, 1, 1, 1), "width", "tanh"),
        )
    ),
)


@float_matrix
@pytest.mark.parametrize("case", WINOGRADS, ids=str)
def test_winograd(isa: str, case: Conv) -> None:
    """A few times the direct convolution's rounding, as the transforms add and scale."""
    name = next(
        name
        for name in native.ALGORITHMS
        if name != "conv2d" and native.winograd_sizes(name)[1::2] == (case.kernel, case.stride[0])
    )
    x, w, bias, scale, shift, want, depth = conv_data(case)
    got = run_winograd(native.Kernels(isa), name, case, (x, w, bias, scale, shift))
    assert got.shape == want.shape
    atol = 4 * tolerance(depth, float(np.abs(want).max()))
    np.testing.assert_allclose(got, want, rtol=0, atol=atol)


DTYPES = (np.float32, np.float16, np.int8)


def run_dense(
    kernels: Any,
    case: Dense,
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray,
    scale: np.ndarray | None = None,
    gap: int = 2,
) -> np.ndarray:
    """Calls a dense kernel; the dtype of ``w`` is that of its panels."""
    m = x.shape[0]
    rows = np.full((m, case.depth + gap), np.nan, np.float32)
    rows[:, : case.depth] = x
    y = Guarded(m * (case.channels + gap))
    scratch = Guarded(max(2 * (-(-case.depth // 16) * 16) + 16, m * PANEL))
    kernel = kernels.dense_narrow if case.channels <= NARROW else kernels.dense
    kernel(
        in_=rows.ravel(),
        out=y.data,
        weights=panels(w).astype(w.dtype),
        dtype=DTYPES.index(w.dtype.type),
        bias=padded(bias),
        scale=None if scale is None else padded(scale),
        sums=None,
        m=m,
        depth=case.depth,
        channels=case.channels,
        in_row=case.depth + gap,
        out_row=case.channels + gap,
        epilogue=epilogue(case.activation, case.alpha),
        scratch=scratch.data,
    )
    scratch.check()
    got = y.check().reshape(m, -1)
    assert np.isnan(got[:, case.channels :]).all(), "wrote past the end of a row"
    return got[:, : case.channels]


def dense_data(case: Dense):
    rng = rng_of(case)
    x = rng.random((case.m, case.depth), np.float32)
    x[rng.random(x.shape) < case.zeros] = 0.0
    w = (rng.normal(size=(case.depth, case.channels)) / np.sqrt(case.depth)).astype(np.float32)
    return x, w, rng.normal(size=case.channels).astype(np.float32)


@float_matrix
@pytest.mark.parametrize("case", DENSES, ids=str)
def test_dense(isa: str, case: Dense) -> None:
    x, w, bias = dense_data(case)
    got = run_dense(native.Kernels(isa), case, x, w, bias)
    want = reference.activate(reference.dense(x, w, bias), case.activation, case.alpha)
    np.testing.assert_allclose(
        got, want, rtol=0, atol=tolerance(case.depth, float(np.abs(want).max()))
    )


@float_matrix
@pytest.mark.parametrize("channels", [10, 16, 32, 33, 96, 100, 200])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_dense_rows_do_not_depend_on_the_batch(
    isa: str, channels: int, data: st.DataObject
) -> None:
    """Bit for bit, whatever the tile a row falls into, and whether its zeros were skipped."""
    m = data.draw(st.integers(2, 13), "m")
    depth = data.draw(st.integers(1, 70), "depth")
    seed = data.draw(st.integers(0, 2**32 - 1), "seed")
    rng = np.random.default_rng(seed)
    case = Dense(m, depth, channels, data.draw(st.sampled_from(["linear", "relu"])))
    x = rng.normal(size=(m, depth)).astype(np.float32)
    x[rng.random(x.shape) < 0.6] = data.draw(st.sampled_from([0.0, -0.0]))
    w = rng.normal(size=(depth, channels)).astype(np.float32)
    w[rng.random(w.shape) < 0.3] = 0.0
    bias = rng.choice(np.array([0.0, -0.0, 0.5], np.float32), channels)
    kernels = native.Kernels(isa)
    together = run_dense(kernels, case, x, w, bias)
    for i in range(m):
        alone = run_dense(kernels, case, x[i : i + 1], w, bias)
        assert alone.tobytes() == together[i : i + 1].tobytes()


@float_matrix
@pytest.mark.parametrize("depth", [383, 384, 577, 1023, 2731])
def test_deep_dense_rows_do_not_depend_on_the_batch(isa: str, depth: int) -> None:
    """Nor on the blocks of depth that several rows go through."""
    case = Dense(32, depth, 200, zeros=0.3)
    x, w, bias = dense_data(case)
    kernels = native.Kernels(isa)
    alone = np.concatenate([run_dense(kernels, case, x[i : i + 1], w, bias) for i in range(32)])
    for m in (2, 3, 4, 5, 7, 9, 32):
        assert run_dense(kernels, case, x[:m], w, bias).tobytes() == alone[:m].tobytes()


def reduced(w: np.ndarray, dtype: type) -> tuple[np.ndarray, np.ndarray | None]:
    """Weights of ``dtype``, and their column scales if they are integers."""
    if dtype is np.float16:
        return w.astype(np.float16), None
    scale = (np.abs(w).max(0) / 127).astype(np.float32)
    return np.rint(w / scale).astype(np.int8), scale


@float_matrix
@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize("case", [case for case in DENSES if case.channels > NARROW], ids=str)
def test_dense_of_reduced_precision(isa: str, case: Dense, dtype: type) -> None:
    x, w, bias = dense_data(case)
    w, scale = reduced(w, dtype)
    got = run_dense(native.Kernels(isa), case, x, w, bias, scale)
    exact = w.astype(np.float64) * (1.0 if scale is None else scale.astype(np.float64))
    want = reference.activate(reference.dense(x, exact, bias), case.activation, case.alpha)
    atol = tolerance(case.depth, float(np.abs(want).max()))
    np.testing.assert_allclose(got, want, rtol=0, atol=atol)


@float_matrix
@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize("channels", [33, 96, 100, 200])
def test_rows_of_reduced_precision_do_not_depend_on_the_batch(
    isa: str, dtype: type, channels: int
) -> None:
    x, w, bias = dense_data(Dense(13, 70, channels))
    w, scale = reduced(w, dtype)
    kernels = native.Kernels(isa)
    for m in range(2, 14):
        case = Dense(m, 70, channels)
        together = run_dense(kernels, case, x[:m], w, bias, scale)
        for i in range(m):
            alone = run_dense(kernels, case, x[i : i + 1], w, bias, scale)
            assert alone.tobytes() == together[i : i + 1].tobytes()


@float_matrix
def test_every_half_and_every_byte_is_read_exactly(isa: str) -> None:
    """An input of 1 and a weight each: the output is the weight."""
    kernels = native.Kernels(isa)
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    for w, scale in (
        (halves, None),
        (np.arange(-128, 128).astype(np.int8), np.ones(256, np.float32)),
    ):
        case = Dense(1, 1, w.size, "linear")
        zero, one = np.zeros(w.size, np.float32), np.ones((1, 1), np.float32)
        got = run_dense(kernels, case, one, w[None], zero, scale)
        np.testing.assert_array_equal(got[0], w.astype(np.float32))


def run_dense_dynamic(
    kernels: Any, x: np.ndarray, w: np.ndarray, scale: np.ndarray, bias: np.ndarray, case: Dense
) -> np.ndarray:
    """Calls dense_dynamic as the engine does, on weights (depth, channels) of bytes."""
    (m, depth), channels, gap = x.shape, w.shape[1], 2
    rows = np.full((m, depth + gap), np.nan, np.float32)
    rows[:, :depth] = x
    columns = -(-channels // 16) * 16
    column = -(-depth // 4) * 4
    fours = Guarded(columns * column // 4)  # of bytes each
    sums = Guarded(columns)
    native.prepack_dynamic(
        panels(w).astype(np.int8), depth, channels, fours.data.view(np.int8), sums.data.view("i4")
    )
    fours.check(), sums.check()
    np.testing.assert_array_equal(sums.data.view("i4"), padded(w.sum(0)))
    y = Guarded(m * (channels + gap))
    scratch = Guarded(m * (-(-depth // 16) * 4 + 2))
    kernels.dense_dynamic(
        in_=rows.ravel(),
        out=y.data,
        weights=fours.data,
        dtype=DTYPES.index(np.int8),
        bias=padded(bias),
        scale=padded(scale),
        sums=sums.data.view("i4"),
        m=m,
        depth=depth,
        channels=channels,
        in_row=depth + gap,
        out_row=channels + gap,
        epilogue=epilogue(case.activation, case.alpha),
        scratch=scratch.data,
    )
    scratch.check()
    got = y.check().reshape(m, -1)
    assert np.isnan(got[:, channels:]).all(), "wrote past the end of a row"
    return got[:, :channels]


def bytes_of(rng: np.random.Generator, depth: int, channels: int) -> np.ndarray:
    return rng.integers(-127, 128, (depth, channels)).astype(np.int8)


@byte_matrix
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("case", [case for case in DENSES if case.channels > NARROW], ids=str)
def test_dense_dynamic(isa: str, case: Dense, signed: bool) -> None:
    """Exactly the reference, and so the same bits on every ISA, in every tile."""
    rng = rng_of((case, signed))
    x, _, bias = dense_data(case)
    if signed:
        x -= rng.random(x.shape, np.float32) * np.float32(0.7)
    w = bytes_of(rng, case.depth, case.channels)
    scale = rng.random(case.channels, np.float32) / np.float32(127) + np.float32(1e-3)
    got = run_dense_dynamic(native.Kernels(isa), x, w, scale, bias, case)
    linear = reference.dense_dynamic(x, w, scale, bias)
    want = reference.activate(linear, case.activation, case.alpha)
    if case.activation in ("linear", "relu"):
        np.testing.assert_array_equal(got, want.astype(np.float32))
    else:
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


BIG, TINY = np.finfo(np.float32).max, np.finfo(np.float32).tiny


@byte_matrix
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 37, 64])
def test_dense_dynamic_at_the_ends_of_float32(isa: str, depth: int) -> None:
    """Rows of which each is quantised in another way, alone and among others."""
    rng = np.random.default_rng(depth)
    row = rng.normal(size=depth).astype(np.float32)
    special = [
        *(np.zeros(depth), -np.zeros(depth), np.ones(depth), -np.ones(depth)),
        *(row, np.abs(row), -np.abs(row), row * 1e30, row * 1e-30),
        *(row * TINY, np.full(depth, 255 * TINY), np.full(depth, 254 * TINY)),  # the least step
        *(np.full(depth, BIG), np.sign(row) * BIG, np.where(row > 0, BIG, TINY)),
        *(np.where(np.arange(depth) == depth - 1, v, row) for v in (np.nan, np.inf, -np.inf)),
        *(np.where(np.arange(depth) == 0, v, row) for v in (np.nan, np.inf, -np.inf)),
        (np.arange(depth) + np.float32(0.5)) % 255,  # ties
    ]
    x = np.array(special, np.float32)
    w = bytes_of(rng, depth, 50)
    scale = np.full(50, 2.0**-7, np.float32)
    bias = rng.normal(size=50).astype(np.float32)
    kernels = native.Kernels(isa)
    case = Dense(len(x), depth, 50, "linear")
    got = run_dense_dynamic(kernels, x, w, scale, bias, case)
    np.testing.assert_array_equal(got, reference.dense_dynamic(x, w, scale, bias))
    assert np.isnan(got).all(axis=1).sum() == 6, "a row that is not finite has no outputs"
    for i in range(len(x)):
        alone = run_dense_dynamic(kernels, x[i : i + 1], w, scale, bias, case)
        assert alone.tobytes() == got[i : i + 1].tobytes()


@byte_matrix
@pytest.mark.parametrize("depth", [64, 65536])
@pytest.mark.parametrize("weight", [-127, 127])
def test_dense_dynamic_overflows_nowhere(isa: str, weight: int, depth: int) -> None:
    """The greatest sums there are: of pairs in 16 bits, of all in 32."""
    x = np.stack([np.full(depth, 255.0), np.full(depth, -255.0)]).astype(np.float32)
    x = np.concatenate([x, x])  # several rows in a tile
    x[2:, 0] *= -1
    w = np.full((depth, 33), weight, np.int8)
    one, zero = np.ones(33, np.float32), np.zeros(33, np.float32)
    got = run_dense_dynamic(native.Kernels(isa), x, w, one, zero, Dense(4, depth, 33, "linear"))
    np.testing.assert_array_equal(got, reference.dense_dynamic(x, w, one, zero))
    assert abs(got[0, 0]) == np.float32(255 * 127 * depth)


@byte_matrix
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_input_of_dense_dynamic(isa: str, data: st.DataObject) -> None:
    """Whatever floats there are: the reference's bits, and within a step of float arithmetic."""
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 40)), "shape")
    x = data.draw(hnp.arrays(np.float32, shape, elements=st.floats(width=32)), "x")
    channels = data.draw(st.sampled_from([33, 48, 97, 200]), "channels")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), "seed"))
    w = bytes_of(rng, shape[1], channels)
    scale = np.full(channels, 2.0**-10, np.float32)
    bias = rng.normal(size=channels).astype(np.float32)
    case = Dense(*shape, channels, "linear")
    got = run_dense_dynamic(native.Kernels(isa), x, w, scale, bias, case)
    np.testing.assert_array_equal(got, reference.dense_dynamic(x, w, scale, bias))
    rows = np.isfinite(x).all(axis=1) & (np.abs(x).max(axis=1) < BIG / 1e6)
    x, got = x[rows], got[rows]
    if not len(x):
        return
    exact = reference.dense(x, w.astype(np.float64) * scale.astype(np.float64), bias)
    ends = np.concatenate([x, np.zeros((len(x), 1))], axis=1)
    extent = ends.max(axis=1) - ends.min(axis=1)
    step = np.maximum(extent / 255, 2 * float(TINY))[:, None]
    slack = step * np.abs(w.astype(np.float64)).sum(axis=0) * float(scale[0])
    atol = slack + 1e-6 * (1 + np.abs(exact))
    assert (np.abs(got - exact) <= atol).all()


@float_matrix
@pytest.mark.parametrize("rounds", [0, 1, 2, 50])
def test_probe_fma(isa: str, rounds: int) -> None:
    """Chain i starts at i and becomes x / 2 + 1 each round, in every lane."""
    kernels = native.Kernels(isa)
    lanes = kernels.vector_floats
    total = np.zeros(1, np.float32)
    one_round = kernels.probe_fma(rounds=1, sum=total)
    done = kernels.probe_fma(rounds=rounds, sum=total)
    assert done == rounds * one_round
    chains = one_round // lanes
    assert chains >= 12, "enough to hide the latency"
    want = sum(lanes * ((i - 2) * 0.5**rounds + 2) for i in range(chains))
    assert total[0] == pytest.approx(want, rel=1e-6)


@byte_matrix
@pytest.mark.parametrize("rounds", [0, 1, 2, 50, 51])
def test_probe_dot(isa: str, rounds: int) -> None:
    """Each lane of chain i starts at i, and has 30 more after an odd number of rounds."""
    kernels = native.Kernels(isa)
    total = np.zeros(1, np.int32)
    one_round = kernels.probe_dot(rounds=1, sum=total)
    done = kernels.probe_dot(rounds=rounds, sum=total)
    assert done == rounds * one_round
    chains = one_round // (4 * kernels.vector_floats)
    assert chains >= 4, "enough to hide the latency"
    assert total[0] == kernels.vector_floats * sum(i + 30 * (rounds % 2) for i in range(chains))


@float_matrix
@pytest.mark.parametrize("n", [0, *LENGTHS, 5 * 448 + 13])
@pytest.mark.parametrize("passes", [1, 3])
def test_probe_read(isa: str, n: int, passes: int) -> None:
    """Every float is read once a pass, and nothing beside them."""
    x = Guarded(np.random.default_rng(n).integers(-9, 10, n).astype(np.float32))
    got = native.Kernels(isa).probe_read(x=x.data, n=n, passes=passes)
    assert got == passes * x.check().sum(dtype=np.float64)


def test_unknown_isa_is_an_error() -> None:
    with pytest.raises(ValueError, match="there is no mmx"):
        native.Kernels("mmx")


@given(st.binary(max_size=300), st.integers(0, 2**64 - 1))
def test_xxhash64(data: bytes, seed: int) -> None:
    import xxhash

    assert native.xxhash64(data, seed) == xxhash.xxh64_intdigest(data, seed)
