"""The Keras front end; and that it makes the same program as the ONNX front end."""

import numpy as np
import pytest

import fastdigit
from fastdigit.compiler.backends.fdm.unpack import unpack
from fastdigit.compiler.driver import compile_model
from fastdigit.compiler.frontends import import_model
from fastdigit.compiler.frontends.keras.evaluate import evaluate
from fastdigit.compiler.frontends.keras.files import read_file
from fastdigit.compiler.passes import optimize
from fastdigit.errors import UnsupportedError
from tests.support import need
from tests.support.compiler_cases import engine
from tests.support.keras_models import functional, randomize, sequential, squeeze_excite

pytestmark = pytest.mark.slow

keras = need("keras")
tf2onnx = need("tf2onnx")
tf = need("tensorflow")
L = keras.layers


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


def branched(model):
    """As both, for branches: which of them comes first is the exporter's choice."""
    first = unpack(compile_model(model, None, engine=engine).data)
    second = unpack(compile_model(to_onnx(model), None, engine=engine).data)
    assert sorted(map(repr, first.records)) == sorted(map(repr, second.records))
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


def test_sequences():
    records = both(
        sequential(
            (20, 3),
            L.Conv1D(8, 5, padding="same", activation="relu"),
            L.BatchNormalization(),
            L.MaxPooling1D(2),
            L.SpatialDropout1D(0.5),
            L.Conv1D(8, 3, dilation_rate=2, activation="tanh"),
            L.GlobalAveragePooling1D(),
            L.Dense(3, activation="softmax"),
        )
    )
    assert ops(records) == ["CONV2D", "CONV2D", "DENSE", "SOFTMAX"]
    assert [record.output_shape for record in records[:2]] == [(1, 10, 8), (1, 1, 8)]


@pytest.mark.parametrize(
    "layers",
    [
        [L.Conv1D(4, 3, strides=2, padding="same")],
        [L.Conv1D(4, 3, dilation_rate=2, padding="causal", activation="relu")],
        [L.Conv1D(4, 3, groups=2)],
        [L.DepthwiseConv1D(3, depth_multiplier=2, padding="same", activation="relu")],
        [L.SeparableConv1D(5, 3, activation="sigmoid")],
        [L.AveragePooling1D(3, 2, padding="same")],
        [L.MaxPooling1D(3, 2)],
        [L.GlobalMaxPooling1D(keepdims=True), L.Activation("tanh")],
        [L.ZeroPadding1D((1, 2)), L.Conv1D(4, 3)],
        [L.Dense(7, activation="gelu")],
        [L.Dense(7), L.LayerNormalization(), L.Softmax()],
        [L.BatchNormalization(axis=1), L.Softmax(axis=1)],
        [L.Permute((2, 1)), L.Dense(5), L.PReLU()],
        [L.LSTM(4), L.RepeatVector(7), L.LSTM(3, return_sequences=True), L.Dense(2)],
        [L.Reshape((5, 2, 2, 3)), L.Permute((1, 4, 3, 2)), L.Dense(2)],
        [L.LayerNormalization(axis=(1, 2)), L.Flatten(), L.Dense(4)],
    ],
    ids=lambda layers: "-".join(type(layer).__name__ for layer in layers),
)
def test_layers_of_sequences(layers):
    """Verified against Keras on the way; the result has the shape that Keras gives it."""
    model = sequential((10, 6), *layers)
    program = unpack(compile_model(model, None, engine=engine).data)
    shape = program.graph.shapes[program.graph.output]
    assert tuple(program.meta.get("output", {"shape": shape})["shape"]) == model.output_shape[1:]


def test_branches_of_sequences():
    source = keras.Input((12, 4))
    x = L.Conv1D(4, 3, padding="same", activation="relu")(source)
    x = L.Add()([source, L.Dense(4)(x)])
    gate = L.Dense(4, activation="sigmoid")(L.GlobalAveragePooling1D(keepdims=True)(x))
    x = L.Concatenate()([L.Multiply()([x, gate]), L.MaxPooling1D(3, 1, padding="same")(x)])
    model = randomize(keras.Model(source, L.Dense(5)(L.Flatten()(x))))
    for source in (model, to_onnx(model)):
        records = unpack(compile_model(source, None, engine=engine).data).records
        assert not {"TRANSPOSE", "RESHAPE"} & set(ops(records)) and len(records) == 10


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


