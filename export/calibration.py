"""Confidence that means something: temperature scaling, and measures of how far to trust it.

The temperature is fitted on images that were not trained on, and given to
``fastdigit.compile(..., temperature=T)``; it changes probabilities, never a label. For other
runtimes, :func:`set_temperature` does the same to an ONNX file.

    python -m export.calibration VALIDATION.npz

Everything is float64 NumPy.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastdigit.errors import FastDigitError, InputError, UnsupportedError

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

    Array = npt.NDArray[np.float64]

__all__ = [
    "Reliability",
    "RiskCoverage",
    "expected_calibration_error",
    "fit_temperature",
    "log_probabilities",
    "negative_log_likelihood",
    "reliability",
    "risk_coverage",
    "set_temperature",
    "softmax",
]

#: Bins of confidence, as in Guo et al. (2017).
BINS = 15

#: Shares of misread images for which the command says what to reject.
RISKS = (0.005, 0.002, 0.001)

#: Temperatures that are considered; a fit that wants more is no calibration.
LEAST, GREATEST = 0.01, 100.0


def log_probabilities(probabilities: npt.ArrayLike) -> Array:
    """Return log p, which serves as logits: they are known up to a constant for each row.

    A probability that was rounded to 0 counts as the least normal float32, about 1e-38.
    """
    p = np.asarray(probabilities, np.float64)
    return np.log(np.maximum(p, float(np.finfo(np.float32).tiny)))


def softmax(logits: npt.ArrayLike, temperature: float = 1.0) -> Array:
    """Return the softmax of ``logits / temperature`` along the last axis."""
    z = np.asarray(logits, np.float64) / temperature
    powers = np.exp(z - z.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def negative_log_likelihood(
    logits: npt.ArrayLike, labels: npt.ArrayLike, temperature: float = 1.0
) -> float:
    """Return the mean of -log p(label), in nats.

    Parameters
    ----------
    logits
        Of shape (N, classes); log-probabilities will do.
    labels
        The right class of each row, integers of shape (N,).
    temperature
        What logits are divided by.

    Raises
    ------
    InputError
        They do not fit each other.
    """
    z, y = _checked(logits, labels)
    z = z / temperature
    top = z.max(axis=1)
    normalizer = top + np.log(np.exp(z - top[:, None]).sum(axis=1))
    return float((normalizer - z[np.arange(len(y)), y]).mean())


def fit_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Find the temperature that makes the labels most likely.

    Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks" (2017), section 4.2.
    With b = 1 / T the negative log-likelihood is convex: its slope is the mean of E[z] - z(label),
    its curvature the mean of Var[z], both under softmax(b z). The root of the slope is found by
    Newton's method, held within a bracket by bisection.

    Parameters
    ----------
    logits
        Of images that were not trained on, shape (N, classes); log-probabilities will do.
    labels
        The right class of each row, integers of shape (N,).

    Returns
    -------
    float
        More than 1 if the network was too sure of itself, less than 1 if it was not sure enough.

    Raises
    ------
    InputError
        They do not fit each other, or no temperature from 0.01 to 100 is the best: every image is
        labelled right, say, so that more confidence is always better.
    """
    z, y = _checked(logits, labels)
    z = z - z.max(axis=1, keepdims=True)
    right = z[np.arange(len(y)), y]

    def slope_and_curvature(b: float) -> tuple[float, float]:
        p = softmax(z, 1 / b)
        mean = (p * z).sum(axis=1)
        variance = (p * (z - mean[:, None]) ** 2).sum(axis=1)
        return float((mean - right).mean()), float(variance.mean())

    low, high = 1 / GREATEST, 1 / LEAST
    if slope_and_curvature(low)[0] >= 0 or slope_and_curvature(high)[0] <= 0:
        raise InputError(
            f"no temperature from {LEAST} to {GREATEST} is the best for these {len(y)} rows: the "
            "label is always or hardly ever the greatest logit, or the logits are all alike"
        )
    b = 1.0
    for _ in range(200):
        slope, curvature = slope_and_curvature(b)
        if slope > 0:
            high = b
        else:
            low = b
        step = b - slope / curvature if curvature > 0 else np.inf
        previous, b = b, step if low < step < high else (low + high) / 2
        if abs(b - previous) <= 1e-12 * b:
            break
    return 1 / b


