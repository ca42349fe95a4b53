"""Temperature and the measures of confidence, against what their definitions say in plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastdigit
from export import calibration
from export.calibration import (
    expected_calibration_error,
    fit_temperature,
    log_probabilities,
    negative_log_likelihood,
    reliability,
    risk_coverage,
    set_temperature,
    softmax,
)
from fastdigit.compiler import compile_model, unpack
from fastdigit.compiler.ops import Dense, Softmax
from fastdigit.datasets import load_mnist_test
from fastdigit.errors import InputError, UnsupportedError
from fastdigit.model import Model
from tests.support import need, reference
from tests.support.compiler_cases import OnnxNet, engine, run_onnx
from tests.support.networks import chain, packed


def drawn(n: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels that follow their softmax at a temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=4.0, size=(n, 10))
    p = reference.softmax(logits / temperature)
    labels = (p.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(0, 9)
    return logits, labels


# ---- Temperature -------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.3, 0.8, 1.0, 2.5, 8.0])
def test_finds_the_temperature_that_made_the_labels(temperature: float) -> None:
    logits, labels = drawn(40_000, temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.03)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.05, 20.0), st.integers(20, 300), st.integers(0, 2**32 - 1))
def test_no_other_temperature_is_better(temperature: float, n: int, seed: int) -> None:
    logits, labels = drawn(n, temperature, seed)
    try:
        found = fit_temperature(logits, labels)
    except InputError:
        # Then it is one of the ends that is best.
        grid = np.geomspace(0.01, 100.0, 400)
        losses = [negative_log_likelihood(logits, labels, t) for t in grid]
        assert np.argmin(losses) in (0, 399)
        return
    least = negative_log_likelihood(logits, labels, found)
    for factor in (0.5, 0.9, 0.999, 1.001, 1.1, 2.0):
        assert negative_log_likelihood(logits, labels, found * factor) >= least - 1e-12
    # Whatever is added to a row makes no difference: log-probabilities are as good as logits.
    p = softmax(logits)
    assert fit_temperature(log_probabilities(p), labels) == pytest.approx(found, rel=1e-6)


def test_likelihood_is_that_of_the_definition() -> None:
    logits, labels = drawn(50, 1.0)
    for t in (0.5, 1.0, 3.0):
        p = reference.softmax(logits / t)
        want = -np.mean([np.log(row[label]) for row, label in zip(p, labels, strict=True)])
        assert negative_log_likelihood(logits, labels, t) == pytest.approx(want, rel=1e-12)
        np.testing.assert_allclose(softmax(logits, t), p, rtol=1e-12)
    far = np.array([[0.0, 5000.0]])
    assert negative_log_likelihood(far, [0]) == 5000.0


def test_what_has_no_temperature() -> None:
    logits, _ = drawn(100, 1.0)
    with pytest.raises(InputError, match="no temperature from"):
        fit_temperature(logits, logits.argmax(axis=1))
    with pytest.raises(InputError, match="no temperature from"):
        fit_temperature(logits, logits.argmin(axis=1))
    with pytest.raises(InputError, match="no temperature from"):
        fit_temperature(np.zeros((5, 3)), [0, 1, 2, 0, 1])


def test_a_probability_of_zero_has_a_logarithm() -> None:
    np.testing.assert_allclose(
        log_probabilities([[0.0, 1.0]]), [[np.log(np.finfo(np.float32).tiny), 0.0]]
    )


@pytest.mark.parametrize("measure", [fit_temperature, reliability, risk_coverage])
def test_what_does_not_fit_together(measure) -> None:
    p = np.full((4, 3), 1 / 3)
    for values, labels, message in (
        (p, [0, 1, 2], r"labels of shape \(3,\)"),
        (p[0], [0, 1, 2], r"values of shape \(3,\)"),
        (p[:0], np.zeros(0, int), "N > 0"),
        (p, [0.0, 1.0, 2.0, 0.0], "float64"),
        (p, [0, 1, 2, 3], "between 0 and 3, expected 0 to 2"),
        (p * np.nan, [0, 1, 2, 0], "not all finite"),
    ):
        with pytest.raises(InputError, match=message):
            measure(values, labels)


# ---- Calibration error -------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.sampled_from([1, 2, 15]), st.integers(0, 2**32 - 1))
def test_calibration_error_is_that_of_the_definition(n: int, bins: int, seed: int) -> None:
    logits, labels = drawn(n, 2.0, seed)
    p = softmax(logits)
    top, right = p.max(axis=1), p.argmax(axis=1) == labels
    error = 0.0
    for m in range(bins):
        inside = (top > m / bins) & (top <= (m + 1) / bins)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - top[inside].mean())
    assert expected_calibration_error(p, labels, bins) == pytest.approx(error, abs=1e-12)
    groups = reliability(p, labels, bins)
    assert groups.counts.sum() == n
    assert np.isnan(groups.accuracy[groups.counts == 0]).all()


def test_calibration_error_of_the_extremes() -> None:
    certain = np.eye(4)
    assert expected_calibration_error(certain, [0, 1, 2, 3]) == 0.0
    assert expected_calibration_error(certain, [1, 2, 3, 0]) == 1.0
    assert expected_calibration_error(np.full((4, 2), 0.5), [0, 1, 0, 1]) == 0.0
    logits, labels = drawn(40_000, 3.0)
    t = fit_temperature(logits, labels)
    assert expected_calibration_error(softmax(logits), labels) > 0.1
    assert expected_calibration_error(softmax(logits, t), labels) < 0.01


# ---- Risk and coverage -------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_risk_and_coverage_are_those_of_each_threshold(n: int, seed: int) -> None:
    logits, labels = drawn(n, 2.0, seed)
    p = softmax(np.round(logits))  # so that confidences repeat
    curve = risk_coverage(p, labels)
    top, wrong = p.max(axis=1), p.argmax(axis=1) != labels
    assert set(curve.thresholds) == set(top)
    area = 0.0
    for threshold, coverage, risk in zip(curve.thresholds, curve.coverage, curve.risk, strict=True):
        kept = top >= threshold
        assert coverage == pytest.approx(kept.mean())
        assert risk == pytest.approx(wrong[kept].mean())
        area += (top == threshold).mean() * risk
    assert curve.area == pytest.approx(area)
    assert curve.coverage[-1] == 1.0
    assert curve.risk[-1] == pytest.approx(wrong.mean())


def test_a_threshold_for_a_risk() -> None:
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    curve = risk_coverage(p, [0, 0, 1, 0])
    assert curve.risk == pytest.approx([0, 0, 1 / 3, 1 / 4])
    assert curve.threshold(0.0) == 0.8
    assert curve.threshold(0.3) == 0.6
    assert risk_coverage(p, [1, 1, 1, 1]).threshold(0.5) == 1.0


def test_thresholds_are_those_of_predict() -> None:
    """What the curve says of a threshold is what reject_below does with it."""
    images, labels = load_mnist_test()
    model = fastdigit.load()
    curve = risk_coverage(model.predict_proba(images), labels)
    threshold = curve.threshold(0.001)
    got = model.predict(images, reject_below=threshold)
    index = int(np.flatnonzero(curve.thresholds == threshold)[0])
    assert (got != -1).mean() == pytest.approx(curve.coverage[index])
    assert (got != labels)[got != -1].mean() == pytest.approx(curve.risk[index])
    assert curve.risk[index] <= 0.001
    assert curve.coverage[index] > 0.9


# ---- In a model --------------------------------------------------------------------------------


def test_a_fitted_temperature_in_the_engine() -> None:
    logits, labels = drawn(5000, 2.0)
    t = fit_temperature(logits, labels)
    x = logits.astype(np.float32)
    options = {"input_range": (-np.inf, np.inf), "u8_divisor": 0}
    plain, model = (
        Model(packed(chain((10,), [Dense(np.eye(10, dtype=np.float32)), softmax]), **options))
        for softmax in (Softmax(), Softmax(t))
    )
    np.testing.assert_array_equal(model.predict(x), plain.predict(x))
    np.testing.assert_array_equal(model.logits(x), plain.logits(x))
    before, after = (expected_calibration_error(m.predict_proba(x), labels) for m in (plain, model))
    assert before > 0.1 and after < 0.02


def test_onnx_with_a_temperature() -> None:
    onnx = need("onnx")
    need("onnxruntime")
    net = OnnxNet(("N", 1, 4, 4)).add("Flatten").gemm(16, 5)
    logits, model = net.model(), net.add("Softmax").model()
    changed = set_temperature(model, 2.5)
    onnx.checker.check_model(changed, full_check=True)
    x = np.random.default_rng(0).random((7, 1, 4, 4), np.float32)
    np.testing.assert_allclose(
        run_onnx(changed, x), reference.softmax(run_onnx(logits, x) / 2.5), atol=1e-6
    )
    assert len(model.graph.node) + 1 == len(changed.graph.node), "the first is as it was"
    behind = net.add("Identity").model()
    np.testing.assert_allclose(run_onnx(set_temperature(behind, 2.5), x), run_onnx(changed, x))
    with pytest.raises(UnsupportedError, match="does not end in a Softmax"):
        set_temperature(logits, 2.0)
    with pytest.raises(InputError, match="temperature is 0"):
        set_temperature(model, 0.0)


def test_the_compiler_reads_it_back() -> None:
    """ONNX with a temperature gives, compiled, what ONNX Runtime gives."""
    need("onnxruntime")
    net = OnnxNet(("N", 1, 4, 4)).add("Flatten").gemm(16, 5).add("Softmax")
    changed = set_temperature(net.model(), 1.5)
    program = unpack(compile_model(changed, None, engine=engine).data)
    x = np.random.default_rng(0).random((7, 1, 4, 4), np.float32)
    got = reference.run_graph(program.graph, x.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(got, run_onnx(changed, x), atol=1e-6)


# ---- Command -----------------------------------------------------------------------------------


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logits, labels = drawn(3000, 2.0)
    file = tmp_path / "validation.npz"
    np.savez(file, probabilities=softmax(logits).astype(np.float32), labels=labels)
    assert calibration.main([str(file)]) == 0
    first, second, *thresholds = capsys.readouterr().out.splitlines()
    t = fit_temperature(log_probabilities(softmax(logits).astype(np.float32)), labels)
    assert first.startswith("temperature 1.0000  accuracy ")
    assert second.startswith(f"temperature {t:.4f}  ")
    error = expected_calibration_error(softmax(logits, t), labels)
    assert f"ece {error:.4f}"[:-1] in second
    p = softmax(log_probabilities(softmax(logits).astype(np.float32)), t)
    threshold = risk_coverage(p, labels).threshold(0.005)
    kept = p.max(axis=1) >= threshold
    line = f"reject_below {threshold:.6f}, labels {kept.mean():.2%}"
    assert thresholds[0] == f"at most 0.50% misread: {line}"
    assert calibration.main([str(tmp_path / "none.npz")]) == 1
    np.savez(file, labels=labels)
    assert calibration.main([str(file)]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert "none.npz" in errors[0] and "probabilities" in errors[1]
