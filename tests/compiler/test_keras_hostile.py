"""What is refused of Keras' files, all of it told, and files that are damaged or hostile."""

from __future__ import annotations

import contextlib
import json
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdigit.compiler.frontends import import_model
from fastdigit.compiler.frontends.keras.files import read_file
from fastdigit.errors import FastDigitError, ModelFormatError, UnsupportedError
from tests.support import need
from tests.support.keras_cases import (
    INPUT,
    KERNEL,
    OBJECTS3,
    keras3,
    keras3_config,
    list_config,
    random,
    vector,
)
from tests.support.keras_files import (
    called,
    functional,
    layer,
    write_h5,
    write_keras,
)

h5py = need("h5py")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (layer("Lambda", "l", function=["4wEA", None, None]), r"'l' \(Lambda\) is Python code, wh"),
        (layer("mine>Odd", "o", a=1), r"layer 'o' \(Odd\) is not supported"),
        (layer("Embedding", "e", input_dim=3), r"layer 'e' \(Embedding\) is not supported"),
        (layer("Dense", "d", units=5, activation="mishmash"), "activation 'mishmash' is not supp"),
        (
            layer("Dense", "d", units=5, activation={"class_name": "function", "config": {"a": 1}}),
            "activation 'a function of Python' is not supported",
        ),
        (layer("Rescaling", "r", scale=2.0, magic=3), "magic=3, an option that is not known"),
        (layer("BatchNormalization", "b", mode=2), "mode=2; supported is 0"),
        (layer("ReLU", "r", threshold=0.5), "threshold=0.5; supported is 0"),
        (layer("Softmax", "s", axis=0), "axis=0"),
    ],
)
def test_refuses(given: Any, message: str, tmp_path: Path) -> None:
    path = vector(tmp_path / "m.h5", "2.4.0", given, d=[("d/kernel:0", random(6, 5)), BIAS_OF_5])
    with pytest.raises(UnsupportedError, match=message):
        import_model(read_file(path))


BIAS_OF_5 = ("d/bias:0", random(5))


def test_a_users_own_layer_with_the_name_of_one_of_keras(tmp_path: Path) -> None:
    own = {**layer("ReLU", "r"), "module": "my.layers", "registered_name": "my>ReLU"}
    config = keras3_config()
    config["config"]["layers"].insert(1, own)
    path = write_keras(tmp_path / "m.keras", config, OBJECTS3)
    with pytest.raises(UnsupportedError, match=r"'r' \(ReLU\) is not supported"):
        import_model(read_file(path))
    config = {**keras3_config(), "module": "my.models", "class_name": "Net"}
    path = write_keras(tmp_path / "n.keras", config, OBJECTS3)
    with pytest.raises(UnsupportedError, match="the model is a Net; supported are Sequential"):
        read_file(path)


def test_tells_all_that_it_refuses(tmp_path: Path) -> None:
    layers = [layer("Odd", "a"), layer("Flatten", "f"), layer("Strange", "b")]
    path = vector(tmp_path / "m.h5", "2.4.0", *layers)
    with pytest.raises(UnsupportedError) as caught:
        import_model(read_file(path))
    assert caught.value.reasons == (
        "layer 'a' (Odd) is not supported",
        "layer 'b' (Strange) is not supported",
    )


def test_refuses_what_is_called_in_training(tmp_path: Path) -> None:
    dropout = called(layer("Dropout", "d", rate=0.5), [["i", 0, 0, {"training": True}]])
    source = called(layer("InputLayer", "i", batch_input_shape=[None, 6]))
    path = write_h5(tmp_path / "m.h5", functional([source, dropout], ["i"], ["d"]), {})
    with pytest.raises(UnsupportedError, match=r"'d' \(Dropout\): called with training=True"):
        read_file(path)


def test_unknown_shapes(tmp_path: Path) -> None:
    config = {"class_name": "Sequential", "config": [layer("Flatten", "f")]}
    path = write_h5(tmp_path / "m.h5", config, {}, "2.1.0")
    with pytest.raises(UnsupportedError, match="does not say the shape of its input"):
        import_model(read_file(path))
    first = layer("Flatten", "f", batch_input_shape=[None, None, 6, 1])
    path = write_h5(tmp_path / "n.h5", {"class_name": "Sequential", "config": [first]}, {})
    with pytest.raises(UnsupportedError, match=r"inputs of shape \(None, None, 6, 1\); say which"):
        import_model(read_file(path))


