"""Resizing through everything: the engine, hostile files, ONNX and Keras, and ONNX again."""

from __future__ import annotations

import struct
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdigit import Model
from fastdigit.compiler.backends.fdm.listing import listing
from fastdigit.compiler.backends.fdm.pack import OPCODES, pack
from fastdigit.compiler.backends.fdm.unpack import unpack
from fastdigit.compiler.backends.onnx import to_onnx
from fastdigit.compiler.driver import compile_model
from fastdigit.compiler.frontends import import_model
from fastdigit.compiler.ops import LayerNorm, Resize
from fastdigit.compiler.ops.resize import COORDINATES, ROUNDINGS, positions
from fastdigit.compiler.passes import optimize
from fastdigit.errors import ModelFormatError, UnsupportedError
from tests.support import need, reference
from tests.support.compiler_cases import OnnxNet, engine, run_onnx
from tests.support.model_files import of_op, sealed
from tests.support.networks import Net, chain, dense, packed

# ---- The engine ----


@st.composite
def resizes(draw: st.DrawFn) -> tuple[tuple[int, ...], Resize]:
    shape = tuple(draw(st.integers(1, most)) for most in (9, 9, 20))

    def at(size: int) -> np.ndarray:
        whole = st.integers(0, size - 1).map(float)
        given = st.lists(whole | st.floats(0, size - 1, width=32), min_size=1, max_size=12)
        return np.array(draw(given), np.float32)

    return shape, Resize(at(shape[0]), at(shape[1]))


