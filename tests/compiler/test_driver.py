"""From source to file: verification, metadata, what is written and when."""

import builtins
import os
from dataclasses import replace

import numpy as np
import pytest

import fastdigit
from fastdigit.compiler import compile_model, unpack
from fastdigit.compiler.driver import verify_model
from fastdigit.compiler.inputs import Inputs
from fastdigit.compiler.ops import Softmax
from fastdigit.compiler.verify import check, compare, make_samples
from fastdigit.errors import (
    InputError,
    MissingExtraError,
    ModelFormatError,
    UnsupportedError,
    VerificationError,
)
from tests.support import need, reference
from tests.support.compiler_cases import OnnxNet, engine

onnx = need("onnx")
need("onnxruntime")


BLANK = np.zeros((2, 8, 6), np.uint8)


@pytest.fixture(scope="module")
def model():
    net = OnnxNet(("N", 1, 8, 6)).conv(1, 3, (3, 3)).add("Relu")
    net.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2]).add("Flatten").gemm(18, 4)
    return net.add("Softmax").model("tiny")


@pytest.fixture
def path(model, tmp_path):
    onnx.save(model, tmp_path / "tiny.onnx")
    return tmp_path / "tiny.onnx"


def test_writes_a_verified_file(path, tmp_path):
    output = tmp_path / "tiny.fdm"
    result = compile_model(path, output, engine=engine)
    assert output.read_bytes() == result.data
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["tiny.fdm", "tiny.onnx"]
    assert result.verification.samples == 64
    assert result.verification.label_agreement == 1.0
    assert 0 < result.verification.max_error <= 1e-6
    assert (result.steps[-1].name, result.steps[-1].operators) == ("fuse_epilogue", 3)
    assert result.listing().splitlines()[2].split()[:2] == ["CONV2D", "3x2x3"]


def test_metadata(path, tmp_path):
    meta = compile_model(path, None, engine=engine).meta
    verification = meta.pop("verification")
    assert verification["reference"].startswith("onnxruntime ")
    assert verification["accuracy"] is verification["source_accuracy"] is None
    assert set(verification) == {
        *("reference", "samples", "label_agreement", "max_error", "mean_error"),
        "error_quantiles",
        *("evaluated", "exact_error", "reference_error", "attainable_error"),
        *("source_accuracy", "accuracy"),
    }
    assert meta == {
        "classes": ["0", "1", "2", "3"],
        "compiler": "4",
        "input": {"because": "assumed", "layout": "NHWC", "shape": [8, 6, 1]},
        "name": "tiny",
        "precision": "fp32",
        "source": {"kind": "onnx", "layout": "NCHW", "shape": [1, 8, 6]},
        "temperature": 1.0,
    }
    assert str(tmp_path) not in str(meta)


def test_provenance_is_kept(model):
    origin = {"recipe": {"name": "x", "widths": (1, 2)}, "commit": "0" * 40}
    kept = compile_model(model, None, engine=engine, provenance=origin).meta["provenance"]
    assert kept == {"recipe": {"name": "x", "widths": [1, 2]}, "commit": "0" * 40}
    assert "provenance" not in compile_model(model, None, engine=engine).meta
    for wrong in ({"array": np.zeros(1)}, {"loss": float("nan")}):
        with pytest.raises(InputError, match="provenance can't be written as JSON"):
            compile_model(model, None, engine=engine, provenance=wrong)


def test_one_sigmoid_has_two_classes(tmp_path):
    """One output between 0 and 1: its label is 0 or 1, and accuracy is measured by it."""
    net = OnnxNet(("N", 1, 8, 6)).add("Flatten").gemm(48, 1).add("Sigmoid").model("mask")
    images = np.random.default_rng(0).random((300, 8, 6, 1), np.float32)
    result = compile_model(net, None, engine=engine)
    assert result.meta["classes"] == ["0", "1"]
    from onnxruntime import InferenceSession

    session = InferenceSession(net.SerializeToString(), providers=["CPUExecutionProvider"])
    want = session.run(None, {"input": images.transpose(0, 3, 1, 2)})[0]
    middle = float(np.median(want))
    compiled = fastdigit.Model(result.data)
    np.testing.assert_allclose(compiled.predict_proba(images), want, atol=1e-6)
    np.testing.assert_array_equal(compiled.predict(images), want[:, 0] > 0.5)
    labels = compiled.predict(images, threshold=middle)
    assert 100 < labels.sum() < 200

    right = (want[:, 0] > 0.5).astype(int)
    right[:30] = 1 - right[:30]
    output = tmp_path / "mask.fdm"
    result = compile_model(
        net, output, engine=engine, classes=["no", "yes"], samples=images, labels=right
    )
    assert result.meta["classes"] == ["no", "yes"]
    assert result.verification.accuracy == result.verification.source_accuracy == 0.9
    again = verify_model(result.data, net, engine=engine, samples=images, labels=right)
    assert again.accuracy == 0.9
    with pytest.raises(InputError, match=r"1 classes given, expected 2: .* sigmoid"):
        compile_model(net, None, engine=engine, classes=["yes"])