def sequential_of(*layers: Any) -> dict[str, Any]:
    return {"class_name": "Sequential", "config": {"name": "m", "layers": list(layers)}}


def deep(levels: int) -> Any:
    config: Any = sequential_of(layer("Flatten", "f", batch_input_shape=[None, 6]))
    for index in range(levels):
        config = sequential_of({**config, "config": {**config["config"], "name": f"m{index}"}})
    return config


@pytest.mark.parametrize(
    "config",
    [
        {},
        [],
        "text",
        None,
        {"class_name": "Sequential", "config": {"layers": []}},
        {"class_name": "Sequential", "config": {"layers": [{"class_name": 3}]}},
        sequential_of({"class_name": "Dense", "config": []}),
        sequential_of({"class_name": "InputLayer", "config": None}, layer("Flatten", "f")),
        sequential_of({"class_name": "InputLayer", "config": [[None, 6]]}, layer("Flatten", "f")),
        functional(
            [
                called(layer("InputLayer", "i", batch_input_shape=INPUT)),
                called(layer("ReLU", "a"), [{"args": [], "kwargs": [1]}]),
            ],
            ["i"],
            ["a"],
        ),
        sequential_of(layer("Dense", "d", units="many", batch_input_shape=[None, 6])),
        sequential_of(layer("Flatten", "f", batch_input_shape="large")),
        sequential_of(layer("Flatten", "f", batch_input_shape=[None, -6])),
        sequential_of(layer("Flatten", "f", batch_input_shape=[None, 1 << 40])),
        sequential_of(layer("Reshape", "r", target_shape=[7], batch_input_shape=[None, 6])),
        sequential_of(layer("Reshape", "r", target_shape=[0, -1], batch_input_shape=[None, 6])),
        sequential_of(layer("Permute", "p", dims=[1, 1], batch_input_shape=[None, 6, 2])),
        sequential_of(layer("Permute", "p", dims=["a"], batch_input_shape=[None, 6, 2])),
        sequential_of(layer("ZeroPadding2D", "z", padding=[1], batch_input_shape=INPUT)),
        sequential_of(layer("ZeroPadding2D", "z", padding="x", batch_input_shape=INPUT)),
        sequential_of(layer("MaxPooling2D", "z", pool_size=0, batch_input_shape=INPUT)),
        sequential_of(layer("MaxPooling2D", "z", pool_size=[1e99, 1], batch_input_shape=INPUT)),
        sequential_of(layer("UpSampling2D", "z", size=-1, batch_input_shape=INPUT)),
        sequential_of(layer("UpSampling2D", "z", size=1 << 20, batch_input_shape=INPUT)),
        sequential_of(layer("Resizing", "z", height=0, width=2, batch_input_shape=INPUT)),
        sequential_of(layer("Rescaling", "z", scale="x", batch_input_shape=INPUT)),
        sequential_of(layer("Rescaling", "z", scale=[1, 2, 3], batch_input_shape=INPUT)),
        sequential_of(layer("Rescaling", "z", scale=float("nan"), batch_input_shape=INPUT)),
        sequential_of(layer("LayerNormalization", "n", axis=[], batch_input_shape=INPUT)),
        sequential_of(layer("Bidirectional", "b", batch_input_shape=[None, 3, 2])),
        sequential_of(*(layer("ReLU", "r", batch_input_shape=INPUT) for _ in range(2))),
        functional([], ["i"], ["o"]),
        functional([called(layer("InputLayer", "i", batch_input_shape=INPUT))], ["i"], ["o"]),
        functional(
            [
                called(layer("InputLayer", "i", batch_input_shape=INPUT)),
                called(layer("ReLU", "a"), [["b", 0, 0, {}]]),
                called(layer("ReLU", "b"), [["a", 0, 0, {}]]),
            ],
            ["i"],
            ["a"],
        ),
        functional(
            [
                called(layer("InputLayer", "i", batch_input_shape=INPUT)),
                called(layer("ReLU", "a"), [["nobody", 0, 0, {}]]),
            ],
            ["i"],
            ["a"],
        ),
        functional(
            [
                called(layer("InputLayer", "i", batch_input_shape=INPUT)),
                called(layer("ReLU", "a"), {"args": [{"class_name": "__keras_tensor__"}]}),
            ],
            ["i"],
            ["a"],
        ),
        deep(40),
    ],
)
def test_wrong_configurations(config: Any, tmp_path: Path) -> None:
    """Each is an error of ours, whatever is wrong."""
    path = write_h5(tmp_path / "m.h5", config, {}, "2.4.0")
    with pytest.raises(FastDigitError) as caught:
        import_model(read_file(path))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_text_that_is_nested_without_end(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["model_config"] = b"[" * 50_000
    with pytest.raises(ModelFormatError, match="model_config is no JSON"):
        read_file(tmp_path / "m.h5")


def test_a_network_deeper_than_pythons_stack(tmp_path: Path) -> None:
    layers = [called(layer("InputLayer", "r0", batch_input_shape=[None, 6]))]
    for index in range(1, 3000):
        layers.append(called(layer("ReLU", f"r{index}"), [[f"r{index - 1}", 0, 0, {}]]))
    path = write_h5(tmp_path / "m.h5", functional(layers, ["r0"], ["r2999"]), {})
    assert len(read_file(path).calls) == 2999


def test_links_out_of_a_file_are_not_followed(tmp_path: Path) -> None:
    path = list_config(tmp_path / "m.h5")
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["kernel"] = KERNEL
    (tmp_path / "raw").write_bytes(KERNEL.tobytes())
    layout = h5py.VirtualLayout(KERNEL.shape, "f4")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "kernel", KERNEL.shape)
    for how in ("link", "external", "virtual"):
        with h5py.File(path, "r+") as file:
            group = file["model_weights/c/c"]
            del group["kernel:0"]
            if how == "link":
                group["kernel:0"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "kernel")
            elif how == "external":
                raw = [(str(tmp_path / "raw"), 0, KERNEL.nbytes)]
                group.create_dataset("kernel:0", KERNEL.shape, "f4", external=raw)
            else:
                group.create_virtual_dataset("kernel:0", layout)
        with pytest.raises(ModelFormatError, match=r"no weights|lie in another file"):
            read_file(path)