@given(case=resizes(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_any_positions(case: tuple[tuple[int, ...], Resize], seed: int) -> None:
    """Right, the same bits alone and among others, and copies where positions are whole."""
    shape, op = case
    graph = chain(shape, [op])
    x = np.random.default_rng(seed).random((3, *shape), np.float32)
    model = Model(packed(graph))
    got = model.run(x)
    np.testing.assert_allclose(got, reference.run_graph(graph, x), rtol=0, atol=2e-6)
    assert np.concatenate([model.run(x[i : i + 1]) for i in range(3)]).tobytes() == got.tobytes()
    whole = Resize(np.floor(op.rows), np.floor(op.columns))
    rows, columns = whole.rows.astype(int), whole.columns.astype(int)
    copied = Model(packed(chain(shape, [whole]))).run(x)
    assert copied.tobytes() == x[:, rows][:, :, columns].tobytes()


def test_it_describes_itself() -> None:
    data = packed(chain((4, 5, 3), [Resize(np.arange(8) // 2 * 1.0, np.linspace(0, 4, 3))]))
    assert data[10] == 2, "the minor version that has the operator"
    text = listing(unpack(data))
    assert "RESIZE" in text and "8x3x3" in text


def test_positions_must_be_in_the_image() -> None:
    good = np.zeros(2)
    for rows, columns, message in (
        (np.array([0, 4.0]), good, r"Resize has rows at 0.0 to 4.0, expected 0 to 3"),
        (good, np.array([-0.5]), r"Resize has columns at -0.5 to -0.5, expected 0 to 4"),
        (np.array([np.nan]), good, "Resize has rows at nan"),
        (np.zeros((2, 2)), good, "expected a position for each"),
        (good, np.zeros(0), "expected a position for each"),
    ):
        with pytest.raises(UnsupportedError, match=message):
            chain((4, 5, 3), [Resize(rows, columns)])
    with pytest.raises(UnsupportedError, match=r"needs .height, width, channels., got shape"):
        chain((4,), [Resize(good, good)])


# ---- Hostile files ----


def hostile() -> bytes:
    """INPUT, RESIZE of (2, 3, 1) to (3, 2, 1), DENSE, LAYERNORM."""
    rng = np.random.default_rng(0)
    net = Net((2, 3, 1))
    net.add(Resize(np.float32([0, 0.5, 1]), np.float32([2, 1.25])))
    net.add(dense(rng, 6, 3))
    net.add(LayerNorm(1e-3, rng.random(3, np.float32), rng.random(3, np.float32)))
    return packed(net.graph())


GOOD = hostile()
NONE, ROWS, COLUMNS = 0xFFFFFFFF, 24, 28  # no tensor; fields of the record


def index_of(i: int, field: int) -> int:
    """The tensor that a field of op i names."""
    (program,) = struct.unpack_from("<Q", GOOD, 64 + 32 * 2 + 8)
    return int(struct.unpack_from("<I", GOOD, program + 160 * i + field)[0])


def with_position(field: int, index: int, value: float) -> bytes:
    """One position changed."""
    out = bytearray(GOOD)
    tensors, weights = (struct.unpack_from("<Q", out, 72 + 32 * i)[0] for i in (1, 3))
    (offset,) = struct.unpack_from("<Q", out, tensors + 64 * index_of(1, field) + 32)
    struct.pack_into("<f", out, weights + offset + 4 * index, value)
    return sealed(out)


def with_field(field: int, value: int) -> bytes:
    return of_op(GOOD, 1, field, "I", value)


def of_a_vector() -> bytes:
    """The LAYERNORM of a vector is a RESIZE."""
    return of_op(of_op(GOOD, 3, 0, "I", OPCODES[Resize]), 3, 80, "f", 0.0)


UNUSED = {
    **{"input2": 8, "weights": 16, "bias": 20, "kernel": 32, "stride": 40, "dilation": 48},
    **{"pad": 56, "groups": 72, "activation": 76, "alpha": 80, "affine_axis": 84, "pool_mode": 88},
    **{"range_lo": 124, "u8_divisor": 132, "quantization": 136, "binary": 140},
    **{"concat_axis": 144, "pad_channels": 148, "perm": 156},
}
HOSTILE: dict[str, tuple[bytes, str]] = {
    "no rows": (with_field(ROWS, NONE), "scale of op 1 is not a weight vector"),
    "no columns": (with_field(COLUMNS, NONE), "shift of op 1 is not a weight vector"),
    "rows out of range": (with_field(ROWS, 10**6), "scale of op 1 is not a weight vector"),
    "rows an activation": (with_field(ROWS, 0), "scale of op 1 is not a weight vector"),
    "columns of panels": (with_field(COLUMNS, index_of(2, 16)), "shift of op 1 is not a weight"),
    "columns as rows": (with_field(ROWS, index_of(1, COLUMNS)), "position 2, expected 0 to 1"),
    "rows as columns": (with_field(COLUMNS, index_of(1, ROWS)), "op 1 is .3, 3, 1. by its fields"),
    "row below": (with_position(ROWS, 0, -0.25), "scale of op 1 has a position -0.25, expected 0"),
    "row beyond": (with_position(ROWS, 2, 1.0000001), "scale of op 1 has a position 1, expected 0"),
    "column below": (with_position(COLUMNS, 1, -1e-30), "shift of op 1 has a position -1e-30"),
    "column beyond": (with_position(COLUMNS, 1, 3e38), "shift of op 1 has a position 3e.38"),
    "row NaN": (with_position(ROWS, 1, np.nan), "holds a NaN or an infinity"),
    "column infinite": (with_position(COLUMNS, 0, np.inf), "holds a NaN or an infinity"),
    "of a vector": (of_a_vector(), "op 3 is a RESIZE of a rank-1 tensor"),
    **{f"with {name}": (with_field(at, 1), "does not use") for name, at in UNUSED.items()},
}


def test_the_good_file_is_good() -> None:
    assert Model(GOOD).run(np.zeros((2, 2, 3, 1), np.float32)).shape == (2, 3)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_is_refused(name: str) -> None:
    data, message = HOSTILE[name]
    with pytest.raises(ModelFormatError, match=message):
        Model(data)


def test_work_is_bounded() -> None:
    """Rows between others are made whole, however few of their columns are wanted."""
    rows = chain((2, 1 << 23, 1), [Resize(np.full(1 << 14, 0.5), np.zeros(1))])
    with pytest.raises(UnsupportedError, match="operations an image"):
        Model(packed(rows))


# ---- ONNX ----

#: Modes that are asked for: linear interpolation, or how the nearest is found.
MODES: dict[str, dict[str, Any]] = {
    "linear": {"mode": "linear"},
    **{f"nearest {rounding}": {"nearest_mode": rounding} for rounding in ROUNDINGS},
}
#: Up, down, by a half, to and from a single pixel, by what float32 cannot say.
SCALES = ((2, 2), (3, 1), (0.5, 0.5), (1.5, 2.5), (0.7, 1.3), (1, 0.6), (1 / 6, 1 / 5), (0.34, 3.7))


def held(net: OnnxNet, seed: int = 0) -> Any:
    """Compile a network, hold the engine to ONNX Runtime; return the program."""
    model = net.model()
    imported = import_model(model)
    data = pack(optimize(imported.graph), {})
    shape = [3, *net.shape[1:]]
    x = np.random.default_rng(seed).random(shape, np.float32)
    want = run_onnx(model, x)
    as_nhwc = imported.inputs[0].layout == "NCHW" and x.ndim == 4
    images = np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if as_nhwc else x
    got = Model(data).run(images)
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=0, atol=1e-5)
    return unpack(data)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", MODES)
def test_modes(mode: str, coordinates: str) -> None:
    need("onnx", "onnxruntime")
    options = {**MODES[mode], "coordinate_transformation_mode": coordinates}
    for scale in SCALES:
        scales = np.array([1, 1, *scale], np.float32)
        held(OnnxNet(("N", 2, 6, 5)).add("Resize", None, "", scales, **options))
    for size in ((9, 7), (12, 10), (1, 1), (4, 3), (6, 8), (5, 5)):
        sizes = np.array([*size], np.int64)
        held(OnnxNet(("N", 2, 6, 5)).add("Resize", None, "", "", sizes, axes=[2, 3], **options))


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_which_of_two_neighbours_is_the_nearest(rounding: str, coordinates: str) -> None:
    """ONNX Runtime's, for many sizes: where a position lies half-way, the last bit would decide."""
    onnx, onnxruntime = need("onnx"), need("onnxruntime")
    helper = onnx.helper
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    outs = range(1, 49)
    options = {"coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
    for size in (1, 2, 3, 7, 10, 13, 14, 18, 21, 24):
        nodes, constants, outputs = [], [], []
        for out in outs:
            constants.append(onnx.numpy_helper.from_array(np.array([out]), f"s{out}"))
            nodes.append(
                helper.make_node(
                    "Resize",
                    ["x", "", "", f"s{out}"],
                    [f"y{out}"],
                    mode="nearest",
                    axes=[3],
                    **options,
                )
            )
            outputs.append(helper.make_tensor_value_info(f"y{out}", 1, [1, 1, 1, out]))
        image = helper.make_tensor_value_info("x", 1, [1, 1, 1, size])
        graph = helper.make_graph(nodes, "g", [image], outputs, constants)
        opsets = [helper.make_opsetid("", 18)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        session = onnxruntime.InferenceSession(model.SerializeToString(), quiet)
        found = session.run(None, {"x": np.arange(size, dtype=np.float32).reshape(1, 1, 1, size)})
        for out, want in zip(outs, found, strict=True):
            if out != size:  # which ONNX Runtime copies
                got = positions(coordinates, rounding, size, out)
                np.testing.assert_array_equal(got, want.ravel(), err_msg=f"{size} to {out}")


def test_sizes_as_pytorch_computes_them() -> None:
    """``interpolate(x, scale_factor=2)`` and ``size=``, with a batch that is not known."""
    need("onnx", "onnxruntime")
    half = {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}
    net = OnnxNet(("N", 2, 4, 5)).conv(2, 3, (3, 3), pads=[1, 1, 1, 1])
    image = net.last
    net.add("Shape", None)
    batch_and_channels = net.add(*("Slice", None, np.array([0]), np.array([2]), np.array([0]))).last
    net.add("Concat", batch_and_channels, np.array([8, 10]), axis=0)
    program = held(net.add("Resize", image, "", "", None, **half))
    # The last one because an image that is returned keeps its order of axes.
    kinds = ["CONV2D", "RESIZE", "TRANSPOSE"]
    assert [record.opcode for record in program.records[1:]] == kinds


def test_sequences_and_images_with_their_channels_last() -> None:
    need("onnx", "onnxruntime")
    scales = np.array([1, 1, 2.5], np.float32)
    held(OnnxNet(("N", 3, 8)).add("Resize", None, "", scales, mode="linear"))
    sizes = np.array([4, 20], np.int64)
    net = OnnxNet(("N", 7, 8, 3)).add("Resize", None, "", "", sizes, axes=[1, 2], mode="linear")
    held(net.add("Transpose", None, perm=[0, 3, 1, 2]).conv(3, 2, (2, 2)))


def test_nothing_to_do() -> None:
    need("onnx", "onnxruntime")
    net = OnnxNet(("N", 2, 6, 5)).add("Resize", None, "", np.ones(4, np.float32)).add("Relu")
    assert [record.opcode for record in held(net).records[1:]] == ["ELTWISE"]


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ((2, 2), {"mode": "cubic"}, r"mode=cubic; supported is nearest, linear"),
        (
            (2, 2),
            {"coordinate_transformation_mode": "tf_crop_and_resize"},
            "coordinate_transformation_mode=tf_crop_and_resize; supported is half_pixel, ",
        ),
        (
            (2, 2),
            {"coordinate_transformation_mode": "half_pixel_symmetric"},
            "half_pixel_symmetric; supported is half_pixel, asymmetric, align_corners, ",
        ),
        ((2, 2), {"nearest_mode": "simple"}, "nearest_mode=simple; supported is round_prefer"),
        ((0.5, 0.5), {"antialias": 1, "mode": "linear"}, "antialias=1; supported is 0"),
        ((2, 2), {"keep_aspect_ratio_policy": "not_larger"}, "policy=not_larger; supported is str"),
        ((0.1, 1), {}, "axis 2 of size 6 becomes one of 0.6; supported is 1 to 16777216"),
        ((1e30, 1), {}, "axis 2 of size 6 becomes one of 6e.30; supported is 1 to"),
        ((np.nan, 1), {}, "axis 2 of size 6 becomes one of nan"),
        ((2e3, 2e3), {}, "has more than 16777216 elements"),
    ],
)
def test_refused(inputs: tuple[float, ...], options: dict[str, Any], message: str) -> None:
    need("onnx")
    scales = np.array([1, 1, *inputs], np.float32)
    net = OnnxNet(("N", 2, 6, 5)).add("Resize", None, "", scales, **options)
    with pytest.raises(UnsupportedError, match=message) as refused:
        import_model(net.model(infer=False))
    assert "node 'resize0' (Resize): " in str(refused.value) or "resize0" in str(refused.value)


def test_refused_axes() -> None:
    need("onnx")
    for scales, message in (
        ([2, 1, 1, 1], "another size of the batch; supported is the batch as it is"),
        ([1, 2, 1, 2], r"another size of axes \[1, 3\] of rank 4; supported is that of two neigh"),
        ([1, 2, 2, 2], r"another size of axes \[1, 2, 3\] of rank 4"),
    ):
        net = OnnxNet(("N", 2, 6, 5)).add("Resize", None, "", np.array(scales, np.float32))
        with pytest.raises(UnsupportedError, match=message):
            import_model(net.model(infer=False))
    net = OnnxNet(("N", 2, 6, 5)).add("Resize", None, "", "", np.array([4, 2, 6, 5]))
    with pytest.raises(UnsupportedError, match="another size of the batch"):
        import_model(net.model(infer=False))
    net = OnnxNet(("N", 2, 6, 5)).add("Resize", None, "", np.ones(3, np.float32))
    with pytest.raises(ModelFormatError, match=r"expected 4 scales or sizes|not a valid ONNX"):
        import_model(net.model(check=False, infer=False))
    net = OnnxNet(("N", 2, 6, 5)).add("Resize", None)
    with pytest.raises(ModelFormatError, match=r"expected 4 scales or sizes|not a valid ONNX"):
        import_model(net.model(check=False, infer=False))


@pytest.mark.parametrize("repeats", [(1, 1, 1, 1), (1, 1, 2, 3), (1, 2, 1, 1), (1, 3, 2, 2)])
def test_tile(repeats: tuple[int, ...]) -> None:
    need("onnx", "onnxruntime")
    held(OnnxNet(("N", 2, 4, 3)).add("Relu").add("Tile", None, np.array(repeats)).add("Neg"))


def test_nearest_neighbours_of_tf2onnx() -> None:
    """Rows and columns with a new axis behind them, along which they are repeated."""
    need("onnx", "onnxruntime")
    net = OnnxNet(("N", 2, 4, 3)).conv(2, 5, (1, 1)).add("Unsqueeze", None, np.array([3]))
    net.add("Tile", None, np.array([1, 1, 1, 2, 1])).add("Reshape", None, np.array([-1, 5, 8, 3]))
    net.add("Unsqueeze", None, np.array([4])).add("Tile", None, np.array([1, 1, 1, 1, 3]))
    net.add("Reshape", None, np.array([-1, 5, 8, 9])).conv(5, 2, (3, 3)).add("Flatten")
    held(net.gemm(2 * 6 * 7, 3))


def test_refused_tiles() -> None:
    need("onnx")
    for repeats, message in (
        ([2, 1, 1, 1], r"repeats \[2, 1, 1, 1\]; supported is one for each axis, 1 for the batch"),
        ([1, 1, 0, 1], r"repeats \[1, 1, 0, 1\]"),
        ([1, 1, 1], r"repeats \[1, 1, 1\]"),
        ([1, 1 << 20, 1 << 20, 1], "supported is up to 16777216 elements"),
    ):
        net = OnnxNet(("N", 2, 4, 3)).add("Tile", None, np.array(repeats))
        with pytest.raises(UnsupportedError, match=message):
            import_model(net.model(check=len(repeats) == 4, infer=False))


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", MODES)
def test_written_as_onnx_again(mode: str, coordinates: str) -> None:
    """By its mode where there is one, and by what that does where not; with the same results."""
    onnx = need("onnx", "onnxruntime")
    options = {**MODES[mode], "coordinate_transformation_mode": coordinates}
    x = np.random.default_rng(0).random((2, 2, 6, 5), np.float32)
    for scale in SCALES:
        net = OnnxNet(("N", 2, 6, 5))
        net.add("Resize", None, "", np.array([1, 1, *scale], np.float32), **options)
        nodes = optimize(import_model(net.model()).graph).nodes
        (op,) = (node.op for node in nodes if isinstance(node.op, Resize))
        written = to_onnx(chain((6, 5, 2), [op]))
        onnx.checker.check_model(written, full_check=True)
        kinds = {node.op_type for node in written.graph.node}
        if coordinates != "tf_half_pixel_for_nn" and all(
            float(size * by).is_integer() for size, by in zip((6, 5), scale, strict=True)
        ):
            assert kinds == {"Resize"}
        np.testing.assert_allclose(run_onnx(written, x), run_onnx(net.model(), x), atol=1e-6)
    swapped = chain((6, 5, 2), [Resize(np.arange(5.0, -1, -1), np.array([0.5, 4, 1.25]))])
    written = to_onnx(swapped)
    assert {node.op_type for node in written.graph.node} == {"Gather", "Sub", "Mul", "Add"}
    want = reference.run_graph(swapped, x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(run_onnx(written, x), want, atol=1e-6)


def unet(net: OnnxNet, **options: Any) -> OnnxNet:
    """Down twice and up twice, with what each size had before beside what comes back."""
    around = {"pads": [1, 1, 1, 1]}
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    first = net.conv(1, 4, (3, 3), **around).add("Relu").last
    second = net.add("MaxPool", None, **pool).conv(4, 8, (3, 3), **around).add("Relu").last
    net.add("MaxPool", None, **pool).conv(8, 16, (3, 3), **around).add("Relu")
    scales = np.array([1, 1, 2, 2], np.float32)
    net.add("Resize", None, "", scales, **options).add("Concat", second, None, axis=1)
    net.conv(24, 8, (3, 3), **around).batchnorm(8).add("Relu")
    net.add("Resize", None, "", scales, **options).add("Concat", None, first, axis=1)
    return net.conv(12, 3, (1, 1)).add("Sigmoid")


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_unet_of_pytorch(mode: str) -> None:
    """As PyTorch exports ``Upsample``: no image is transposed, but for the one that is returned."""
    need("onnx", "onnxruntime")
    options = {
        "nearest": {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        "linear": {"coordinate_transformation_mode": "align_corners", "mode": "linear"},
    }[mode]
    net = unet(OnnxNet(("N", 1, 28, 28)), **options)
    program = held(net)
    kinds = [record.opcode for record in program.records[1:]]
    assert kinds.index("TRANSPOSE") == len(kinds) - 1
    assert kinds.count("RESIZE") == kinds.count("CONCAT") == 2
    assert unpack(compile_model(net.model(), None, engine=engine).data).records == program.records


# ---- Keras ----


def keras_model(shape: tuple[int, ...], *layers: Any) -> Any:
    keras = need("keras")
    return keras.Sequential([keras.Input(shape), *layers])


def held_to_keras(model: Any) -> Any:
    """Compile a model, hold the engine to Keras; return the program."""
    data = compile_model(model, None, engine=engine).data
    x = np.random.default_rng(0).random((2, *model.input_shape[1:]), np.float32)
    want = np.asarray(model.predict(x, verbose=0))
    np.testing.assert_allclose(Model(data).run(x), want, rtol=0, atol=1e-5)
    return unpack(data)


@pytest.mark.slow
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_keras_layers(interpolation: str) -> None:
    layers = need("keras").layers
    for size in (2, (3, 1), (1, 4)):
        upsampling = layers.UpSampling2D(size, interpolation=interpolation)
        held_to_keras(keras_model((5, 4, 3), upsampling))
    for out in product((1, 3, 5, 8, 13), (2, 4, 11)):
        held_to_keras(keras_model((5, 4, 2), layers.Resizing(*out, interpolation=interpolation)))
    held_to_keras(keras_model((6, 3), layers.UpSampling1D(3), layers.Conv1D(2, 2)))
    # tf2onnx writes another size here; it is not to be the judge.
    held_to_keras(keras_model((3, 1, 1), layers.UpSampling2D((4, 3)), layers.Resizing(4, 5)))


@pytest.mark.slow
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_keras_export(interpolation: str, tmp_path: Path) -> None:
    """As ``model.export`` writes them: nearest neighbours of UpSampling2D are tiles."""
    layers = need("keras").layers
    need("tf2onnx", "onnxruntime")
    options = {"interpolation": interpolation}
    small, large = layers.UpSampling2D((2, 3), **options), layers.Resizing(9, 13, **options)
    model = keras_model((4, 3, 2), layers.Conv2D(4, 2), small, large, layers.Conv2D(2, 3))
    x = np.random.default_rng(0).random((2, 4, 3, 2), np.float32)
    want = np.asarray(model(x))
    model.export(tmp_path / "net.onnx", format="onnx", verbose=False)
    compiled = compile_model(tmp_path / "net.onnx", None, engine=engine)
    np.testing.assert_allclose(Model(compiled.data).run(x), want, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_keras_refused() -> None:
    layers = need("keras").layers
    for layer, message in (
        (layers.UpSampling2D(2, interpolation="bicubic"), "interpolation='bicubic'; supported is"),
        (layers.Resizing(4, 4, interpolation="lanczos3"), "interpolation='lanczos3'; supported"),
        (layers.Resizing(4, 4, crop_to_aspect_ratio=True), "crop_to_aspect_ratio=True; supported"),
        (layers.Resizing(4, 4, pad_to_aspect_ratio=True), "pad_to_aspect_ratio=True; supported is"),
        (layers.Resizing(4, 4, antialias=True), "antialias=True; supported is False"),
    ):
        with pytest.raises(UnsupportedError, match=message):
            import_model(keras_model((5, 4, 3), layer))


@pytest.mark.slow
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_unet_of_keras(interpolation: str, tmp_path: Path) -> None:
    keras = need("keras")
    layers = keras.layers

    def conv(channels: int) -> Any:
        return layers.Conv2D(channels, 3, padding="same", activation="relu")

    image = keras.Input((28, 28, 1))
    first = conv(4)(image)
    second = conv(8)(layers.MaxPooling2D()(first))
    x = conv(16)(layers.MaxPooling2D()(second))
    x = layers.UpSampling2D(interpolation=interpolation)(x)
    x = layers.BatchNormalization()(conv(8)(layers.Concatenate()([second, x])))
    x = layers.UpSampling2D(interpolation=interpolation)(x)
    x = layers.Conv2D(3, 1, activation="sigmoid")(layers.Concatenate()([x, first]))
    model = keras.Model(image, x)
    kinds = [record.opcode for record in held_to_keras(model).records]
    assert kinds.count("RESIZE") == 2
    model.save(tmp_path / "unet.keras")
    again = compile_model(tmp_path / "unet.keras", None, engine=engine)
    assert [record.opcode for record in unpack(again.data).records] == kinds