def bn_in_a_model_within():
    inner = keras.Sequential(
        [keras.Input((6, 6, 2)), L.Conv2D(2, 3, padding="same"), L.BatchNormalization()], name="in"
    )
    source = keras.Input((6, 6, 2))
    x = L.Add()([inner(inner(source)), source * 0.5 + 1.0])
    x = keras.ops.relu(1.0 - x)
    return randomize(keras.Model(source, L.Dense(3, activation="hard_sigmoid")(L.Flatten()(x))))


FILES = {
    "plain": lambda: sequential(
        (6, 6, 1), L.Conv2D(2, 3, activation="relu"), L.Flatten(), L.Dense(3)
    ),
    "nested": bn_in_a_model_within,
    "separable": lambda: sequential(
        (9, 8, 4),
        L.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="relu6"),
        L.SeparableConv2D(6, 3, strides=2, activation="silu"),
        L.PReLU(shared_axes=[1, 2]),
        L.BatchNormalization(axis=1, scale=False),
        L.LeakyReLU(negative_slope=0.2),
        L.GlobalAveragePooling2D(),
        L.Dense(3, activation="gelu"),
        L.LayerNormalization(),
    ),
    "transposed": lambda: sequential(
        (5, 6, 3),
        L.Conv2DTranspose(4, 3, strides=2, padding="same"),
        L.Conv2DTranspose(2, (2, 4), strides=3, padding="same", output_padding=1),
        L.UpSampling2D(2, interpolation="bilinear"),
        L.Resizing(11, 13),
        L.GroupNormalization(2),
        L.ZeroPadding2D(((1, 0), (2, 1))),
        L.AveragePooling2D(3, 2, padding="same"),
    ),
    "sequence": lambda: sequential(
        (20, 3),
        L.Conv1D(8, 5, padding="causal", dilation_rate=2, activation="elu"),
        L.Conv1DTranspose(4, 3, strides=2),
        L.UpSampling1D(2),
        L.MaxPooling1D(3, 2, padding="same"),
        L.SeparableConv1D(5, 3, activation="softplus"),
        L.Permute((2, 1)),
        L.Dense(7, activation="selu"),
        L.Softmax(axis=1),
    ),
    "recurrent": lambda: sequential(
        (9, 5),
        L.Bidirectional(L.LSTM(4, return_sequences=True)),
        L.GRU(5, return_sequences=True, reset_after=False, recurrent_activation="hard_sigmoid"),
        L.Bidirectional(L.GRU(4, return_sequences=True), merge_mode="ave"),
        L.TimeDistributed(L.Dense(6, activation="mish")),
        L.SimpleRNN(4, go_backwards=True, return_sequences=True, activation="relu"),
        L.Cropping1D((1, 2)),
        L.Bidirectional(L.LSTM(3, use_bias=False), merge_mode="sum"),
        L.Dense(3, activation="log_softmax"),
    ),
    "last-state": lambda: sequential(
        (12, 10, 3),
        L.Cropping2D(((1, 2), (0, 1))),
        L.CenterCrop(8, 6),
        L.TimeDistributed(L.Flatten()),
        L.Bidirectional(L.SimpleRNN(3), merge_mode="concat"),
        L.Reshape((3, 2)),
        L.LSTM(4, go_backwards=True, activation="softsign"),
        L.Dense(2, activation="exponential"),
    ),
    "channels-first": lambda: sequential(
        (2, 9, 8),
        L.Conv2D(4, 3, data_format="channels_first", activation="tanh"),
        L.BatchNormalization(axis=1),
        L.ZeroPadding2D(1, data_format="channels_first"),
        L.SeparableConv2D(3, 2, data_format="channels_first"),
        L.GlobalMaxPooling2D(data_format="channels_first"),
        L.Dense(2),
    ),
}


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".weights.h5"])
@pytest.mark.parametrize("name", FILES)
def test_files(name, suffix, tmp_path):
    """What a file says, evaluated and compiled, is what Keras computes."""
    model = FILES[name]()
    path, architecture = tmp_path / f"model{suffix}", None
    if suffix == ".weights.h5":
        model.save_weights(path)
        architecture = tmp_path / "model.json"
        architecture.write_text(model.to_json())
    else:
        model.save(path)
    images = np.random.default_rng(0).random((4, *model.input_shape[1:])).astype(np.float32)
    want = model(images).numpy() if model.input_shape[1] != 2 else None  # not on CPUs
    if want is not None:
        got = evaluate(read_file(path, architecture), [images])[0]
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)
    data = compile_model(path, None, engine=engine, architecture=architecture).data
    if want is not None:
        same = compile_model(model, None, engine=engine).data
        assert unpack(data).records == unpack(same).records


