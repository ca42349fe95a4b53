"""The Python API, on the model that ships and on real digits."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastdigit
from fastdigit import Model
from fastdigit.compiler.backends.fdm.pack import pack
from fastdigit.datasets import load_mnist_test
from fastdigit.errors import FastDigitError, InputError, ModelFormatError, UnsupportedError
from tests.support import EXPORTED, reference
from tests.support.networks import chain, conv, dense, packed, small_networks

MODELS = Path(fastdigit.__file__).parent / "models"


#: What docs/models says, to the image, of 10,000 test digits.
MISREAD = {"seed": 65, "digits": 36}


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return load_mnist_test()[0]


@pytest.fixture(scope="module")
def model() -> Model:
    return fastdigit.load()


# ---- What it computes ----


@pytest.mark.parametrize(("name", "misread"), MISREAD.items())
def test_accuracy_on_the_test_digits(name: str, misread: int) -> None:
    images, labels = load_mnist_test()
    predicted = fastdigit.load(name).predict(images)
    assert predicted.dtype == np.int64
    assert int((predicted != labels).sum()) == misread


def test_what_shows_no_digit_is_rejected(model: Model) -> None:
    """One grey at every level, noise, the lines of a field: near one in ten for each class."""
    greys = np.repeat(np.arange(256, dtype=np.uint8), 28 * 28).reshape(256, 28, 28)
    noise = np.random.default_rng(0).integers(0, 256, (200, 28, 28), np.uint8)
    field = np.zeros((1, 28, 28), np.uint8)
    field[:, [1, -2]] = field[:, :, [1, -2]] = 255
    for images in (greys, noise, field):
        assert model.predict_proba(images).max() < 0.3
        assert (model.predict(images, reject_below=0.3) == -1).all()


@pytest.mark.parametrize("file", ["seed.onnx", "digits.onnx", "digits-compact.onnx"])
def test_parity_with_onnx_runtime(file: str, digits: np.ndarray) -> None:
    """The first promise: 1e-5 on probabilities, and every label."""
    import onnxruntime

    session = onnxruntime.InferenceSession(EXPORTED / file, providers=["CPUExecutionProvider"])
    x = (digits.astype(np.float32) / np.float32(255))[..., None]
    want = np.concatenate([session.run(None, {"input": part})[0] for part in np.split(x, 20)])
    got = fastdigit.load(file.partition(".")[0].removesuffix("-compact")).predict_proba(digits)
    assert np.abs(got - want).max() <= 1e-5
    np.testing.assert_array_equal(got.argmax(1), want.argmax(1))


@pytest.mark.parametrize(
    "isa", [name for name, usable in fastdigit.config()["isas"].items() if usable]
)
def test_isas_agree_on_the_test_digits(
    isa: str, model: Model, digits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTDIGIT_ISA", isa)
    other = fastdigit.load()
    assert other.info()["isa"] == isa
    assert np.abs(other.predict_proba(digits) - model.predict_proba(digits)).max() <= 1e-5
    np.testing.assert_array_equal(other.predict(digits), model.predict(digits))


def test_module_functions_use_the_default_model(model: Model, digits: np.ndarray) -> None:
    np.testing.assert_array_equal(fastdigit.predict(digits[:9]), model.predict(digits[:9]))
    assert (
        fastdigit.predict_proba(digits[:9]).tobytes() == model.predict_proba(digits[:9]).tobytes()
    )


def test_probabilities_are_the_softmax_of_logits(model: Model, digits: np.ndarray) -> None:
    """Divided by the temperature; the logits are those of the network."""
    temperature = model.info()["meta"]["temperature"]
    assert temperature == np.float32(0.53)
    want = reference.softmax(model.logits(digits[:50]) / np.float32(temperature))
    np.testing.assert_allclose(model.predict_proba(digits[:50]), want, rtol=0, atol=1e-6)


# ---- What it does not label ----


def test_rejects_what_it_is_not_sure_of(model: Model, digits: np.ndarray) -> None:
    labels, top = model.predict(digits), model.predict_proba(digits).max(axis=1)
    for threshold in (0.0, 0.5, 0.9, float(top[17]), np.float64(0.999), 1):
        got = model.predict(digits, reject_below=threshold)
        assert got.dtype == np.int64
        np.testing.assert_array_equal(
            got, np.where(top.astype(np.float64) < float(threshold), -1, labels)
        )
        np.testing.assert_array_equal(fastdigit.predict(digits, reject_below=threshold), got)
    assert (model.predict(digits, reject_below=0.99) == -1).any()
    assert (model.predict(digits, reject_below=0) == labels).all()
    assert model.predict(digits[:0], reject_below=0.9).shape == (0,)


def test_what_is_rejected_goes_into_out(model: Model, digits: np.ndarray) -> None:
    out = np.empty(300, np.int64)
    assert model.predict(digits[:300], reject_below=0.9999, out=out) is out
    assert fastdigit.predict(digits[:300], reject_below=0.9999, out=out) is out
    np.testing.assert_array_equal(out, model.predict(digits[:300], reject_below=0.9999))
    assert -1 in out


@pytest.mark.parametrize(
    "threshold", [-0.1, 1.1, float("nan"), float("inf"), "0.5", True, np.True_, np.array([0.5])]
)
def test_what_is_no_threshold(model: Model, digits: np.ndarray, threshold: object) -> None:
    with pytest.raises(InputError, match="expected a number from 0 to 1, or None"):
        model.predict(digits[:2], reject_below=threshold)  # type: ignore[arg-type]


def test_without_probabilities_nothing_can_be_rejected() -> None:
    model = Model(packed(chain((5,), [dense(np.random.default_rng(0), 5, 3)])))
    x = np.zeros((2, 5), np.float32)
    assert model.predict(x).shape == (2,)
    with pytest.raises(UnsupportedError, match="no probabilities"):
        model.predict(x, reject_below=0.5)


# ---- What it takes ----


def as_float(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32) / np.float32(255)


@pytest.mark.parametrize(
    "convert",
    [
        pytest.param(lambda x: x.reshape(-1, 28, 28, 1), id="channels"),
        pytest.param(lambda x: x.reshape(-1, 1, 28, 28), id="one channel first"),
        pytest.param(lambda x: x.reshape(-1, 784), id="flat"),
        pytest.param(as_float, id="float32"),
        pytest.param(lambda x: x.astype(np.float64) / 255, id="float64"),
        pytest.param(lambda x: as_float(x).astype(">f4"), id="big-endian"),
        pytest.param(lambda x: np.asfortranarray(as_float(x)), id="fortran"),
        pytest.param(lambda x: np.repeat(as_float(x), 2, axis=2)[:, :, ::2], id="strided"),
        pytest.param(lambda x: as_float(x)[::-1][::-1], id="negative strides"),
        pytest.param(lambda x: as_float(x).view(np.ma.MaskedArray), id="subclass"),
        pytest.param(
            lambda x: (
                np.frombuffer(b"\0" + as_float(x).tobytes(), np.uint8)[1:]
                .view(np.float32)
                .reshape(x.shape)
            ),
            id="unaligned",
        ),
    ],
)
def test_every_form_of_a_batch_gives_the_same(model: Model, digits: np.ndarray, convert) -> None:
    batch = convert(digits[:7])
    before = batch.copy()
    np.testing.assert_allclose(
        model.predict_proba(batch), model.predict_proba(digits[:7]), rtol=0, atol=1e-6
    )
    np.testing.assert_array_equal(batch, before)


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1)])
def test_one_image(model: Model, digits: np.ndarray, shape: tuple[int, ...]) -> None:
    one = digits[3].reshape(shape)
    assert model.predict(one).shape == (1,)
    assert model.predict_proba(one).tobytes() == model.predict_proba(digits[3:4]).tobytes()


@pytest.mark.parametrize("shape", [(0, 28, 28), (0, 28, 28, 1), (0, 784)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_no_image(model: Model, shape: tuple[int, ...], dtype: type) -> None:
    empty = np.zeros(shape, dtype)
    assert model.predict(empty).shape == (0,)
    assert model.predict_proba(empty).shape == model.logits(empty).shape == (0, 10)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([[0.0] * 28] * 28, "the batch is a list, expected a NumPy array of shape"),
        (None, "the batch is a NoneType"),
        ("7", "the batch is a str"),
        (
            np.zeros((5, 27, 28), np.float32),
            r"the batch has shape \(5, 27, 28\), expected of shape \(N, 28, 28\)",
        ),
        (np.zeros((1, 2, 28, 28), np.float32), r"shape \(1, 2, 28, 28\)"),
        (np.zeros((2, 28, 28, 3), np.float32), r"shape \(2, 28, 28, 3\)"),
        (np.zeros(784, np.float32), r"shape \(784,\)"),
        (np.zeros((), np.float32), r"shape \(\)"),
        (
            np.zeros((1, 28, 28), np.int64),
            "dtype int64, expected uint8 in 0..255 or floats in 0..1",
        ),
        (np.zeros((1, 28, 28), bool), "dtype bool"),
        (np.zeros((1, 28, 28), complex), "dtype complex128"),
        (np.zeros((1, 28, 28), object), "dtype object"),
        (np.zeros((1, 28, 28), "U1"), "dtype <U1"),
    ],
)
def test_wrong_batches(model: Model, batch, message: str) -> None:
    for method in (model.predict, model.predict_proba, model.logits, fastdigit.predict):
        with pytest.raises(InputError, match=message):
            method(batch)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.5, -0.5, 255.0, 1e300])
@pytest.mark.parametrize("threads", [1, 2])
def test_wrong_values(dtype: type, value: float, threads: int) -> None:
    model = fastdigit.load(threads=threads)
    batch = np.zeros((100, 28, 28), dtype)
    with np.errstate(over="ignore"):
        batch[70, 3, 4] = batch[90, 0, 0] = value
        finite = np.isfinite(np.float32(value))
    said = "outside the input range 0 to 1: scale the images" if finite else "not finite"
    with pytest.raises(InputError, match=f"at element 88 of image 70 is {said}"):
        model.predict(batch)
    # The model is none the worse for it.
    assert model.predict(batch[:70]).shape == (70,)


def test_out(model: Model, digits: np.ndarray) -> None:
    labels, floats = np.empty(5, np.int64), np.empty((5, 10), np.float32)
    assert model.predict(digits[:5], out=labels) is labels
    assert model.predict_proba(digits[:5], out=floats) is floats
    np.testing.assert_array_equal(labels, model.predict(digits[:5]))
    assert floats.tobytes() == model.predict_proba(digits[:5]).tobytes()
    assert model.logits(digits[:5], out=floats).tobytes() == model.logits(digits[:5]).tobytes()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ([0] * 5, "out is a list"),
        (np.empty(4, np.int64), r"int64 of shape \(4,\), expected int64 of shape \(5,\)"),
        (np.empty(5, np.int32), "out is int32"),
        (np.empty(10, np.int64)[::2], "not C-contiguous"),
        (np.frombuffer(bytes(40), np.int64), "writeable"),
    ],
)
def test_wrong_out(model: Model, digits: np.ndarray, out, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.predict(digits[:5], out=out)


METHODS = ("predict", "predict_proba", "logits")
LAYOUTS = {
    "as it is": lambda x: x,
    "fortran": np.asfortranarray,
    "strided": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "subclass": lambda x: x.view(np.ma.MaskedArray),
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "unaligned": lambda x: (
        np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape)
    ),
}
BATCHES = [
    (2, 28, 28), (1, 28, 28, 1), (3, 784), (0, 784), (28, 28), (784,), (28, 28, 1),
    (2, 28, 27), (2, 1, 784), (2, 28, 28, 2), (1, 2, 14, 28, 1), (),
]  # fmt: skip


def outcome(call) -> tuple[str, object]:
    try:
        result = call()
    except InputError as error:
        return "refused", str(error)
    return "done", (type(result), result.dtype, result.shape, result.tobytes())


@given(data=st.data())
@settings(deadline=None, max_examples=300)
def test_the_short_way_is_only_shorter(model: Model, digits: np.ndarray, data) -> None:
    """What needs no conversion skips the checks that explain: with the same results and errors."""
    draw = data.draw
    shape, method = draw(st.sampled_from(BATCHES)), draw(st.sampled_from(METHODS))
    dtype = draw(st.sampled_from([np.float32, np.uint8, np.float64, np.int8, np.bool_]))
    pixels = np.resize(digits[:3], shape)
    if np.dtype(dtype).kind == "f":
        pixels = pixels.astype(dtype) / dtype(255)
        if pixels.size and draw(st.booleans()):
            pixels.flat[draw(st.integers(0, pixels.size - 1))] = draw(st.sampled_from([np.nan, 2]))
    batch = LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))](pixels.astype(dtype, copy=False))
    n = draw(st.sampled_from([shape[0] if len(shape) > 1 else 1, 1, 2]))
    outs = []
    if draw(st.booleans()):
        out_dtype = draw(st.sampled_from([np.int64, np.float32, np.int32]))
        out_shape = draw(st.sampled_from([(n,), (n, 10), (n, 1, 10), (10, n)]))
        layout = draw(st.sampled_from(sorted(LAYOUTS)))
        outs = [LAYOUTS[layout](np.zeros(out_shape, out_dtype)) for _ in range(2)]

    def call(short: bool) -> np.ndarray:
        with pytest.MonkeyPatch.context() as patch:
            if not short:
                patch.setattr(model, "_run_batch", lambda *_: None)
            out = outs[short] if outs else None
            result = getattr(model, method)(batch, out=out)
            assert out is None or result is out
            return result

    assert outcome(lambda: call(True)) == outcome(lambda: call(False))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 28, 28, 1), (2, 28, 28), (3, 784)])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("given_out", [False, True])
def test_what_services_send_goes_the_short_way(
    model: Model, monkeypatch, method: str, shape: tuple[int, ...], dtype: type, given_out: bool
) -> None:
    monkeypatch.setattr("fastdigit.model.take_batch", None)
    out = None
    if given_out:
        labels = method == "predict"
        out = np.empty(shape[0] if labels else (shape[0], 10), np.int64 if labels else np.float32)
    assert len(getattr(model, method)(np.zeros(shape, dtype), out=out)) == shape[0]


def test_a_refused_batch_leaves_nothing_behind(model: Model) -> None:
    """Its context and its buffers are free again: arrays that are exported can't be resized."""
    batch, out = np.full((1, 784), 2, np.float32), np.empty((1, 10), np.float32)
    for _ in range(3):
        with pytest.raises(InputError, match="outside"):
            model.predict_proba(batch, out=out)
    batch.resize((2, 784), refcheck=False)
    out.resize((2, 10), refcheck=False)


