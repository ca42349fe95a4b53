"""Networks as Keras' own ``model.export`` writes them, to ONNX and to a SavedModel."""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdigit
from fastdigit import cli
from fastdigit.compiler.backends.fdm.unpack import unpack
from fastdigit.errors import MissingExtraError, ModelFormatError, UnsupportedError
from tests.support import need
from tests.support.compiler_cases import run_onnx
from tests.support.keras_models import functional, sequential, squeeze_excite

pytestmark = pytest.mark.slow

keras = need("keras")
onnx = need("onnx")
tf = need("tensorflow")
L = keras.layers


def convolutions() -> Any:
    return sequential(
        (9, 10, 3),
        L.Conv2D(5, (3, 2), strides=(2, 1), padding="same", activation="relu"),
        L.Conv2D(4, 2, dilation_rate=2, activation="elu"),
        L.MaxPooling2D(2, padding="same"),
        L.Conv2D(4, 3, padding="same", activation="selu"),
        L.AveragePooling2D(2),
        L.Flatten(),
        L.Dense(5, activation="softmax"),
    )


def batchnorm(axis: int) -> Any:
    return sequential(
        (9, 8, 2),
        L.BatchNormalization(),
        L.Conv2D(4, 3, activation="relu"),
        L.BatchNormalization(axis=axis),
        L.MaxPooling2D(2),
        L.Flatten(),
        L.Dense(3, activation="sigmoid"),
    )


def grey() -> Any:
    return sequential(
        (28, 28, 1),
        L.Rescaling(0.5, offset=0.25),
        L.Conv2D(4, 3, activation="relu"),
        L.MaxPooling2D(2),
        L.Flatten(),
        L.Dropout(0.5),
        L.Dense(10, activation="softmax"),
    )


def separable() -> Any:
    return sequential(
        (9, 8, 4),
        L.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="relu6"),
        L.SeparableConv2D(6, 3, strides=2, activation="silu"),
        L.GlobalAveragePooling2D(),
        L.Dense(3),
    )


def residual() -> Any:
    def build(source: Any) -> Any:
        x = first = L.Conv2D(8, 3, padding="same", activation="relu")(source)
        x = L.DepthwiseConv2D(3, padding="same")(x)
        x = squeeze_excite(L.BatchNormalization()(x), 8)
        x = L.ReLU(max_value=6.0)(L.Add()([x, first]))
        x = L.Concatenate()([L.Conv2D(4, 1)(x), x])
        return L.Dense(5, activation="softmax")(L.GlobalAveragePooling2D()(x))

    return functional((10, 10, 3), build)


def layernorm(axis: Any) -> Any:
    return sequential(
        (5, 6, 3),
        L.Conv2D(4, 2),
        L.LayerNormalization(axis=axis),
        L.Flatten(),
        L.Dense(6),
        L.LayerNormalization(),
        L.Dense(3),
    )


def activations() -> Any:
    names = ["gelu_tanh", "relu6", "hard_silu", "hard_sigmoid", "softplus", "tanh", "leaky_relu"]
    layers = [L.Conv2D(4, 3, padding="same"), L.PReLU(shared_axes=[1, 2])]
    for name in names:
        function: Any = name
        if name == "gelu_tanh":
            function = lambda x: keras.ops.gelu(x, approximate=True)  # noqa: E731
        layers.append(L.Conv2D(4, 3, padding="same", activation=function))
    return sequential((7, 7, 1), *layers, L.Flatten(), L.Dense(3))


def pixels() -> Any:
    return sequential(
        (5, 6, 3),
        L.Dense(4, activation="relu"),
        L.Dense(3),
        L.Softmax(axis=1),
        L.ZeroPadding2D(((1, 0), (2, 1))),
        L.Permute((3, 1, 2)),
        L.Flatten(),
        L.Dense(2),
    )


def mlp() -> Any:
    return sequential((28, 28), L.Flatten(), L.Dense(9, activation="relu"), L.Dense(3))