def test_a_model_in_memory_is_held_against_keras():
    model = sequential((6, 6, 1), L.Conv2D(2, 3, activation="relu"), L.Flatten(), L.Dense(3))
    result = compile_model(model, None, engine=engine)
    assert result.verification.reference == f"keras {keras.__version__}"


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_a_model_of_half_precision_is_held_against_its_layers(policy):
    """Keras is off by the rounding of its own type."""
    layers = [
        L.Conv2D(4, 3, activation="relu", dtype=policy),
        L.BatchNormalization(dtype=policy),
        L.Flatten(),
        L.Dense(3, activation="softmax", dtype="float32"),
    ]
    model = randomize(sequential((8, 8, 1), *layers))
    found = compile_model(model, None, engine=engine).verification
    assert found.reference.startswith("the source in float64 (numpy ")
    assert found.reference.endswith(f"; Keras computes it in {policy.removeprefix('mixed_')})")
    assert found.max_error <= 1e-5


def test_a_model_that_keras_cannot_run_here_is_held_against_its_layers():
    """TensorFlow has no kernels for NCHW on CPUs, but for those that oneDNN brings."""
    model = randomize(FILES["channels-first"]())
    found = compile_model(model, None, engine=engine).verification
    assert found.max_error <= 1e-5

    def predict(*_arguments, **_options):
        raise tf.errors.UnimplementedError(None, None, "only supports NHWC")

    model.predict = predict
    found = compile_model(model, None, engine=engine).verification
    assert found.reference.endswith("; Keras cannot run it here)")
    assert found.max_error <= 1e-5


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
            r"layer 'odd' \(Strange\) is not supported$",
        ),
        ([ReLU(name="mine")], r"layer 'mine' \(ReLU\) is not supported"),
        ([L.UnitNormalization(name="unit")], r"'unit' \(UnitNormalization\) is not supported"),
        ([L.Conv2D(2, 2, activation="celu", name="c")], "'c' .*activation 'celu' .*supported are"),
        ([L.ReLU(threshold=1.0, name="r")], "'r' .*threshold=1"),
        ([L.Softmax(axis=(1, 2), name="s")], "'s' .*axis="),
        (
            [
                L.Reshape((36, 2)),
                L.LSTM(2, stateful=False, return_state=False, name="l"),
                L.Reshape((1, 1, 2)),
                L.ConvLSTM1D(2, 1, name="u"),
            ],
            r"'u' \(ConvLSTM1D\) is a recurrent",
        ),
        ([L.LayerNormalization(axis=1, name="ln")], "'ln' .*axis=.* supported is the last"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0].name,
)
def test_refuses(layers, message):
    model = keras.Sequential([keras.Input((6, 6, 2)), *layers])
    with pytest.raises(UnsupportedError, match=message):
        optimize(import_model(model).graph)


def test_tells_all_that_it_refuses():
    """Also what is behind a layer that is not supported: its shape is known."""
    image = keras.Input((6, 6, 2))
    odd = Strange(name="odd")(L.Conv2D(3, 3, activation="celu", name="c")(image))
    inner = keras.Sequential(
        [keras.Input((4, 4, 3)), L.Reshape((4, 4, 3)), L.ConvLSTM1D(2, 4, name="l"), L.Flatten()]
    )
    model = keras.Model(image, L.Dense(2, name="d")(inner(odd)))
    with pytest.raises(UnsupportedError, match=r"'c' .* \(and 2 more; `fastdigit check") as caught:
        import_model(model)
    first, second, third = caught.value.reasons
    assert "activation 'celu'" in first
    assert second == "layer 'odd' (Strange) is not supported"
    assert third == "layer 'l' (ConvLSTM1D) is a recurrent layer, which is not supported"
    assert "'d' (Dense)" in caught.value.nodes[-1].name