def test_the_logarithm_of_a_softmax_has_probabilities(tmp_path):
    """As networks of PyTorch end, of one output and of several."""
    net = OnnxNet(("N", 3)).gemm(3, 4).add("LogSoftmax", axis=-1)
    model = net.model()
    one = fastdigit.Model(compile_model(model, None, engine=engine).data)
    node = onnx.helper.make_node("Neg", [model.graph.output[0].name], ["negated"])
    model.graph.node.append(node)
    model.graph.output.append(onnx.helper.make_tensor_value_info("negated", 1, ["N", 4]))
    two = fastdigit.Model(compile_model(model, None, engine=engine).data)
    x = np.random.default_rng(0).random((5, 3)).astype(np.float32)
    for compiled, logs in ((one, one.run(x)), (two, next(iter(two.run(x).values())))):
        want = np.exp(logs.astype(np.float64))
        np.testing.assert_allclose(want.sum(axis=1), 1, rtol=0, atol=1e-5)
        np.testing.assert_allclose(compiled.predict_proba(x), want, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(compiled.predict(x), logs.argmax(axis=1))
    with pytest.raises(UnsupportedError, match="no probabilities"):
        two.predict_proba(x, output="negated")


def test_name_and_classes(model):
    result = compile_model(model, None, engine=engine, name="letters", classes=list("abcd"))
    assert result.meta["name"] == "letters"
    assert result.meta["classes"] == ["a", "b", "c", "d"]


def test_same_source_same_bytes(model, path):
    first = compile_model(model, None, engine=engine).data
    assert compile_model(path, None, engine=engine).data == first
    assert compile_model(str(path), None, engine=engine).data == first


def test_input_range(model):
    default = unpack(compile_model(model, None, engine=engine).data)
    assert (default.input_range, default.u8_divisor) == ((0.0, 1.0), 255)
    seen = []

    def watching(data, inputs):
        seen.append((inputs[0].min(), inputs[0].max()))
        return engine(data, inputs)

    other = unpack(compile_model(model, None, engine=watching, input_range=(-1, 1)).data)
    assert (other.input_range, other.u8_divisor) == ((-1.0, 1.0), 0)
    assert seen == [(-1.0, 1.0)]


def test_temperature(model):
    plain = unpack(compile_model(model, None, engine=engine).data)
    result = compile_model(model, None, engine=engine, temperature=1.7)
    program = unpack(result.data)
    stored = float(np.float32(1.7))
    assert result.meta["temperature"] == program.graph.nodes[-1].op.temperature == stored
    assert "temperature 1.7" in result.listing()
    assert result.verification == compile_model(model, None, engine=engine).verification
    images = make_samples((8, 6, 1), 0, 1)
    before, after = (reference.run_graph(p.graph, images) for p in (plain, program))
    powers = before ** (1 / stored)
    np.testing.assert_allclose(after, powers / powers.sum(1, keepdims=True), atol=1e-12)
    # Everything before the softmax is what it was.
    same = compile_model(model, None, engine=engine, temperature=1.0).data
    assert result.data[-len(result.data) // 4 :] == same[-len(result.data) // 4 :]


@pytest.mark.parametrize("temperature", [0, -1.0, np.nan, np.inf, 1e-60, 1e60])
def test_impossible_temperatures(model, temperature):
    with pytest.raises(InputError, match="expected a number > 0 that float32 has"):
        compile_model(model, None, engine=engine, temperature=temperature)


def test_a_temperature_needs_a_softmax():
    logits = OnnxNet(("N", 1, 8, 6)).add("Flatten").gemm(48, 4).model()
    assert compile_model(logits, None, engine=engine, temperature=1.0).meta["temperature"] is None
    with pytest.raises(UnsupportedError, match="does not end in a softmax"):
        compile_model(logits, None, engine=engine, temperature=2.0)


def test_a_wrong_temperature_is_found(path, tmp_path):
    """An engine that ignores it; the comparison with the source does not see that."""

    def ignorant(data, inputs):
        graph = unpack(data).graph
        nodes = [replace(n, op=Softmax()) if isinstance(n.op, Softmax) else n for n in graph.nodes]
        return reference.run_outputs(replace(graph, nodes=tuple(nodes)), inputs)

    with pytest.raises(VerificationError, match="differs from the softmax of its logits"):
        compile_model(path, tmp_path / "tiny.fdm", engine=ignorant, temperature=1.5)
    assert not (tmp_path / "tiny.fdm").exists()


def test_beyond_tolerance_nothing_is_written(path, tmp_path):
    output = tmp_path / "tiny.fdm"
    output.write_bytes(b"before")

    def wrong(data, inputs):
        outputs = engine(data, inputs)
        outputs[0][7, 2] += 0.01
        return outputs

    with pytest.raises(VerificationError, match=r"by 0\.01 on sample 7 of 64"):
        compile_model(path, output, engine=wrong)
    assert output.read_bytes() == b"before"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["tiny.fdm", "tiny.onnx"]
    assert compile_model(path, output, engine=wrong, tolerance=0.02).verification.max_error > 0.009
    assert output.read_bytes() != b"before"


def test_a_failing_write_leaves_nothing_behind(path, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        compile_model(path, tmp_path / "tiny.fdm", engine=engine)
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiny.onnx"]


def test_own_samples(model):
    samples = np.random.default_rng(0).integers(0, 256, (5, 8, 6), dtype=np.uint8)
    seen = []

    def watching(data, inputs):
        seen.extend(inputs)
        return engine(data, inputs)

    result = compile_model(model, None, engine=watching, samples=samples)
    assert result.verification.samples == 5
    np.testing.assert_array_equal(seen[0], samples[..., np.newaxis] / np.float32(255))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((3, 7, 6)), r"shape \(3, 7, 6\), expected \(N, 8, 6, 1\)"),
        (np.zeros((0, 8, 6)), "N > 0"),
        (np.zeros(48), r"shape \(48,\)"),
        (np.full((1, 8, 6), 1.5), "between 1.5 and 1.5, expected 0 to 1: compile it"),
        (np.full((1, 8, 6), np.nan), "between nan"),
        (np.zeros((1, 8, 6), dtype=complex), "dtype complex128"),
    ],
)
def test_wrong_samples(model, samples, message):
    with pytest.raises(InputError, match=message):
        compile_model(model, None, engine=engine, samples=samples)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["a", "b"]}, "2 classes given, the network has 4 outputs"),
        ({"classes": "abcd"}, "classes given"),
        ({"input_range": (1, 0)}, "low < high"),
        ({"input_range": (0, float("inf"))}, "finite"),
        ({"input_range": (0, 0.1)}, "float32"),
        (
            {"precision": "bf16"},
            "precision is 'bf16', expected one of fp32, fp16, int8, int8-dynamic",
        ),
        ({"labels": [1]}, "labels given without samples"),
        ({"labels": [1], "samples": BLANK}, r"shape \(1,\).*expected \(2,\) integers"),
        ({"labels": [[1], [2]], "samples": BLANK}, r"shape \(2, 1\)"),
        ({"labels": [1.0, 2.0], "samples": BLANK}, "dtype float64"),
        ({"labels": [0, 4], "samples": BLANK}, "between 0 and 4, expected 0 to 3"),
        ({"labels": [-1, 3], "samples": BLANK}, "between -1 and 3"),
    ],
)
def test_wrong_options(model, options, message):
    with pytest.raises(InputError, match=message):
        compile_model(model, None, engine=engine, **options)


