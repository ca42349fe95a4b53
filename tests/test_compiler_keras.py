"""The Keras front end; and that it makes the same program as the ONNX front end."""

import numpy as np
import pytest

from compiler_cases import engine
from fastdigit.compiler.driver import compile_model
from fastdigit.compiler.frontends import import_model
from fastdigit.compiler.passes import optimize
from fastdigit.compiler.unpack import unpack
from fastdigit.errors import ModelFormatError, UnsupportedError

pytestmark = pytest.mark.slow

keras = pytest.importorskip("keras")
tf2onnx = pytest.importorskip("tf2onnx")
tf = pytest.importorskip("tensorflow")
L = keras.layers


def sequential(shape, *layers, seed=0):
    """A model with random weights, gammas of both signs among them."""
    model = keras.Sequential([keras.Input(shape), *layers])
    return randomize(model, seed)


def randomize(model, seed=0):
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        path, shape = variable.path, variable.shape
        if "variance" in path:
            variable.assign(rng.uniform(0.5, 2.0, shape))
        elif "kernel" in path:
            variable.assign(rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1])))
        elif "seed" not in path:
            variable.assign(rng.normal(size=shape) * (1.0 if "gamma" in path else 0.2))
    return model


def to_onnx(model):
    signature = [tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32, name="input")]
    function = tf.function(lambda x: model(x, training=False), input_signature=signature)
    return tf2onnx.convert.from_function(function, input_signature=signature, opset=18)[0]


def both(model):
    """Compile through both front ends; assert that the programs are the same; return one."""
    first = unpack(compile_model(model, None, engine=engine).data)
    second = unpack(compile_model(to_onnx(model), None, engine=engine).data)
    assert first.records == second.records
    for mine, theirs in zip(first.graph.nodes, second.graph.nodes, strict=True):
        for name in ("weights", "bias"):
            left, right = getattr(mine.op, name, None), getattr(theirs.op, name, None)
            if left is not None:
                np.testing.assert_allclose(left, right, rtol=2e-6, atol=1e-6)
    return first.records[1:]


def ops(records):
    return [record.opcode for record in records]


def test_seed_network():
    records = both(
        sequential(
            (28, 28, 1),
            L.Conv2D(32, 3, activation="relu"),
            L.MaxPooling2D(2),
            L.ZeroPadding2D(1),
            L.Conv2D(48, 3, activation="relu"),
            L.BatchNormalization(axis=1, epsilon=1e-6),
            L.MaxPooling2D(2),
            L.ZeroPadding2D(1),
            L.Conv2D(64, 2, activation="relu"),
            L.BatchNormalization(axis=1, epsilon=1e-6),
            L.MaxPooling2D(2),
            L.Dropout(0.25),
            L.Flatten(),
            L.Dense(3168, activation="relu"),
            L.Dense(10, activation="softmax"),
        )
    )
    assert ops(records) == ["CONV2D"] * 3 + ["DENSE"] * 2 + ["SOFTMAX"]
    assert [record.affine_axis for record in records[:3]] == ["none", "height", "height"]
    assert [record.output_shape for record in records] == [
        (13, 13, 32),
        (6, 6, 48),
        (3, 3, 64),
        (3168,),
        (10,),
        (10,),
    ]
    assert records[1].pad == (1, 1, 1, 1)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_lenet5(activation):
    records = both(
        sequential(
            (28, 28, 1),
            L.Conv2D(6, 5, padding="same", activation=activation),
            L.AveragePooling2D(2),
            L.Conv2D(16, 5, activation=activation),
            L.AveragePooling2D(2),
            L.Conv2D(120, 5, activation=activation),
            L.Flatten(),
            L.Dense(84, activation=activation),
            L.Dense(10, activation="softmax"),
        )
    )
    assert ops(records) == ["CONV2D"] * 3 + ["DENSE"] * 2 + ["SOFTMAX"]
    assert [record.pool_mode for record in records[:3]] == ["average", "average", "none"]


def test_simple_convnet():
    """The network of the Keras example "Simple MNIST convnet"."""
    records = both(
        sequential(
            (28, 28, 1),
            L.Conv2D(32, kernel_size=(3, 3), activation="relu"),
            L.MaxPooling2D(pool_size=(2, 2)),
            L.Conv2D(64, kernel_size=(3, 3), activation="relu"),
            L.MaxPooling2D(pool_size=(2, 2)),
            L.Flatten(),
            L.Dropout(0.5),
            L.Dense(10, activation="softmax"),
        )
    )
    assert ops(records) == ["CONV2D", "CONV2D", "DENSE", "SOFTMAX"]