def test_refuses_operations_and_joins_that_it_does_not_know():
    source = keras.Input((6, 6, 2))
    with pytest.raises(UnsupportedError, match=r"operation .*\(Sin\) is not supported"):
        import_model(keras.Model(source, keras.ops.sin(source)))
    dot = L.Dot(axes=1, name="dot")([L.Flatten()(source), L.Flatten()(source)])
    with pytest.raises(UnsupportedError, match=r"layer 'dot' \(Dot\) is not supported"):
        import_model(keras.Model(source, dot))
    with pytest.raises(UnsupportedError, match="division by the image"):
        import_model(keras.Model(source, 1.0 / source))
    joined = L.Concatenate(axis=0, name="batch")([source, source])
    with pytest.raises(UnsupportedError, match=r"'batch' .*axis=0"):
        import_model(keras.Model(source, joined))


def test_residual_squeeze_excite_network():
    def build(source):
        x = L.Conv2D(8, 3, padding="same", use_bias=False)(source)
        x = first = L.ReLU()(L.BatchNormalization()(x))
        x = L.SeparableConv2D(8, 3, padding="same", use_bias=False)(x)
        x = L.Activation("silu")(L.BatchNormalization()(x))
        x = L.BatchNormalization()(L.Conv2D(8, 3, padding="same", groups=2)(x))
        x = squeeze_excite(x, 8)
        x = L.ReLU()(L.Add()([x, first]))
        y = L.Conv2D(4, 1, strides=2)(x)
        z = L.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2)(x)
        x = L.Concatenate()([y, z])
        x = L.LayerNormalization()(x)
        return L.Dense(5, activation="softmax")(L.GlobalMaxPooling2D()(x))

    model = functional((10, 10, 3), build)
    result = compile_model(model, None, engine=engine)
    # The exporter leaves convolutions of groups as TensorFlow has them.
    assert result.verification.reference.startswith("keras ")
    names = ops(unpack(result.data).records[1:])
    assert "TRANSPOSE" not in names
    assert names.count("BINARY") == 2 and names.count("CONCAT") == 1


def test_residual_network_from_both():
    def build(source):
        x = first = L.Conv2D(8, 3, padding="same", activation="relu")(source)
        x = L.DepthwiseConv2D(3, padding="same")(x)
        x = squeeze_excite(L.BatchNormalization()(x), 8)
        x = L.ReLU(max_value=6.0)(L.Add()([x, first]))
        x = L.Concatenate()([L.Conv2D(4, 1)(x), x])
        return L.Dense(5, activation="softmax")(L.GlobalAveragePooling2D()(x))

    assert "TRANSPOSE" not in ops(branched(functional((10, 10, 3), build)))


@pytest.mark.parametrize(
    "join", ["Add", "Subtract", "Multiply", "Maximum", "Minimum", "Average", "Concatenate"]
)
def test_joins(join):
    def build(source):
        left = L.Conv2D(3, 3, activation="tanh")(source)
        right = L.Conv2D(3, 3, activation="relu")(source)
        parts = [left, right] if join == "Subtract" else [left, right, left]
        return L.Dense(3)(L.Flatten()(getattr(L, join)()(parts)))

    records = branched(functional((6, 6, 2), build))
    assert "TRANSPOSE" not in ops(records)


def test_arithmetic_with_operators():
    def build(source):
        x = L.Conv2D(3, 3)(source * 2.0 + 1.0)
        return L.Dense(3)(L.Flatten()((1.0 - x) / 4.0 + x * x - x))

    model = functional((6, 6, 2), build)
    for source in (model, to_onnx(model)):
        program = unpack(compile_model(source, None, engine=engine).data)
        assert "BINARY" in ops(program.records)


@pytest.mark.parametrize(
    "activation",
    ["relu6", "gelu", "silu", "swish", "hard_silu", "hard_sigmoid", "softplus", "elu", "selu"],
)
def test_activations_of_layers(activation):
    model = sequential((7, 7, 1), L.Conv2D(3, 3, activation=activation), L.Flatten(), L.Dense(3))
    program = unpack(compile_model(model, None, engine=engine).data)
    assert ops(program.records[1:]) == ["CONV2D", "DENSE"]
    if activation != "gelu":  # which the exporter does not know
        compile_model(to_onnx(model), None, engine=engine)