def image() -> Any:
    return sequential((8, 8, 3), L.Conv2D(4, 3, padding="same"), L.Conv2D(2, 1))


def gelu() -> Any:
    """Exact, which Keras computes with erfc."""
    return sequential((7, 7, 1), L.Conv2D(4, 3, activation="gelu"), L.Flatten(), L.Dense(3))


def groups() -> Any:
    """In a function for XLA."""
    return sequential((9, 8, 4), L.Conv2D(6, 3, groups=2), L.GlobalMaxPooling2D(), L.Dense(3))


def normalization() -> Any:
    """Whose mean and variance are constants that the function captures."""
    layer = L.Normalization(mean=0.5, variance=4.0)
    return sequential((6, 6, 3), layer, L.Conv2D(2, 3), L.Flatten())


#: By name, with how many TRANSPOSE operators the compiled network may have.
NETWORKS: dict[str, tuple[Callable[[], Any], int]] = {
    "convolutions": (convolutions, 0),
    "batchnorm-rows": (lambda: batchnorm(1), 0),
    "batchnorm-columns": (lambda: batchnorm(2), 0),
    "batchnorm-channels": (lambda: batchnorm(3), 0),
    "grey": (grey, 0),
    "separable": (separable, 0),
    "residual": (residual, 0),
    "layernorm-channels": (lambda: layernorm(-1), 0),
    "layernorm-rows": (lambda: layernorm([2, 3]), 0),
    "layernorm-all": (lambda: layernorm([1, 2, 3]), 0),
    "activations": (activations, 0),
    "pixels": (pixels, 1),
    "mlp": (mlp, 0),
    "image": (image, 0),
}


def compiled(path: Path, model: Any, transposes: int = 0) -> tuple[fastdigit.Model, np.ndarray]:
    """Compile an export; hold it against Keras; return it, and images."""
    result = fastdigit.compile(path, None)
    engine = fastdigit.Model(result.data)
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 1, (5, *model.inputs[0].shape[1:])).astype(np.float32)
    got = engine.run(images.reshape(5, *engine.input_shape))
    want = model.predict(images, verbose=0)
    scale = max(1.0, float(np.abs(want).max()))
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=0, atol=1e-5 * scale)
    found = [record.opcode for record in unpack(result.data).records]
    assert found.count("TRANSPOSE") <= transposes
    return engine, images


def export(model: Any, path: Path, **options: Any) -> Path:
    model(np.zeros((1, *model.inputs[0].shape[1:]), np.float32))  # Keras asks for it
    model.export(path, verbose=False, **options)
    return path


@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_of_keras(name: str, tmp_path: Path) -> None:
    build, transposes = NETWORKS[name]
    model = build()
    path = export(model, tmp_path / "model.onnx", format="onnx")
    engine, images = compiled(path, model, transposes)
    want = run_onnx(renamed(onnx.load(path)), images)
    got = engine.run(images.reshape(5, *engine.input_shape)).reshape(want.shape)
    scale = max(1.0, float(np.abs(want).max()))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * scale)


def renamed(model: Any) -> Any:
    """With the input named as run_onnx expects it."""
    old = model.graph.input[0].name
    model.graph.input[0].name = "input"
    for node in model.graph.node:
        node.input[:] = ["input" if name == old else name for name in node.input]
    return model


@pytest.mark.parametrize(
    ("build", "operator"), [(gelu, "Erfc"), (groups, "StatefulPartitionedCall")]
)
def test_onnx_that_no_runtime_can_run(build: Callable[[], Any], operator: str, tmp_path: Path):
    path = export(build(), tmp_path / "model.onnx", format="onnx")
    with pytest.raises(UnsupportedError, match=rf"\({operator}\): ONNX has no such operator"):
        fastdigit.compile(path, None)


@pytest.mark.parametrize("name", ["residual", "layernorm-channels", "pixels", "grey"])
def test_saved_model(name: str, tmp_path: Path) -> None:
    build, transposes = NETWORKS[name]
    model = build()
    compiled(export(model, tmp_path / "model"), model, transposes)