def test_wrong_sources(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(UnsupportedError, match=r"model\.bin: neither its name nor its content is"):
        compile_model(tmp_path / "model.bin", None, engine=engine)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        compile_model(tmp_path / "model.onnx", None, engine=engine)
    with pytest.raises(UnsupportedError, match="cannot compile a dict"):
        compile_model({}, None, engine=engine)
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(ModelFormatError):
        compile_model(tmp_path / "empty.onnx", None, engine=engine)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named(path, monkeypatch, package):
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == package:
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r'pip install "fastdigit\[compile\]"'):
        compile_model(path, None, engine=engine)


@pytest.mark.parametrize("shape", [(28, 28, 1), (5, 4, 3), (7,), (1, 1, 1)])
def test_samples(shape):
    samples = make_samples(shape, -0.5, 2.0)
    assert samples.shape == (64, *shape)
    assert samples.dtype == np.float32
    assert (samples[0] == -0.5).all()
    assert (samples[1] == 2.0).all()
    assert (samples[3] != -0.5).all()
    assert samples.min() >= -0.5
    assert samples.max() <= 2.0
    np.testing.assert_array_equal(samples, make_samples(shape, -0.5, 2.0))


def test_samples_are_of_every_kind():
    filled = (make_samples((28, 28, 1), 0.0, 1.0) != 0).mean(axis=(1, 2, 3))
    assert (filled == 0).any()
    assert (filled > 0.99).any()
    assert ((filled > 0.05) & (filled < 0.2)).any()


