"""Keras' files of every version, read without Keras, and held against float64 computed here."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fastdigit
from fastdigit.compiler.check import check_source
from fastdigit.compiler.driver import compile_model, verify_model
from fastdigit.compiler.frontends import import_model, open_source
from fastdigit.compiler.frontends.keras.evaluate import EVALUATORS, evaluate
from fastdigit.compiler.frontends.keras.files import read_file
from fastdigit.compiler.frontends.keras.kinds import KINDS
from fastdigit.compiler.frontends.keras.registry import CONVERTERS, JOINS
from fastdigit.errors import InputError, ModelFormatError, UnsupportedError
from tests.support import need
from tests.support.compiler_cases import engine
from tests.support.keras_cases import (
    BETA,
    BIAS,
    DENSE,
    DENSE_BIAS,
    GAMMA,
    GROUPS2,
    IMAGES,
    INPUT,
    KERNEL,
    MEAN,
    OBJECTS3,
    VARIANCE,
    expected,
    keras3,
    keras3_config,
    layers2,
    list_config,
    results,
    vector,
)
from tests.support.keras_files import (
    called,
    functional,
    layer,
    node,
    write_h5,
    write_keras,
)

need("h5py")


def keras1(path: Path) -> Path:
    """A list of layers in Keras 1's words, and its names of weights."""
    conv = {"nb_filter": 4, "nb_row": 3, "nb_col": 3, "border_mode": "same", "dim_ordering": "tf"}
    layers = [
        layer(
            "Convolution2D",
            "c",
            **conv,
            **{"subsample": [1, 1], "activation": "relu", "bias": True, "init": "glorot_uniform"},
            **{"W_regularizer": None, "batch_input_shape": INPUT, "input_dtype": "float32"},
        ),
        layer("BatchNormalization", "b", mode=0, axis=-1, epsilon=1e-3, momentum=0.99),
        layer("MaxPooling2D", "p", pool_size=[2, 2], border_mode="valid", dim_ordering="tf"),
        layer("Dropout", "d", p=0.5),
        layer("Flatten", "f"),
        layer("Dense", "e", output_dim=5, input_dim=None, bias=True, activation="linear"),
        layer("Activation", "a", activation="softmax"),
    ]
    groups = {
        "c": [("c_W:0", KERNEL), ("c_b:0", BIAS)],
        "b": [
            *(("b_gamma:0", GAMMA), ("b_beta:0", BETA)),
            *(("b_running_mean:0", MEAN), ("b_running_std:0", VARIANCE)),
        ],
        "e": [("e_W:0", DENSE), ("e_b:0", DENSE_BIAS)],
    }
    return write_h5(path, {"class_name": "Sequential", "config": layers}, groups, "1.2.2", None)


def batch_input_shape(path: Path) -> Path:
    """Keras 2.2.3 to 2.3, tf.keras 1.13 to 2.2, with what initializers had then."""
    first = {"batch_input_shape": INPUT, "dtype": "float32"}
    initializer = {"class_name": "VarianceScaling", "config": {"scale": 1.0, "dtype": "float32"}}
    first |= {"kernel_initializer": initializer, "kernel_regularizer": None}
    config = {"name": "net", "layers": layers2(**first)}
    return write_h5(path, {"class_name": "Sequential", "config": config}, GROUPS2, "2.2.4-tf")


def functional2(path: Path) -> Path:
    """tf.keras 2.3 to 2.15; names of weights that count on."""
    source = called(layer("InputLayer", "i", batch_input_shape=INPUT, sparse=False))
    names = ["i", "c", "b", "p", "d", "f"]
    nodes = [[[node(name)]] for name in names]
    layers = [called(each, *node) for each, node in zip(layers2(), nodes, strict=True)]
    groups = {**GROUPS2, "c": [("c_3/kernel_1:0", KERNEL), ("c_3/bias_1:0", BIAS)]}
    return write_h5(path, functional([source, *layers], ["i"], ["e"]), groups, "2.11.0")


def keras3_h5(path: Path) -> Path:
    """Keras 3: names without ":0"."""
    source = layer("InputLayer", "i", batch_shape=INPUT, dtype="float32")
    config = {"name": "net", "layers": [source, *layers2()], "trainable": True}
    groups = {
        name: [(variable.replace(":0", ""), value) for variable, value in weights]
        for name, weights in GROUPS2.items()
    }
    return write_h5(path, {"class_name": "Sequential", "config": config}, groups, "3.4.1")


def keras3_named(path: Path) -> Path:
    """Layers of Keras' newest versions say their names, whatever the path counts."""
    objects = {f"{place}_7": values for place, values in OBJECTS3.items()}
    names = dict(zip(objects, "cbe", strict=True))
    return write_keras(path, keras3_config(), objects, names, "3.15.1")


def keras2_zip(path: Path) -> Path:
    """The .keras of tf.keras 2.12."""
    objects = {
        place.replace("layers", "_layer_checkpoint_dependencies"): values
        for place, values in OBJECTS3.items()
    }
    return write_keras(path, keras3_config(), objects, version="2.12.0")


