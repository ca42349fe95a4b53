"""Networks as TensorFlow's converter writes them to .tflite files, from Keras, in each way to store
weights; held against Keras, and against LiteRT on the file as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdigit
from fastdigit.errors import UnsupportedError
from tests.support import need
from tests.support.keras_models import functional, sequential, squeeze_excite

pytestmark = pytest.mark.slow

keras = need("keras")
tf = need("tensorflow")
interpreter = need("ai_edge_litert.interpreter")
need("tflite")
L = keras.layers


def convolutions() -> Any:
    return sequential(
        (16, 17, 3),
        L.Conv2D(5, (3, 2), strides=(2, 1), padding="same", activation="relu"),
        L.Conv2D(4, 2, dilation_rate=2, activation="elu"),
        L.DepthwiseConv2D(3, dilation_rate=2, padding="same", activation="relu6"),
        L.MaxPooling2D(2, padding="same"),
        L.SeparableConv2D(6, 3, padding="same", activation="silu"),
        L.AveragePooling2D(2, padding="same"),
        L.Flatten(),
        L.Dense(5, activation="softmax"),
    )


def batchnorm() -> Any:
    return sequential(
        (9, 8, 4),
        L.BatchNormalization(),
        L.Conv2D(4, 3, groups=2, activation="relu"),
        L.BatchNormalization(axis=1),
        L.Conv2D(4, 1, use_bias=False),
        L.BatchNormalization(),
        L.ReLU(),
        L.GlobalMaxPooling2D(),
        L.Dense(3, activation="sigmoid"),
        L.BatchNormalization(),
    )


def residual() -> Any:
    def build(source: Any) -> Any:
        x = first = L.Conv2D(8, 3, padding="same", activation="relu")(source)
        x = squeeze_excite(L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same")(x)), 8)
        x = L.Subtract()([L.Add()([x, first]), L.Multiply()([x, first])])
        x = L.Concatenate()([L.Maximum()([x, first]), L.Minimum()([x, first]), x])
        return L.Dense(5, activation="softmax")(L.GlobalAveragePooling2D()(x))

    return functional((10, 10, 3), build)


def activations() -> Any:
    names = ["gelu", "hard_silu", "hard_sigmoid", "softplus", "selu", "tanh", "softsign", "mish"]
    layers = [L.Conv2D(4, 3, padding="same"), L.PReLU(shared_axes=[1, 2]), L.PReLU()]
    layers += [L.Conv2D(4, 3, padding="same", activation=name) for name in names]
    layers += [L.LeakyReLU(0.3), L.ELU(0.5), L.Rescaling(2.0, -0.5), L.ReLU(3.0, 0.1)]
    return sequential((7, 7, 1), *layers, L.Flatten(), L.Dense(3))


def layernorm() -> Any:
    return sequential(
        (5, 6, 3),
        L.Conv2D(4, 2),
        L.LayerNormalization(),
        L.LayerNormalization(axis=[2, 3]),
        L.LayerNormalization(axis=[1, 2, 3]),
        L.Flatten(),
        L.Dense(6),
        L.LayerNormalization(),
        L.Dense(3),
    )


def images() -> Any:
    return sequential(
        (5, 6, 3),
        L.Normalization(mean=0.5, variance=4.0),
        L.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu"),
        L.UpSampling2D(2),
        L.UpSampling2D(2, interpolation="bilinear"),
        L.Conv2DTranspose(2, 2, strides=3),
        L.Resizing(17, 15),
        L.Resizing(9, 21, interpolation="nearest"),
        L.ZeroPadding2D(((1, 0), (2, 1))),
    )


def pixels() -> Any:
    return sequential(
        (5, 6, 3),
        L.Dense(4, activation="relu"),
        L.Dense(3),
        L.Softmax(axis=1),
        L.Permute((3, 1, 2)),
        L.Reshape((9, 10)),
        L.Dense(4),
        L.Flatten(),
        L.Dense(2),
    )


def sequence() -> Any:
    return sequential(
        (20, 3),
        L.Conv1D(4, 3, padding="same", activation="relu"),
        L.MaxPooling1D(2),
        L.Conv1D(4, 3, padding="causal", dilation_rate=2),
        L.SeparableConv1D(5, 3),
        L.Conv1DTranspose(4, 3, strides=2, padding="same"),
        L.UpSampling1D(2),
        L.AveragePooling1D(2),
        L.GlobalAveragePooling1D(),
        L.Dense(3, activation="softmax"),
    )


def wide() -> Any:
    """With weights that dynamic-range quantization stores as integers: 1024 and more."""
    return sequential(
        (16, 16, 1),
        L.Conv2D(32, 3, activation="relu"),
        L.Conv2D(32, 3, activation="relu"),
        L.DepthwiseConv2D(3),
        L.MaxPooling2D(2),
        L.Flatten(),
        L.Dense(40, activation="relu"),
        L.Dense(4, activation="softmax"),
    )


NETWORKS = (
    *(convolutions, batchnorm, residual, activations, layernorm, images, pixels, sequence, wide),
)


def convert(model: Any, folder: Path, mode: str) -> Path:
    model.export(folder / "model", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "model"))
    if mode != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if mode == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if mode == "integers":
        shape = (1, *model.inputs[0].shape[1:])
        batches = np.random.default_rng(0).uniform(0, 1, (4, *shape)).astype(np.float32)
        converter.representative_dataset = lambda: ([batch] for batch in batches)
    path = folder / f"{mode}.tflite"
    path.write_bytes(converter.convert())
    return path


def run_litert(path: Path, batch: np.ndarray) -> np.ndarray:
    """What LiteRT makes of the file as it is, as people run it."""
    session = interpreter.Interpreter(model_content=path.read_bytes(), num_threads=1)
    session.allocate_tensors()
    (source,), (output,) = session.get_input_details(), session.get_output_details()
    results = []
    for image in batch:
        session.set_tensor(source["index"], image[np.newaxis])
        session.invoke()
        results.append(session.get_tensor(output["index"])[0].copy())
    return np.stack(results)


#: Largest differences from Keras, and from LiteRT: as weights are rounded, and as LiteRT rounds the
#: values that it multiplies by integers.
BOUNDS = {"float32": (1e-5, 1e-5), "float16": (5e-3, 1e-5), "dynamic": (5e-2, 5e-2)}


@pytest.mark.parametrize("mode", BOUNDS)
@pytest.mark.parametrize("build", NETWORKS)
def test_networks(build: Callable[[], Any], mode: str, tmp_path: Path) -> None:
    model = build()
    path = convert(model, tmp_path, mode)
    result = fastdigit.compile(path, None)
    assert result.verification.reference.startswith("ai-edge-litert ")
    engine = fastdigit.Model(result.data)
    batch = np.random.default_rng(0).uniform(0, 1, (5, *model.inputs[0].shape[1:]))
    batch = batch.astype(np.float32)
    want = model.predict(batch, verbose=0)
    got = engine.run(batch.reshape(5, *engine.input_shape)).reshape(want.shape)
    scale = max(1.0, float(np.abs(want).max()))
    from_keras, from_litert = BOUNDS[mode]
    np.testing.assert_allclose(got, want, rtol=0, atol=from_keras * scale)
    np.testing.assert_allclose(got, run_litert(path, batch), rtol=0, atol=from_litert * scale)


def two_heads() -> Any:
    image, numbers = keras.Input((8, 8, 1), name="image"), keras.Input((3,), name="numbers")
    x = L.Flatten()(L.Conv2D(4, 3, activation="relu")(image))
    both = L.Dense(5, activation="softmax", name="class")(L.Concatenate()([x, numbers]))
    return keras.Model({"image": image, "numbers": numbers}, {"kind": both, "size": L.Dense(1)(x)})


def test_names_of_the_signature(tmp_path: Path) -> None:
    """Those of a .tflite file and of the SavedModel that it was made from are the same."""
    model = two_heads()
    path = convert(model, tmp_path, "float32")
    rng = np.random.default_rng(0)
    given = {"image": rng.random((3, 8, 8, 1)), "numbers": rng.random((3, 3))}
    given = {name: array.astype(np.float32) for name, array in given.items()}
    want = model.predict(given, verbose=0)
    for source in (path, tmp_path / "model"):
        compiled = fastdigit.Model(fastdigit.compile(source, None).data)
        assert compiled.inputs == {"image": (8, 8, 1), "numbers": (3,)}
        assert compiled.outputs == {"kind": (5,), "size": (1,)}
        got = compiled.run(given)
        for name, values in want.items():
            np.testing.assert_allclose(got[name], values, rtol=0, atol=1e-5)
        one = fastdigit.Model(fastdigit.compile(source, None, outputs=["size"]).data)
        assert (one.inputs, one.outputs) == ({"image": (8, 8, 1)}, {"size": (1,)})
        np.testing.assert_allclose(one.run(given["image"]), want["size"], rtol=0, atol=1e-5)


def test_sizes_that_keras_leaves_free(tmp_path: Path) -> None:
    """Of a .tflite file and of a SavedModel."""
    layers = L.Conv2D(4, 3, activation="relu"), L.GlobalAveragePooling2D(), L.Dense(2)
    model = sequential((None, None, 3), *layers)
    path = convert(model, tmp_path, "float32")
    images = np.random.default_rng(0).random((2, 9, 12, 3)).astype(np.float32)
    want = model.predict(images, verbose=0)
    for source in (path, tmp_path / "model"):
        with pytest.raises(UnsupportedError, match=r"input_shape=\(height, width, channels\)"):
            fastdigit.compile(source, None)
        compiled = fastdigit.compile(source, None, input_shape=(9, 12, 3))
        got = fastdigit.Model(compiled.data).run(images)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


def test_fully_quantized(tmp_path: Path) -> None:
    path = convert(wide(), tmp_path, "integers")
    with pytest.raises(UnsupportedError, match=r"fully quantized: .* integer kernels"):
        fastdigit.compile(path, None)


def test_operators_of_tensorflow(tmp_path: Path) -> None:
    """Which the converter leaves if allowed to, such as those of a recurrent layer."""
    model = sequential((6, 3), L.LSTM(4), L.Dense(2))
    model.export(tmp_path / "model", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "model"))
    kinds = tf.lite.OpsSet
    converter.target_spec.supported_ops = [kinds.TFLITE_BUILTINS, kinds.SELECT_TF_OPS]
    path = tmp_path / "net.tflite"
    path.write_bytes(converter.convert())
    with pytest.raises(UnsupportedError) as caught:
        fastdigit.compile(path, None)
    words = ("is not supported", "an operator of TensorFlow")
    assert all(any(word in reason for word in words) for reason in caught.value.reasons)
    assert "\n" not in str(caught.value)