def test_comparison():
    want = np.array([[0.1, 0.9], [100.0, 0.0]])
    result = compare("x", want, want + np.array([[0, 1e-6], [1e-4, 0]]), 1e-5)
    assert result.max_error == pytest.approx(1e-6)
    assert result.mean_error == pytest.approx((1e-6 + 1e-4 / 100) / 4)
    assert result.label_agreement == 1.0
    with pytest.raises(VerificationError, match=r"labels agree on 50\.00%"):
        compare("x", want, want[:, ::-1] * [[1], [0]] + want * [[0], [1]], 1e-5)
    with pytest.raises(VerificationError, match="by nan on sample 1"):
        compare("x", want, np.array([[0.1, 0.9], [np.nan, 0]]), 1e-5)
    with pytest.raises(VerificationError, match=r"returned shape \(2, 3\), x \(2, 2\)"):
        compare("x", want, np.zeros((2, 3)), 1e-5)


def test_check_accepts_what_the_engine_accepts():
    images = Inputs(0.0, 1.0, 255, "")
    assert check(np.zeros((2, 784)), (28, 28, 1), images).shape == (2, 28, 28, 1)
    assert check([[0, 1, 0]], (3,), images).dtype == np.float32


# ---- Labels, and precisions other than fp32 ------------------------------------------------------


@pytest.fixture(scope="module")
def wide():
    """A network with a dense layer that can have another precision, and one that can't."""
    net = OnnxNet(("N", 1, 8, 6)).conv(1, 3, (3, 3)).add("Relu").add("Flatten")
    return net.gemm(72, 50).add("Relu").gemm(50, 4).add("Softmax").model("wide")


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(0).integers(0, 256, (40, 8, 6), dtype=np.uint8)


def test_accuracy_is_measured(model, samples):
    labels = compile_model(model, None, engine=engine, samples=samples).data
    labels = engine(labels, [samples[..., np.newaxis] / np.float32(255)])[0].argmax(1)
    labels[:10] = (labels[:10] + 1) % 4

    def mistaken(data, inputs):
        (outputs,) = engine(data, inputs)
        outputs[:5] = outputs[:5, [3, 0, 1, 2]]  # the class after: right for these
        return [outputs]

    result = compile_model(
        model, None, engine=mistaken, samples=samples, labels=labels.tolist(), tolerance=1.0
    )
    assert result.meta["verification"]["source_accuracy"] == 30 / 40
    assert result.meta["verification"]["accuracy"] == 35 / 40
    assert result.verification.label_agreement == 35 / 40


@pytest.mark.parametrize("precision", ["fp16", "int8", "int8-dynamic"])
def test_reduced_precision(wide, samples, precision):
    exact = compile_model(wide, None, engine=engine, samples=samples)
    labels = np.arange(40) % 4
    seen = []

    def watching(data, inputs):
        seen.append([record.precision for record in unpack(data).records])
        return engine(data, inputs)

    result = compile_model(
        wide, None, engine=watching, samples=samples, labels=labels, precision=precision
    )
    # The program in fp32 first, then the reduced one.
    assert seen == [["", "fp32", "fp32", "fp32", ""], ["", "fp32", precision, "fp32", ""]]
    assert (result.steps[-1].name, result.steps[-1].operators) == ("quantize_weights", 4)
    said = "int8 weights and inputs" if precision == "int8-dynamic" else f"{precision} weights"
    assert f"of 72, {said}, bias, relu" in result.listing()
    assert result.meta["precision"] == precision
    verification = result.meta["verification"]
    images = samples[..., np.newaxis] / np.float32(255)
    (want,), (got,) = engine(exact.data, [images]), engine(result.data, [images])
    assert verification["max_error"] == pytest.approx(abs(got - want).max(), abs=1e-6)
    assert verification["mean_error"] == pytest.approx(abs(got - want).mean(), abs=1e-6)
    assert exact.verification.max_error < 1e-6 < verification["max_error"]
    assert verification["mean_error"] < verification["max_error"] < 0.02
    assert verification["accuracy"] == (got.argmax(1) == labels).mean()
    saved = 72 * 64 * {"fp16": 2, "int8": 3, "int8-dynamic": 3}[precision]
    assert len(exact.data) - len(result.data) == pytest.approx(saved, abs=1024)
    again = compile_model(
        wide, None, engine=engine, samples=samples, labels=labels, precision=precision
    )
    assert again.data == result.data