def test_odd_sizes_three_channels_strides_and_same_padding():
    records = both(
        sequential(
            (19, 14, 3),
            L.Conv2D(5, (3, 2), strides=(2, 3), padding="same", use_bias=False),
            L.BatchNormalization(),
            L.ReLU(),
            L.MaxPooling2D((3, 2), strides=(1, 2), padding="same"),
            L.Conv2D(4, 2, dilation_rate=(2, 1), activation="selu"),
            L.AveragePooling2D(3, strides=2, padding="same"),
            L.Flatten(),
            L.Dense(3),
        )
    )
    assert ops(records) == ["CONV2D", "CONV2D", "DENSE"]
    assert records[0].bias, "the batch normalization is folded"


@pytest.mark.parametrize("axis", [1, 2, 3, -1])
@pytest.mark.parametrize("after", [False, True])
def test_batch_normalization_of_any_axis_before_and_after_the_activation(axis, after):
    layers = [L.BatchNormalization(axis=axis), L.ReLU()]
    model = sequential(
        (9, 8, 2),
        L.Conv2D(4, 3, use_bias=False),
        *(layers[::-1] if after else layers),
        L.MaxPooling2D(2),
        L.Flatten(),
        L.Dense(3, activation="sigmoid"),
    )
    records = both(model)
    fused = after or axis in (3, -1)
    assert ops(records) == (
        ["CONV2D", "DENSE"] if fused else ["CONV2D", "ELTWISE", "POOL2D", "DENSE"]
    )


def test_batch_normalization_elsewhere():
    """Of the input, after a pooling (negative scales), of features."""
    records = both(
        sequential(
            (8, 8, 2),
            L.BatchNormalization(scale=False),
            L.Conv2D(3, 3, padding="same", activation="relu"),
            L.MaxPooling2D(2),
            L.BatchNormalization(center=False),
            L.Conv2D(4, 3, padding="same", activation="relu"),
            L.Flatten(),
            L.BatchNormalization(),
            L.Dense(6),
            L.BatchNormalization(),
            L.Activation("tanh"),
            L.BatchNormalization(),
            L.Dense(3, activation="softmax"),
        )
    )
    assert ops(records) == ["ELTWISE", "CONV2D", "ELTWISE", "CONV2D"] + ["DENSE"] * 2 + ["SOFTMAX"]


def test_activation_layers():
    records = both(
        sequential(
            (9, 9, 1),
            L.Conv2D(2, 2),
            L.LeakyReLU(negative_slope=0.1),
            L.Conv2D(2, 2),
            L.ELU(),
            L.Conv2D(2, 2),
            L.ReLU(negative_slope=0.2),
            L.Conv2D(2, 2, activation="leaky_relu"),
            L.Conv2D(2, 2, activation="elu"),
            L.Activation("linear"),
            L.Flatten(),
            L.Dense(4, activation="linear"),
            L.Softmax(),
        )
    )
    assert [record.activation for record in records[:5]] == (
        ["leaky_relu", "elu", "leaky_relu", "leaky_relu", "elu"]
    )
    assert records[0].alpha == np.float32(0.1)


def test_elu_of_another_scale():
    """The exporter takes this one apart, so only the Keras front end reads it."""
    model = sequential((4,), L.Dense(3), L.ELU(alpha=0.7), L.Dense(2))
    program = unpack(compile_model(model, None, engine=engine).data)
    assert program.records[1].activation == "elu"
    assert program.records[1].alpha == np.float32(0.7)


def test_training_only_layers_are_nothing():
    records = both(
        sequential(
            (6, 6, 2),
            L.GaussianNoise(0.1),
            L.SpatialDropout2D(0.1),
            L.Conv2D(2, 2),
            L.ActivityRegularization(l2=0.1),
            L.Identity(),
            L.Flatten(),
            L.AlphaDropout(0.1),
            L.GaussianDropout(0.1),
            L.Dense(2),
        )
    )
    assert ops(records) == ["CONV2D", "DENSE"]


@pytest.mark.parametrize("shape", [(784,), (28, 28)])
def test_reshaped_inputs(shape):
    model = sequential(
        shape,
        L.Rescaling(0.5, offset=0.25),
        L.Reshape((28, 28, 1)),
        L.Conv2D(2, 3, strides=3, activation="relu"),
        L.Flatten(),
        L.Dense(4),
    )
    records = both(model)
    assert ops(records) == ["CONV2D", "DENSE"]
    assert records[0].input_shape == (28, 28, 1)


def test_mlp():
    records = both(sequential((28, 28), L.Flatten(), L.Dense(9, activation="relu"), L.Dense(3)))
    assert ops(records) == ["DENSE", "DENSE"]
    assert records[0].input_shape == (28, 28, 1)