@pytest.mark.parametrize("build", [gelu, groups, normalization])
def test_saved_model_of_what_onnx_does_not_have(build: Callable[[], Any], tmp_path: Path) -> None:
    model = build()
    compiled(export(model, tmp_path / "model"), model)


def test_saved_model_of_tensorflow(tmp_path: Path) -> None:
    """tf.saved_model.save of a Keras model."""
    model = grey()
    tf.saved_model.save(model, str(tmp_path / "model"))
    compiled(tmp_path / "model", model)


class Module(tf.Module):
    """A network without Keras."""

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        self.kernel = tf.Variable(rng.normal(size=(3, 3, 2, 4)).astype(np.float32) / 4)
        self.weights = tf.Variable(rng.normal(size=(144, 3)).astype(np.float32) / 12)

    def images(self, x: Any) -> Any:
        x = tf.nn.relu(tf.nn.conv2d(x, self.kernel, 1, "VALID"))
        return tf.nn.softmax(tf.reshape(x, (-1, 144)) @ self.weights)

    def pair(self, x: Any) -> Any:
        y = self.images(x)
        return {"scores": y, "double": y * 2.0}

    def loop(self, x: Any) -> Any:
        return tf.while_loop(lambda y: tf.reduce_sum(y) < 9.0, lambda y: (y + 1.0,), (x,))[0]

    def two(self, x: Any, y: Any) -> Any:
        return self.images(x + y)


def save(path: Path, method: str, *shapes: Any, dtype: Any = tf.float32, name: str = "own") -> Path:
    module = Module()
    arguments = [tf.TensorSpec(shape, dtype, f"x{i}") for i, shape in enumerate(shapes)]
    function = tf.function(getattr(module, method), input_signature=arguments)
    tf.saved_model.save(module, str(path), signatures={name: function} if name else None)
    return path


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_saved_model_of_a_function(batch: int | None, tmp_path: Path) -> None:
    """Of any name, if it is the only one; of a fixed batch."""
    result = fastdigit.compile(save(tmp_path / "model", "images", (batch, 8, 8, 2)), None)
    assert result.verification.reference == f"tensorflow {tf.__version__}"
    assert result.verification.samples == 64
    assert result.meta["source"] == {"kind": "savedmodel", "layout": "NHWC", "shape": [8, 8, 2]}
    assert result.meta["name"] == "model"


IMAGE = (None, 8, 8, 2)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("images", IMAGE), {"name": ""}, "has no signatures; expected serving_default or serve"),
        (("loop", IMAGE), {}, r"recurrent layers are loops, .* compile the \.keras or \.h5 file"),
        (("images", (None, None, None, 2)), {}, r"'x0.*' has shape \['\?', '\?', '\?', 2\]"),
    ],
    ids=["signature", "loop", "size"],
)
def test_refused_saved_models(arguments: Any, options: Any, message: str, tmp_path: Path) -> None:
    path = save(tmp_path / "model", *arguments, **options)
    with pytest.raises(UnsupportedError, match=message):
        fastdigit.compile(path, None)


def test_several_inputs_and_outputs_of_a_function(tmp_path: Path) -> None:
    path, module = save(tmp_path / "pair", "pair", IMAGE), Module()
    images = np.random.default_rng(0).random((3, 8, 8, 2)).astype(np.float32)
    found = fastdigit.Model(fastdigit.compile(path, None).data).run(images)
    for name, values in module.pair(images).items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-5)
    path = save(tmp_path / "two", "two", IMAGE, IMAGE)
    both = fastdigit.Model(fastdigit.compile(path, None).data)
    assert list(both.inputs) == ["x0", "x1"]
    want = module.two(images, images[::-1])
    got = both.run({"x1": np.ascontiguousarray(images[::-1]), "x0": images})
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