def test_tolerance_of_reduced_precision(wide):
    reduced = compile_model(wide, None, engine=engine, precision="int8").verification
    assert 1e-4 < reduced.max_error < 0.1
    with pytest.raises(VerificationError, match=r"more than the tolerance 0\.0001"):
        compile_model(wide, None, engine=engine, precision="int8", tolerance=1e-4)

    def off_by(amount, precisions):
        def wrong(data, inputs):
            outputs = engine(data, inputs)
            if unpack(data).graph.nodes[1].op.precision in precisions:
                outputs[0][3, 0] += amount
            return outputs

        return wrong

    for precision, default in [("fp16", 1e-2), ("int8", 1e-1), ("int8-dynamic", 1e-1)]:
        with pytest.raises(VerificationError, match=f"more than the tolerance {default:.3g};"):
            compile_model(wide, None, engine=off_by(1.2 * default, precision), precision=precision)
    # A fault of the fp32 program is one whatever the tolerance for the reduced one.
    with pytest.raises(VerificationError, match="more than the tolerance 1e-05"):
        compile_model(wide, None, engine=off_by(1e-4, "fp32"), precision="int8", tolerance=1.0)


def test_a_precision_that_changes_nothing_is_refused(model):
    with pytest.raises(UnsupportedError, match="int8 is for dense layers of more than 32 outputs"):
        compile_model(model, None, engine=engine, precision="int8")


def test_weights_beyond_fp16_are_refused():
    net = OnnxNet(("N", 6)).add("MatMul", None, np.full((6, 33), 1e5)).model()
    with pytest.raises(UnsupportedError, match=r"'matmul0'.*: weights go up to 100000, beyond"):
        compile_model(net, None, engine=engine, precision="fp16")
    assert compile_model(net, None, engine=engine, precision="int8").verification.max_error < 1e-3


def test_inputs_too_many_to_be_quantised_are_refused():
    weights = np.random.default_rng(0).normal(0, 1e-3, (65537, 33)).astype(np.float32)
    net = OnnxNet(("N", 65537)).add("MatMul", None, weights).model()
    with pytest.raises(
        UnsupportedError, match=r"'matmul0'.*65537 inputs; int8-dynamic .* up to 65536, use .* int8"
    ):
        compile_model(net, None, engine=engine, precision="int8-dynamic")


@pytest.mark.parametrize("tolerance", [-1, -1e-9, float("nan")])
def test_what_is_no_tolerance_is_refused(model, tolerance):
    with pytest.raises(InputError, match="expected a number >= 0"):
        compile_model(model, None, engine=engine, tolerance=tolerance)
    data = compile_model(model, None, engine=engine).data
    with pytest.raises(InputError, match="expected a number >= 0"):
        verify_model(data, model, engine=engine, tolerance=tolerance)


def test_many_samples_run_in_parts(model, samples):
    many = np.concatenate([samples] * 7)
    assert len(many) > 256
    result = compile_model(model, None, engine=engine, samples=many)
    assert result.verification.samples == 280
    assert result.verification.max_error < 1e-6


def test_a_source_that_returns_no_number_is_told_from_a_wrong_translation():
    net = OnnxNet(("N", 4)).add("Log").gemm(4, 3).model()
    with pytest.raises(VerificationError, match=r"itself returns no finite number.*--calibrate"):
        compile_model(net, None, engine=engine)
    images = np.random.default_rng(0).uniform(0.5, 1, (8, 4)).astype(np.float32)
    compiled = compile_model(net, None, engine=engine, samples=images)
    assert compiled.verification.max_error < 1e-5