# ---- What it is ----


def test_facts(model: Model) -> None:
    assert model.input_shape == (28, 28, 1)
    assert model.classes == tuple("0123456789")
    assert model.threads == 1
    info = model.info()
    assert info["meta"]["name"] == "digits"
    assert info["meta"]["verification"]["label_agreement"] == 1.0
    assert info["file_bytes"] == (MODELS / "digits.fdm").stat().st_size
    assert info["multiply_adds"] == 1_205_824
    info["meta"]["name"] = "changed"
    assert model.info()["meta"]["name"] == "digits", "info() hands out copies"
    assert "digits" in repr(model)


def test_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    fastdigit.show_config()
    shown, facts = capsys.readouterr().out, fastdigit.config()
    assert facts["isa"] in shown and facts["version"] in shown and facts["numpy"] in shown
    for name in facts["isas"]:
        assert name in shown


@pytest.mark.parametrize(
    "duplicate", [lambda m: pickle.loads(pickle.dumps(m)), copy.copy, copy.deepcopy]
)
def test_pickle(digits: np.ndarray, duplicate) -> None:
    model = fastdigit.load(threads=2)
    twin = duplicate(model)
    assert twin is not model and twin.threads == 2 and twin.info() == model.info()
    assert twin.logits(digits[:50]).tobytes() == model.logits(digits[:50]).tobytes()