DIALECTS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "keras1": (keras1, "model.h5"),
    "list": (list_config, "model.hdf5"),
    "batch_input_shape": (batch_input_shape, "model.h5"),
    "functional2": (functional2, "model.h5"),
    "hdf5-named-keras": (functional2, "model.keras"),
    "keras3-h5": (keras3_h5, "model.h5"),
    "keras3": (keras3, "model.keras"),
    "keras3-named": (keras3_named, "model.keras"),
    "keras2-zip": (keras2_zip, "model.keras"),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_version_is_read(dialect: str, tmp_path: Path) -> None:
    write, name = DIALECTS[dialect]
    path = write(tmp_path / name)
    np.testing.assert_allclose(results(path), expected(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(evaluate(read_file(path), [IMAGES])[0], expected(), atol=1e-12)


@pytest.mark.parametrize("place", [2048, 4096, 8192])
def test_weights_may_lie_anywhere_in_the_archive(place: int, tmp_path: Path) -> None:
    """Also where HDF5 looks for itself behind a block of the user's."""
    write_keras(tmp_path / "model.keras", keras3_config(), OBJECTS3)
    path, begins = tmp_path / "moved.keras", place
    for _ in range(2):  # the second time at its place
        with (
            zipfile.ZipFile(tmp_path / "model.keras") as source,
            zipfile.ZipFile(path, "w") as moved,
        ):
            for name in ("metadata.json", "config.json", "model.weights.h5"):
                data = source.read(name)
                if name == "config.json":
                    data += b" " * (place - begins)
                moved.writestr(name, data)
            member = moved.getinfo("model.weights.h5")
            begins = member.header_offset + 30 + len(member.filename)
    assert path.read_bytes()[place:].startswith(b"\x89HDF")
    np.testing.assert_allclose(results(path), expected(), rtol=0, atol=1e-6)


def test_vectors_are_repeated(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).random((3, 6), np.float32)
    for times in (1, 4):
        path = vector(tmp_path / "net.h5", "2.4.0", layer("RepeatVector", "r", n=times))
        got = fastdigit.Model(fastdigit.compile(path, None).data).run(vectors)
        np.testing.assert_allclose(got, vectors[:, None].repeat(times, axis=1), atol=1e-7)
    path = vector(tmp_path / "net.h5", "2.4.0", layer("RepeatVector", "r", n=10**12))
    with pytest.raises(UnsupportedError, match="n=1000000000000 of shape"):
        import_model(read_file(path))


@pytest.mark.parametrize("version", ["2", "3"])
def test_a_network_without_weights(version: str, tmp_path: Path) -> None:
    source = layer("InputLayer", "i", batch_shape=[None, 4, 4, 1], dtype="float32")
    config = {"name": "net", "layers": [source, layer("Flatten", "f"), layer("ReLU", "r")]}
    config = {"class_name": "Sequential", "config": config}
    if version == "2":
        path = write_h5(tmp_path / "net.h5", config, {})
    else:
        path = write_keras(tmp_path / "net.keras", config, {})
    images = np.random.default_rng(0).random((2, 4, 4, 1))
    assert results(path, images).shape == (2, 16)
    config["config"]["layers"].append(layer("Dense", "d", units=2))
    path = write_keras(tmp_path / "none.keras", config, {})
    with pytest.raises(ModelFormatError, match="has the weights none; expected kernel, bias"):
        open_source(path)


def test_objects_within_objects_are_found_by_counting(tmp_path: Path) -> None:
    """Files without names of layers, as tf.keras and the first of Keras 3 wrote them: paths count
    classes, whatever the layers are called, and some objects have no variables of their own."""
    random = np.random.default_rng(1).normal
    cell = [random(size=(3, 16)), random(size=(4, 16)), random(size=16)]
    objects = {
        "layers/bidirectional/forward_layer/cell": cell,
        "layers/bidirectional/backward_layer/cell": [random(size=(3, 16)), *cell[1:]],
        "layers/lstm/cell": [random(size=(8, 16)), *cell[1:]],
        "layers/sequential/layers/dense": [random(size=(4, 6)), random(size=6)],
        "layers/sequential_1/layers/dense": [random(size=(6, 2)), random(size=2)],
    }

    def written(last: str) -> Path:
        """With the names that paths would have too, or with others."""

        inner = layer("LSTM", f"inner{last}", units=4, return_sequences=True)
        layers = [
            layer("InputLayer", "i", batch_shape=[None, 5, 3], dtype="float32"),
            layer("Bidirectional", f"bidirectional{last}", layer=inner, merge_mode="concat"),
            layer("LSTM", f"lstm{last}", units=4),
        ]
        for count, units in (("", 6), ("_1", 2)):
            own = [layer("Dense", f"dense{last}", units=units)]
            name = f"sequential{count}{last}"
            layers.append(layer("Sequential", name, layers=own))
        config = {"class_name": "Sequential", "config": {"name": "net", "layers": layers}}
        return write_keras(tmp_path / f"net{last}.keras", config, objects, version="2.21.0")

    images = random(size=(4, 5, 3))
    (want,) = evaluate(read_file(written("")), [images])
    (got,) = evaluate(read_file(written("_9")), [images])
    assert want.shape == (4, 2) and np.ptp(want) > 0.1
    np.testing.assert_array_equal(got, want)


def test_what_verified_is_said(tmp_path: Path) -> None:
    result = compile_model(keras3(tmp_path / "model.keras"), None, engine=engine)
    assert result.verification.reference == f"the source in float64 (numpy {np.__version__})"
    verify_model(result.data, tmp_path / "model.keras", engine=engine)


def test_neither_keras_nor_tensorflow_nor_onnx_is_imported(tmp_path: Path) -> None:
    path = keras3(tmp_path / "model.keras")
    code = (
        f"import sys, fastdigit; fastdigit.compile({str(path)!r}, None)\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & "
        "{'keras', 'tensorflow', 'onnx', 'onnxruntime', 'tf2onnx', 'torch'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_weights_with_an_architecture(tmp_path: Path) -> None:
    """By the names of layers, and, where these were counted anew, by their order."""
    config = {"class_name": "Sequential", "config": layers2(batch_input_shape=INPUT)}
    (tmp_path / "model.json").write_text(json.dumps({**config, "keras_version": "2.2.4"}))
    (tmp_path / "twice.json").write_text(json.dumps(json.dumps(config)))
    path = write_h5(tmp_path / "weights.h5", None, GROUPS2, whole=False)
    other = {f"{name}_9": weights for name, weights in GROUPS2.items()}
    renamed = write_h5(tmp_path / "renamed.h5", None, other, whole=False)
    for weights in (path, renamed):
        for name in ("model.json", "twice.json"):
            got = results(weights, architecture=tmp_path / name)
            np.testing.assert_allclose(got, expected(), rtol=0, atol=1e-6)
    assert check_source(path, tmp_path / "model.json").compilable
    assert not check_source(path).compilable
    with pytest.raises(UnsupportedError, match=r"weights without .* --architecture model\.json"):
        open_source(path)
    with pytest.raises(UnsupportedError, match="architecture of a Keras model, without weights"):
        open_source(tmp_path / "model.json")
    with pytest.raises(FileNotFoundError):
        open_source(path, tmp_path / "none.json")
    with pytest.raises(InputError, match="not for a model in memory"):
        open_source({}, tmp_path / "model.json")
    with pytest.raises(UnsupportedError, match="for files of weights of Keras"):
        open_source(tmp_path / "model.json", tmp_path / "model.json")
    (tmp_path / "other.json").write_text('{"a": 1}')
    with pytest.raises(ModelFormatError, match="no architecture of Keras"):
        open_source(path, tmp_path / "other.json")


def test_weights_of_keras3_with_an_architecture(tmp_path: Path) -> None:
    write_keras(tmp_path / "model.keras", keras3_config(), OBJECTS3)
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        (tmp_path / "m.weights.h5").write_bytes(archive.read("model.weights.h5"))
        (tmp_path / "m.json").write_bytes(archive.read("config.json"))
    got = results(tmp_path / "m.weights.h5", architecture=tmp_path / "m.json")
    np.testing.assert_allclose(got, expected(), rtol=0, atol=1e-6)


def test_weights_of_another_network(tmp_path: Path) -> None:
    config = {"class_name": "Sequential", "config": layers2(batch_input_shape=INPUT)}
    (tmp_path / "model.json").write_text(json.dumps(config))
    few = {"x": GROUPS2["c"]}
    path = write_h5(tmp_path / "few.h5", None, few, whole=False)
    with pytest.raises(ModelFormatError, match="it belongs to another network"):
        open_source(path, tmp_path / "model.json")
    wrong = {**GROUPS2, "e": [("e/kernel:0", DENSE.T), ("e/bias:0", DENSE_BIAS)]}
    path = write_h5(tmp_path / "wrong.h5", None, wrong, whole=False)
    with pytest.raises(ModelFormatError, match=r"'e' \(Dense\): its kernel has shape \(5, 36\)"):
        import_model(open_source(path, tmp_path / "model.json"))
    short = {**GROUPS2, "b": GROUPS2["b"][:3]}
    path = write_h5(tmp_path / "short.h5", None, short, whole=False)
    with pytest.raises(ModelFormatError, match=r"'b' .* has the weights .*; expected gamma, beta"):
        open_source(path, tmp_path / "model.json")


def test_every_kind_is_converted_and_evaluated() -> None:
    converted = {*CONVERTERS, *JOINS}
    assert converted <= set(KINDS), "a converter of a kind without a row in kinds.py"
    assert converted <= set(EVALUATORS), "a converter of a kind that cannot be verified"


def test_a_keras_file_in_memory_is_no_path() -> None:
    with pytest.raises(UnsupportedError, match="cannot compile a BytesIO"):
        import_model(io.BytesIO())