def test_weights_without_measure(tmp_path: Path) -> None:
    """A few bytes that stand for many gigabytes."""
    path = list_config(tmp_path / "m.h5")
    with h5py.File(path, "r+") as file:
        group = file["model_weights/c/c"]
        del group["kernel:0"]
        group.create_dataset("kernel:0", (1 << 20, 1 << 20), "f4", chunks=(1 << 10, 1 << 10))
    with pytest.raises(ModelFormatError, match=r"more than \d+ weights, of \d+ bytes"):
        read_file(path)
    with h5py.File(path, "r+") as file:  # within what a file may have, but not one of its size
        del file["model_weights/c/c/kernel:0"]
        file["model_weights/c/c"].create_dataset("kernel:0", (1 << 25,), "f4", chunks=(1 << 20,))
    with pytest.raises(ModelFormatError, match=r"more than \d+ weights, of \d+ bytes"):
        read_file(path)
    with h5py.File(path, "r+") as file:
        del file["model_weights/c/c/kernel:0"]
        file["model_weights/c/c/kernel:0"] = np.array([b"text"])
    with pytest.raises(ModelFormatError, match="not numbers"):
        read_file(path)


def test_archives_that_unpack_to_much_more(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps(keras3_config()))
        archive.writestr("model.weights.h5", bytes(1 << 25))
    assert path.stat().st_size < 1 << 16
    with pytest.raises(ModelFormatError, match=r"model\.weights\.h5 is encrypted, or over \d+"):
        read_file(path)