def test_global_pooling():
    for layer in (L.GlobalAveragePooling2D(), L.GlobalMaxPooling2D()):
        records = both(sequential((7, 6, 2), L.Conv2D(3, 2, activation="relu"), layer, L.Dense(2)))
        assert ops(records) == ["CONV2D", "DENSE"]


def test_permute():
    records = both(
        sequential((4, 5, 3), L.Conv2D(2, 2), L.Permute((3, 1, 2)), L.Flatten(), L.Dense(2))
    )
    assert ops(records) == ["CONV2D", "DENSE"]


def test_functional_nested_and_shared():
    inner = keras.Sequential([keras.Input((6, 6, 2)), L.Conv2D(2, 3, padding="same")])
    shared = L.ReLU()
    x = source = keras.Input((6, 6, 2))
    x = shared(inner(x))
    x = shared(inner(x))
    model = randomize(keras.Model(source, L.Dense(3)(L.Flatten()(x)), name="nested"))
    records = both(model)
    assert ops(records) == ["CONV2D", "CONV2D", "DENSE"]
    assert import_model(model).name == "nested"


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_files(tmp_path, suffix):
    model = sequential((6, 6, 1), L.Conv2D(2, 3, activation="relu"), L.Flatten(), L.Dense(3))
    path = tmp_path / f"model{suffix}"
    model.save(path)
    assert compile_model(path, None, engine=engine).data == (
        compile_model(model, None, engine=engine).data
    )


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_damaged_files(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"not a model")
    with pytest.raises(ModelFormatError, match=rf"model\{suffix}: Keras cannot load this file"):
        compile_model(path, None, engine=engine)


def test_without_onnx_runtime_keras_is_the_reference(monkeypatch):
    import builtins

    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "tf2onnx":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    model = sequential((6, 6, 1), L.Conv2D(2, 3, activation="relu"), L.Flatten(), L.Dense(3))
    result = compile_model(model, None, engine=engine)
    assert result.verification.reference == f"keras {keras.__version__}"


class Strange(L.Layer):
    def call(self, x):
        return x


class ReLU(L.Layer):
    """A layer of the user's that only has the name of one of Keras'."""

    def call(self, x):
        return -x


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [Strange(name="odd")],
            r"layer 'odd' \(Strange\) is not supported; supported are InputLayer",
        ),
        ([ReLU(name="mine")], r"layer 'mine' \(ReLU\) is not supported"),
        ([L.Conv2DTranspose(2, 2, name="up")], r"'up' \(Conv2DTranspose\) is not supported"),
        ([L.DepthwiseConv2D(2, name="dw")], r"'dw' \(DepthwiseConv2D\) is not supported"),
        ([L.Conv2D(4, 2, groups=2, name="g")], "'g' .*groups=2; supported is 1"),
        ([L.Conv2D(2, 2, activation="gelu", name="c")], "'c' .*activation 'gelu' .*supported are"),
        ([L.ReLU(max_value=6.0, name="r6")], "'r6' .*max_value=6"),
        ([L.Softmax(axis=1, name="s")], "'s' .*axis=1"),
        ([L.Activation("softmax", name="s")], "'s' .*Softmax is supported over a vector"),
        ([L.Dense(3, name="d")], "'d' .*each row of shape .*add a Flatten"),
        ([L.LayerNormalization(name="ln")], r"'ln' \(LayerNormalization\) is not supported"),
        ([L.MaxPooling2D(2, data_format="channels_first", name="p")], "'p' .*channels_first"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0].name,
)
def test_refuses(layers, message):
    model = keras.Sequential([keras.Input((6, 6, 2)), *layers])
    with pytest.raises(UnsupportedError, match=message):
        optimize(import_model(model).graph)


def test_refuses_branches():
    source = keras.Input((6, 6, 2))
    model = keras.Model(source, L.Add(name="join")([L.ReLU()(source), source]))
    with pytest.raises(UnsupportedError, match=r"layer 'join' \(Add\) joins 2 branches"):
        import_model(model)


def test_refuses_several_outputs():
    source = keras.Input((6,), name="a")
    model = keras.Model(source, [L.Dense(1)(source), L.Dense(2)(source)], name="two")
    with pytest.raises(UnsupportedError, match="'two' has 1 inputs and 2 outputs"):
        import_model(model)


def test_refuses_unknown_sizes_and_unbuilt_models():
    with pytest.raises(UnsupportedError, match=r"takes inputs of shape \(None, None, 6, 1\)"):
        import_model(keras.Sequential([keras.Input((None, 6, 1)), L.Conv2D(1, 2)]))
    with pytest.raises(UnsupportedError, match="expected a built Sequential or functional"):
        import_model(keras.Sequential([L.Dense(3)]))