def test_refuses_another_signature_or_type(tmp_path: Path) -> None:
    module = Module()
    spec = tf.TensorSpec((None, 8, 8, 2), tf.uint8, "x")
    function = tf.function(lambda x: module.images(tf.cast(x, tf.float32)), input_signature=[spec])
    path = tmp_path / "model"
    tf.saved_model.save(module, str(path), signatures={"one": function, "two": function})
    with pytest.raises(UnsupportedError, match=r"has signatures \['one', 'two'\]; expected"):
        fastdigit.compile(path, None)
    tf.saved_model.save(module, str(path), signatures=function)
    taken = fastdigit.Model(fastdigit.compile(path, None).data)  # bytes, as they are
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 2), dtype=np.uint8)
    want = module.images(tf.constant(images.astype(np.float32)))
    np.testing.assert_allclose(taken.run(images), want, rtol=0, atol=1e-5)
    spec = tf.TensorSpec((None, 8, 8, 2), tf.int32, "x")
    function = tf.function(lambda x: module.images(tf.cast(x, tf.float32)), input_signature=[spec])
    tf.saved_model.save(module, str(path), signatures=function)
    with pytest.raises(UnsupportedError, match=r"input 'x.*' has type INT32; supported are FLOAT"):
        fastdigit.compile(path, None)


def test_refuses_operators_that_cannot_be_converted(tmp_path: Path) -> None:
    module = tf.Module()
    spec = tf.TensorSpec((None, 8), tf.float32, "x")
    function = tf.function(lambda x: tf.math.lgamma(x + 1.0), input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=function)
    with pytest.raises(UnsupportedError, match="operators Lgamma have no equivalent"):
        fastdigit.compile(tmp_path / "model", None)


def test_damaged_directories(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"a directory without saved_model\.pb"):
        fastdigit.compile(tmp_path, None)
    (tmp_path / "saved_model.pb").write_bytes(b"not a model")
    with pytest.raises(ModelFormatError, match="TensorFlow cannot load it"):
        fastdigit.compile(tmp_path, None)


def test_without_the_converter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    original = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "tf2onnx":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r'pip install "fastdigit\[export\]"'):
        fastdigit.compile(tmp_path, None)


def test_saved_model_from_the_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "net.v1", "images", (None, 8, 8, 2))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["compile", f"net.v1{os.sep}"]) == 0
    assert "net.v1.fdm" in capsys.readouterr().out
    assert cli.main(["verify", "net.v1.fdm", "net.v1"]) == 0
    assert "net.v1.fdm computes what net.v1 does" in capsys.readouterr().out


def test_saved_model_with_the_state_of_an_optimizer(tmp_path: Path) -> None:
    """Keras 2 saved slots of variables, for objects that TensorFlow's own loader has no class for:
    the graph is loaded without the objects."""
    from tensorflow.core.protobuf import saved_model_pb2

    path = save(tmp_path / "model", "images", IMAGE, name="serving_default")
    file = path / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    nodes = saved.meta_graphs[0].object_graph_def.nodes
    first, second = (i for i, node in enumerate(nodes) if node.WhichOneof("kind") == "variable")
    nodes[0].slot_variables.add(
        original_variable_node_id=first, slot_name="m", slot_variable_node_id=second
    )
    module = tf.saved_model.load(path)
    images = np.random.default_rng(0).uniform(0, 1, (3, 8, 8, 2)).astype(np.float32)
    (want,) = module.signatures["serving_default"](x0=tf.constant(images)).values()
    file.write_bytes(saved.SerializeToString())
    with pytest.raises(AttributeError, match="add_slot"):
        tf.saved_model.load(path)
    result = fastdigit.compile(path, None)
    assert result.verification.reference == f"tensorflow {tf.__version__}"
    assert result.meta["source"] == {"kind": "savedmodel", "layout": "NHWC", "shape": [8, 8, 2]}
    got = fastdigit.Model(result.data).run(images)
    np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=1e-6)