def test_archives_that_lie_about_sizes(tmp_path: Path) -> None:
    """What is unpacked is never more than what the directory of the archive says."""
    data = keras3(tmp_path / "m.keras").read_bytes()
    path = tmp_path / "n.keras"
    place = data.rindex(b"PK\x01\x02")
    for offset, size in ((24, 10), (20, 10), (24, 0)):
        damaged = bytearray(data)
        damaged[place + offset : place + offset + 4] = struct.pack("<I", size)
        path.write_bytes(damaged)
        with pytest.raises(ModelFormatError):
            read_file(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", bytes(1 << 26))
    damaged = bytearray(path.read_bytes())
    place = damaged.rindex(b"PK\x01\x02")
    damaged[place + 24 : place + 28] = struct.pack("<I", 100)
    path.write_bytes(damaged)
    tracemalloc.start()
    with pytest.raises(ModelFormatError):
        read_file(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_with_a_file_twice(tmp_path: Path) -> None:
    path = keras3(tmp_path / "m.keras")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ModelFormatError, match="a zip archive that has a file twice"):
        read_file(path)


def test_names_of_other_files_in_an_archive(tmp_path: Path) -> None:
    """Nothing is unpacked to the disk: what is not asked for is not looked at."""
    path = keras3(tmp_path / "m.keras")
    with zipfile.ZipFile(path, "a") as archive:
        for name in ("../outside", "/outside", "..\\outside", "C:/outside", ""):
            archive.writestr(zipfile.ZipInfo(name), b"data")
    before = set(tmp_path.iterdir())
    assert import_model(read_file(path)).graph.nodes
    assert set(tmp_path.iterdir()) == before


def test_links_in_circles(tmp_path: Path) -> None:
    path = list_config(tmp_path / "m.h5")
    with h5py.File(path, "r+") as file:
        group = file["model_weights/c/c"]
        group["again"] = h5py.SoftLink("/model_weights")
        group["self"] = h5py.SoftLink("/model_weights/c/c/self")
        group["hard"] = file["model_weights"]
        del group["kernel:0"]
        group["kernel:0"] = h5py.SoftLink("/model_weights/c/c/kernel:0")
    with pytest.raises(ModelFormatError, match="no weights"):
        read_file(path)


#: Numbers as a configuration may have them, each in the place of one that is right.
ODD_NUMBERS: list[Any] = [
    *(10**12, 10**400, -3, 0, 1.5, float("nan"), float("inf"), 1e308, "3", "many", True, None),
    *([], [3], {}, [[[]]], {"class_name": "int", "config": 3}, "9" * 5000, -(2**63), 2**64),
]


@pytest.mark.parametrize("number", ODD_NUMBERS, ids=lambda number: repr(number)[:12])
def test_odd_numbers_in_a_configuration(number: Any, tmp_path: Path) -> None:
    """Whatever the option, and whatever stands there: read as what it says, or one sentence."""
    path = tmp_path / "m.keras"
    for place, entry in enumerate(keras3_config()["config"]["layers"]):
        for option in entry["config"]:
            config = keras3_config()
            config["config"]["layers"][place]["config"][option] = number
            write_keras(path, config, OBJECTS3)
            try:
                import_model(read_file(path))
            except FastDigitError as error:
                text = str(error)
                assert "\n" not in text and len(text) < 700, (entry["class_name"], option, text)


def test_archives_without_measure(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * ((1 << 26) + 1))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(ModelFormatError, match=r"config\.json is encrypted, or over"):
        read_file(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(keras3_config()))
    with pytest.raises(ModelFormatError, match=r"has no model\.weights\.h5"):
        read_file(path)


@pytest.mark.parametrize("write", [list_config, keras3], ids=["h5", "keras"])
def test_damaged_files(write: Callable[[Path], Path], tmp_path: Path) -> None:
    """Cut off anywhere, or with bytes changed: read, or an error of ours."""
    whole = write(tmp_path / "m").read_bytes()
    path = tmp_path / "n"
    rng = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole[: int(rng.integers(1, len(whole)))])
        path.write_bytes(data)
        with pytest.raises(FastDigitError):
            import_model(read_file(path))
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 20):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        with contextlib.suppress(FastDigitError):
            import_model(read_file(path))
    path.write_bytes(b"not a model")
    with pytest.raises(ModelFormatError, match="neither HDF5 nor a zip archive"):
        read_file(path)