def test_networks_that_are_no_digit_classifiers() -> None:
    rng = np.random.default_rng(0)
    raw = Model(
        packed(chain((6,), [dense(rng, 6, 3)]), input_range=(-np.inf, np.inf), u8_divisor=0)
    )
    x = rng.normal(size=(4, 6)).astype(np.float32) * 100
    assert raw.logits(x).shape == (4, 3)
    assert raw.classes == ("0", "1", "2")
    with pytest.raises(UnsupportedError, match="does not end in a softmax"):
        raw.predict_proba(x)
    with pytest.raises(InputError, match="uint8"):
        raw.predict(np.zeros((4, 6), np.uint8))
    with pytest.raises(InputError, match=r"shape \(6,\), expected of shape \(N, 6\)"):
        raw.predict(x[0])
    x[2, 1] = np.inf
    with pytest.raises(InputError, match="value inf at element 1 of image 2"):
        raw.predict(x)
    colour = Model(packed(small_networks()["fully convolutional"]))
    assert colour.logits(np.zeros((9, 8, 3), np.float32)).shape == (1, 7 * 6 * 2)


# ---- How it is opened ----


def test_load_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="cannot open"):
        fastdigit.load(tmp_path / "missing.fdm")
    with pytest.raises(OSError):
        fastdigit.load(tmp_path)
    (tmp_path / "text.fdm").write_text("not a model")
    with pytest.raises(ModelFormatError, match=r"not a \.fdm file"):
        fastdigit.load(tmp_path / "text.fdm")
    assert issubclass(ModelFormatError, FastDigitError) and issubclass(ModelFormatError, ValueError)
    with pytest.raises(ValueError, match="embedded null"):
        fastdigit.load("a\0b")