@dataclass(frozen=True, eq=False)
class Reliability:
    """Rows grouped by confidence, the greatest probability.

    Parameters
    ----------
    edges
        Of the bins, (bins + 1,): a bin holds confidences above its lower edge, up to its upper one.
    counts
        Rows in each bin, (bins,).
    confidence, accuracy
        Mean confidence and share of right labels in each bin, (bins,); NaN in an empty one.
    """

    edges: Array
    counts: npt.NDArray[np.int64]
    confidence: Array
    accuracy: Array

    @property
    def error(self) -> float:
        """The expected calibration error: |accuracy - confidence|, weighted by rows."""
        filled = self.counts > 0
        gaps = np.abs(self.accuracy[filled] - self.confidence[filled])
        return float((self.counts[filled] * gaps).sum() / self.counts.sum())


def reliability(
    probabilities: npt.ArrayLike, labels: npt.ArrayLike, bins: int = BINS
) -> Reliability:
    """Compare confidence with accuracy in bins of equal width.

    Parameters
    ----------
    probabilities
        Of shape (N, classes).
    labels
        The right class of each row, integers of shape (N,).
    bins
        How many.

    Raises
    ------
    InputError
        They do not fit each other.
    """
    p, y = _checked(probabilities, labels)
    top, right = p.max(axis=1), p.argmax(axis=1) == y
    edges = np.linspace(0.0, 1.0, bins + 1)
    index = np.clip(np.searchsorted(edges, top, side="left") - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 in empty bins
        confidence = np.bincount(index, top, bins) / counts
        accuracy = np.bincount(index, right, bins) / counts
    return Reliability(edges, counts, confidence, accuracy)


def expected_calibration_error(
    probabilities: npt.ArrayLike, labels: npt.ArrayLike, bins: int = BINS
) -> float:
    """Return how far confidence is from accuracy, on average: from 0 (calibrated) to 1.

    Naeini, Cooper and Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning"
    (2015), for the label that is predicted, with bins of equal width. See :func:`reliability`.
    """
    return reliability(probabilities, labels, bins).error


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """What ``predict(..., reject_below=threshold)`` labels, and how often it is wrong there.

    Parameters
    ----------
    thresholds
        Every confidence that occurs, descending, (K,).
    coverage
        Share of rows that are labelled with each, ascending, (K,).
    risk
        Share of wrong labels among these, (K,).
    area
        Mean of the risk over all coverages: less is better, and what is wrong should be unsure.
    """

    thresholds: Array
    coverage: Array
    risk: Array
    area: float

    def threshold(self, risk: float) -> float:
        """Return the threshold that labels most rows with at most this share of wrong labels; 1.0
        if none does."""
        good = np.flatnonzero(self.risk <= risk)
        return float(self.thresholds[good[-1]]) if len(good) else 1.0


def risk_coverage(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> RiskCoverage:
    """Reject rows in the order of their confidence, and see what remains.

    El-Yaniv and Wiener, "On the Foundations of Noise-free Selective Classification" (2010); the
    area as in Geifman, Uziel and El-Yaniv, "Bias-Reduced Uncertainty Estimation for Deep Neural
    Classifiers" (2019). Rows of equal confidence are accepted together.

    Parameters
    ----------
    probabilities
        Of shape (N, classes).
    labels
        The right class of each row, integers of shape (N,).

    Raises
    ------
    InputError
        They do not fit each other.
    """
    p, y = _checked(probabilities, labels)
    top, wrong = p.max(axis=1), p.argmax(axis=1) != y
    order = np.argsort(-top, kind="stable")
    top, errors = top[order], np.cumsum(wrong[order])
    last = np.flatnonzero(np.append(top[1:] != top[:-1], True))
    rows = last + 1
    risk = errors[last] / rows
    area = float((risk * np.diff(rows, prepend=0)).sum() / len(y))
    return RiskCoverage(top[last], rows / len(y), risk, area)


def _checked(values: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Array, npt.NDArray[np.int64]]:
    z, y = np.asarray(values, np.float64), np.asarray(labels)
    if z.ndim != 2 or not len(z) or y.shape != z.shape[:1] or y.dtype.kind not in "iu":
        raise InputError(
            f"values of shape {z.shape} and labels of shape {y.shape} and dtype {y.dtype}, "
            "expected (N, classes) and integers (N,), N > 0"
        )
    if not np.isfinite(z).all():
        raise InputError("values are not all finite; see log_probabilities for probabilities of 0")
    if y.min() < 0 or y.max() >= z.shape[1]:
        raise InputError(
            f"labels lie between {y.min()} and {y.max()}, expected 0 to {z.shape[1] - 1}"
        )
    return z, y.astype(np.int64)


def set_temperature(model: onnx.ModelProto, temperature: float) -> onnx.ModelProto:
    """Return a copy of an ONNX model with a division before its final Softmax.

    Raises
    ------
    UnsupportedError
        The model does not end in a Softmax.
    InputError
        The temperature is not a number > 0 that float32 has.
    """
    import onnx
    from onnx import helper, numpy_helper

    stored = np.float32(temperature)
    if not (np.isfinite(stored) and stored > 0):
        raise InputError(f"temperature is {temperature}, expected a number > 0 that float32 has")
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    nodes = changed.graph.node
    name = changed.graph.output[0].name
    makers = {output: index for index, node in enumerate(nodes) for output in node.output}
    while name in makers and nodes[makers[name]].op_type == "Identity":
        name = nodes[makers[name]].input[0]
    if name not in makers or nodes[makers[name]].op_type != "Softmax":
        raise UnsupportedError(f"the model {changed.graph.name!r} does not end in a Softmax")
    last = nodes[makers[name]]
    divided, factor = f"{name}.divided", f"{name}.temperature"
    division = helper.make_node("Div", [last.input[0], factor], [divided], divided)
    last.input[0] = divided
    nodes.insert(makers[name], division)
    changed.graph.initializer.append(numpy_helper.from_array(np.array(stored), factor))
    return changed


def report(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> dict[str, Any]:
    """Return accuracy, negative log-likelihood, calibration error and the risk-coverage area."""
    p, y = _checked(probabilities, labels)
    return {
        "accuracy": float((p.argmax(axis=1) == y).mean()),
        "nll": negative_log_likelihood(log_probabilities(p), y),
        "ece": expected_calibration_error(p, y),
        "aurc": risk_coverage(p, y).area,
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m export.calibration",
        description="Fit a temperature on validation images, and say what it does to them.",
    )
    parser.add_argument(
        "validation",
        type=Path,
        metavar="VALIDATION.npz",
        help="arrays 'probabilities' (N, classes) and 'labels' (N,), as a training leaves them",
    )
    options = parser.parse_args(arguments)
    try:
        with np.load(options.validation, allow_pickle=False) as arrays:
            logits, labels = log_probabilities(arrays["probabilities"]), arrays["labels"]
        temperature = fit_temperature(logits, labels)
    except (FastDigitError, OSError, KeyError, ValueError) as error:
        print(f"export.calibration: {options.validation}: {error}", file=sys.stderr)
        return 1
    for t in (1.0, temperature):
        facts = report(softmax(logits, t), labels)
        print(f"temperature {t:.4f}  " + "  ".join(f"{k} {v:.5f}" for k, v in facts.items()))
    curve = risk_coverage(softmax(logits, temperature), labels)
    for risk in RISKS:
        threshold = curve.threshold(risk)
        labelled = float(curve.coverage[curve.thresholds >= threshold][-1:].sum())
        print(f"at most {risk:.2%} misread: reject_below {threshold:.6f}, labels {labelled:.2%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
