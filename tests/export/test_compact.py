"""A pruned Keras model, compacted: the same probabilities from fewer units."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from export import compact, to_onnx
from export.batches import network_input
from export.calibration import set_temperature, softmax
from export.compact import compact_model
from export.parity import TOLERANCE
from export.recipes import RECIPES, build_model
from fastdigit.datasets import load_mnist_test
from fastdigit.errors import UnsupportedError, VerificationError
from tests.support import need
from tests.support.keras_models import randomize_all

if TYPE_CHECKING:
    import keras

pytestmark = pytest.mark.slow

need("tensorflow", "keras", "onnx", "onnxruntime", "tf2onnx")

LAYERS = ("conv1", "conv2", "conv3", "dense1", "dense2")
LEFT = (16, 32, 40, 256)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return network_input(load_mnist_test()[0][:300])


def prune(model: keras.Model, left: Sequence[int], *, inwards: bool, seed: int = 4) -> keras.Model:
    """Zero the weights that read all but some units of each layer, and those they are made of."""
    random = np.random.default_rng(seed)
    for name, reader, keep in zip(LAYERS, LAYERS[1:], left, strict=False):
        layer, behind = model.get_layer(name), model.get_layer(reader)
        dead = random.permutation(layer.kernel.shape[-1])[keep:]
        if inwards:
            kernel, bias = layer.get_weights()
            kernel[..., dead] = 0.0
            bias[dead] = 0.0
            layer.set_weights([kernel, bias])
        kernel, bias = behind.get_weights()
        kernel.reshape(-1, layer.kernel.shape[-1], kernel.shape[-1])[:, dead] = 0.0
        behind.set_weights([kernel, bias])
    return model


def run_onnx(model: Any, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    if session.get_inputs()[0].shape[1] == 1:
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return session.run(None, {to_onnx.INPUT: x})[0]


@pytest.mark.parametrize("inwards", [True, False], ids=["in and out", "out"])
def test_a_pruned_seed_network(images: np.ndarray, inwards: bool) -> None:
    model = prune(randomize_all(build_model(RECIPES["seed"]), seed=0), LEFT, inwards=inwards)
    small = compact_model(model)
    assert [layer.name for layer in small.layers] == [layer.name for layer in model.layers]
    assert [small.get_layer(name).output.shape[-1] for name in LAYERS] == [*LEFT, 10]
    assert small.count_params() < 0.1 * model.count_params()
    for convert in (to_onnx.convert_nhwc, to_onnx.convert_nchw):
        want, got = run_onnx(convert(model), images), run_onnx(convert(small), images)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


def test_nothing_is_dead_in_another(images: np.ndarray) -> None:
    model = randomize_all(build_model(RECIPES["seed"]), seed=1)
    small = compact_model(model)
    for a, b in zip(model.get_weights(), small.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_constants_scales_and_missing_biases(images: np.ndarray) -> None:
    """Batch normalization of channels is sliced; a layer that had no bias gets one."""
    import keras
    from keras import layers

    source = keras.Input((28, 28, 1))
    x = layers.Conv2D(6, 3, strides=2, name="conv1")(source)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.ReLU()(x)
    x = layers.Conv2D(5, 3, use_bias=False, name="conv2")(x)
    x = layers.Activation("tanh")(x)
    x = layers.AveragePooling2D(2)(x)
    x = layers.Reshape((125,))(x)
    x = layers.Dense(12, activation="sigmoid", name="dense1")(x)
    x = layers.Dropout(0.5)(x)
    x = layers.Dense(10, activation="softmax", use_bias=False, name="dense2")(x)
    model = randomize_all(keras.Model(source, x), seed=2)
    for name, dead in (("conv1", [1, 4]), ("conv2", [0]), ("dense1", [3, 5, 11])):
        kernel, *bias = model.get_layer(name).get_weights()
        kernel[..., dead] = 0.0
        model.get_layer(name).set_weights([kernel, *bias])
    beta = model.get_layer("bn").beta
    beta.assign(np.abs(beta.numpy()) + 1)  # the dead channels are constants, but not zero
    small = compact_model(model)
    shapes = {layer.name: layer.output.shape[-1] for layer in small.layers}
    assert [shapes[n] for n in ("conv1", "bn", "conv2", "dense1", "dense2")] == [4, 4, 4, 9, 10]
    assert small.get_layer("conv2").use_bias and small.get_layer("dense2").use_bias
    want, got = (run_onnx(to_onnx.convert_nhwc(m), images) for m in (model, small))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


def test_what_is_refused() -> None:
    import keras
    from keras import layers

    inner = keras.Sequential([keras.Input((8,)), layers.Dense(4, name="d")], name="inner")
    with pytest.raises(UnsupportedError, match="'inner' is a model"):
        compact_model(keras.Sequential([keras.Input((8,)), inner, layers.Dense(2)]))
    scaled = [layers.Rescaling(np.ones(3), name="r"), layers.Flatten(), layers.Dense(2)]
    with pytest.raises(UnsupportedError, match="'r' rescales each channel"):
        compact_model(keras.Sequential([keras.Input((4, 4, 3)), *scaled]))


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_command(layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnx

    model = prune(randomize_all(build_model(RECIPES["seed"]), seed=3), LEFT, inwards=True)
    model.save(tmp_path / "pruned.keras")
    sizes = []
    for options in ([], ["--compact", "--temperature", "1.5"]):
        output = tmp_path / f"{len(options)}.onnx"
        paths = [str(tmp_path / "pruned.keras"), str(output)]
        assert to_onnx.main([*paths, "--layout", layout, *options]) == 0
        onnx.checker.check_model(str(output), full_check=True)
        sizes.append(output.stat().st_size)
    assert sizes[1] < 0.1 * sizes[0]
    operators = [node.op_type for node in onnx.load(output).graph.node]
    assert operators[operators.index("Softmax") - 1] == "Div"
    printed = capsys.readouterr().out
    assert f"{compact_model(model).count_params():,} of 1,886,250 parameters" in printed
    assert "labels of 10000 test digits identical" in printed


def test_a_wrong_temperature_is_found() -> None:
    model = to_onnx.convert_nchw(randomize_all(build_model(RECIPES["seed"]), seed=3))
    images, _ = load_mnist_test()
    tempered = set_temperature(model, 1.5)
    assert to_onnx.verify_temperature(tempered, model, 1.5, images[:50]) <= TOLERANCE
    with pytest.raises(VerificationError, match="ONNX Runtime and the softmax of its logits"):
        to_onnx.verify_temperature(tempered, model, 1.6, images[:50])


def test_keras_file(images: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import keras

    model = prune(randomize_all(build_model(RECIPES["seed"]), seed=3), LEFT, inwards=True)
    model.save(tmp_path / "pruned.keras")
    paths = [str(tmp_path / "pruned.keras"), str(tmp_path / "small.keras")]
    assert compact.main([*paths, "--temperature", "0.6"]) == 0
    assert "labels of 10000 test digits identical" in capsys.readouterr().out
    small = keras.saving.load_model(tmp_path / "small.keras")
    assert small.count_params() == compact_model(model).count_params()
    logits = keras.Model(model.inputs, model.layers[-2].output).predict(images, verbose=0)
    kernel, bias = (weight.astype(np.float64) for weight in model.layers[-1].get_weights())
    want = softmax(logits.astype(np.float64) @ kernel + bias, 0.6)
    np.testing.assert_allclose(small.predict(images, verbose=0), want, rtol=0, atol=1e-5)
    assert compact.main([*paths, "--temperature", "-1"]) == 1
    assert "temperature is -1" in capsys.readouterr().err


def test_keras_model_that_differs() -> None:
    import keras

    model = randomize_all(build_model(RECIPES["seed"]), seed=3)
    small = compact_model(model)
    bias = small.layers[-1].bias
    bias.assign(bias.numpy() + np.float32(1e-3) * np.arange(10, dtype=np.float32))
    with pytest.raises(VerificationError, match="the small model and 'seed' differ on"):
        compact.verify(small, model, 1.0, load_mnist_test()[0][:300])
    linear = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="last")])
    with pytest.raises(UnsupportedError, match="'last' is the last"):
        compact.fold_temperature(linear, 2.0)