def test_a_path_with_any_name(tmp_path: Path) -> None:
    path = tmp_path / "größe \N{DIGIT SEVEN}.fdm"
    path.write_bytes((MODELS / "seed.fdm").read_bytes())
    assert fastdigit.load(path).predict(np.zeros((1, 28, 28), np.uint8)).shape == (1,)


def test_first_use_from_many_threads() -> None:
    code = (
        "import threading, numpy as np, fastdigit\n"
        "results, start = [], threading.Barrier(8)\n"
        "def work():\n"
        "    start.wait()\n"
        "    results.append(fastdigit.predict(np.zeros((3, 28, 28), np.uint8)).tolist())\n"
        "threads = [threading.Thread(target=work) for _ in range(8)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "assert len(results) == 8 and all(r == results[0] for r in results)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_models_close_while_others_run(digits: np.ndarray) -> None:
    """Each model owns its memory: dropping one in the middle of another's call harms nobody."""
    want = fastdigit.load().logits(digits[:64]).tobytes()
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            fastdigit.load().predict(digits[:1])

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(30):
            assert fastdigit.load().logits(digits[:64]).tobytes() == want
    finally:
        stop.set()
        thread.join()


def test_run_gives_any_result_in_its_shape() -> None:
    """An image, a vector without softmax, and probabilities."""
    rng = np.random.default_rng(0)
    picture = chain((6, 5, 2), [conv(rng, (3, 3), 2, 4)])
    scores = chain((6, 5, 2), [dense(rng, 60, 3)])
    for graph, shape in ((picture, (4, 3, 4)), (scores, (3,))):
        model = Model(packed(graph))
        x = rng.random((7, 6, 5, 2), np.float32)
        got = model.run(x)
        assert model.output_shape == model.info()["output_shape"] == shape
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, reference.run_graph(graph, x), atol=1e-5)
        out = np.empty((7, *shape), np.float32)
        assert model.run(x, out=out) is out
        assert out.tobytes() == got.tobytes() == model.logits(x).tobytes()
        with pytest.raises(InputError, match="out is float32 of shape"):
            model.run(x, out=np.empty((7, 1), np.float32))
    digits = fastdigit.load()
    x = rng.random((3, 28, 28), np.float32)
    assert digits.run(x).tobytes() == digits.predict_proba(x).tobytes()


def test_a_sequence_has_the_shape_of_its_source() -> None:
    """The file carries (steps, channels) as an image of one row; META has the source's shape."""
    rng = np.random.default_rng(0)
    graph = chain((1, 8, 2), [conv(rng, (1, 3), 2, 4)])
    x = rng.random((5, 8, 2), np.float32)
    want = reference.run_graph(graph, x[:, np.newaxis])
    model = Model(pack(graph, {"output": {"shape": [6, 4]}}))
    assert model.output_shape == model.info()["output_shape"] == (6, 4)
    for batch in (x, x[:, np.newaxis], x.reshape(5, 16)):
        np.testing.assert_allclose(model.run(batch), want[:, 0], atol=1e-5)
    np.testing.assert_array_equal(model.run(x[0]), model.run(x)[:1])
    for shape in ([6, 5], [-6, -4], [6, "4"], [6.0, 4.0], "64", None, [True, 24]):
        assert Model(pack(graph, {"output": {"shape": shape}})).output_shape == (1, 6, 4)