@pytest.mark.parametrize("shared", [None, [1, 2]])
def test_prelu(shared):
    model = sequential(
        (7, 7, 1), L.Conv2D(3, 3), L.PReLU(shared_axes=shared), L.MaxPooling2D(2), L.Flatten()
    )
    program = unpack(compile_model(model, None, engine=engine).data)
    assert ops(program.records[1:]) == ["CONV2D", "BINARY", "POOL2D", "RESHAPE"]
    compile_model(to_onnx(model), None, engine=engine)  # which has it as two relus


def test_clipped_relus():
    model = sequential((7, 7, 1), L.ReLU(max_value=0.5), L.ReLU(0.25, negative_slope=0.1))
    unpack(compile_model(model, None, engine=engine).data)


def test_normalization():
    layer = L.Normalization()
    layer.adapt(np.random.default_rng(0).normal(2.0, 3.0, size=(50, 6, 6, 3)))
    fixed = L.Normalization(mean=0.5, variance=4.0, invert=True)
    for first in (layer, fixed):
        model = keras.Sequential([keras.Input((6, 6, 3)), first, L.Conv2D(2, 3), L.Flatten()])
        program = unpack(compile_model(model, None, engine=engine).data)
        assert ops(program.records[1:]) == ["CONV2D", "RESHAPE"]


@pytest.mark.parametrize("axis", [-1, [1, 2, 3], [2, 3]])
def test_layer_normalization(axis):
    model = sequential((5, 6, 3), L.Conv2D(4, 2), L.LayerNormalization(axis=axis), L.Flatten())
    records = unpack(compile_model(model, None, engine=engine).data).records
    assert "LAYERNORM" in ops(records)


def test_softmax_and_dense_of_pixels():
    model = sequential(
        (5, 6, 3), L.Dense(4, activation="relu"), L.Softmax(), L.Softmax(axis=1), L.Flatten()
    )
    unpack(compile_model(model, None, engine=engine).data)


def test_an_image_as_output():
    model = sequential((8, 8, 1), L.Conv2D(4, 3, padding="same"), L.Conv2D(2, 1))
    assert ops(both(model)) == ["CONV2D", "CONV2D"]


def test_several_inputs_and_outputs(tmp_path):
    a, b = keras.Input((6, 5, 1), name="picture"), keras.Input((3,), name="facts")
    joined = L.Concatenate()([L.Flatten()(L.Conv2D(2, 3, activation="relu")(a)), b])
    digit = L.Dense(4, activation="softmax", name="digit")(joined)
    odd = L.Dense(1, activation="sigmoid", name="odd")(joined)
    model = keras.Model([a, b], [digit, odd], name="two")
    rng = np.random.default_rng(5)
    images = {
        "picture": rng.random((7, 6, 5, 1)).astype(np.float32),
        "facts": rng.random((7, 3)).astype(np.float32),
    }
    wants = [np.asarray(out) for out in model([images["picture"], images["facts"]])]
    model.save(tmp_path / "two.keras")
    model.save(tmp_path / "two.h5")
    for source in (model, tmp_path / "two.keras", tmp_path / "two.h5"):
        fastdigit.compile(source, tmp_path / "two.fdm")
        compiled = fastdigit.load(tmp_path / "two.fdm")
        got = compiled.run(images)
        assert sorted(compiled.outputs) == sorted(got) and len(got) == 2
        for found, want in zip(got.values(), wants, strict=True):
            np.testing.assert_allclose(found, want, rtol=0, atol=1e-6)


def test_refuses_unknown_sizes_and_unbuilt_models():
    with pytest.raises(UnsupportedError, match=r"takes inputs of shape \(None, None, 6, 1\)"):
        import_model(keras.Sequential([keras.Input((None, 6, 1)), L.Conv2D(1, 2)]))
    with pytest.raises(UnsupportedError, match="expected a built Sequential or functional"):
        import_model(keras.Sequential([L.Dense(3)]))
