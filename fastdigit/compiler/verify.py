"""Holds a compiled model against its source, which its front end knows how to run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdigit.compiler.frontends import Imported, Port, front_end_of
from fastdigit.compiler.frontends.runners import Runner
from fastdigit.compiler.inputs import Inputs
from fastdigit.errors import InputError, VerificationError

__all__ = [
    "TOLERANCES",
    "Verification",
    "check",
    "check_labels",
    "compare",
    "compare_outputs",
    "make_samples",
    "source_runner",
]

F32 = NDArray[np.float32]

SAMPLES = 64
SEED = 20170
#: Largest error allowed by default, for each precision of the weights.
TOLERANCES = {"fp32": 1e-5, "fp16": 1e-2, "int8": 1e-1, "int8-dynamic": 1e-1}


@dataclass(frozen=True)
class Verification:
    """How a compiled model compares with its source.

    Parameters
    ----------
    reference
        What ran the source, and its version.
    samples
        Number of images compared.
    label_agreement
        Share of images for which the largest output is the same.
    max_error
        Largest ``|compiled - source| / max(1, |source|)`` over all outputs: for probabilities, the
        absolute difference.
    mean_error
        Mean of the same over all outputs of all images.
    error_quantiles
        Of the largest error of each image: the median, and the 0.9 and 0.99 quantiles.
    source_accuracy, accuracy
        Shares of images for which the largest output of the source, and of the compiled model, is
        the right one; None where that is not known.
    """

    reference: str
    samples: int
    label_agreement: float
    max_error: float
    mean_error: float
    error_quantiles: tuple[float, float, float] = (0.0, 0.0, 0.0)
    source_accuracy: float | None = None
    accuracy: float | None = None


def make_samples(shape: tuple[int, ...], low: float, high: float, count: int = SAMPLES) -> F32:
    """Return (count, *shape) images in [low, high], always the same ones.

    The first is blank, the second full; the others are, in turn, noise, a few random pixels on a
    blank ground, and (for images) a rectangle of noise on one.
    """
    rng = np.random.default_rng(SEED)
    images = np.full((count, *shape), low, dtype=np.float32)
    noise = rng.uniform(low, high, (count, *shape)).astype(np.float32)
    images[1:2] = high
    for index in range(2, count):
        mask = np.ones(shape, dtype=bool)
        if index % 3 == 1:
            mask = rng.random(shape) < 0.1
        elif index % 3 == 2:
            for axis in range(min(2, len(shape))):
                first, last = np.sort(rng.integers(0, shape[axis] + 1, 2))
                along = (np.arange(shape[axis]) >= first) & (np.arange(shape[axis]) < last)
                mask &= along.reshape([-1 if a == axis else 1 for a in range(len(shape))])
        images[index][mask] = noise[index][mask]
    return np.clip(images, np.float32(low), np.float32(high))


def source_runner(model: Any, imported: Imported) -> tuple[str, Runner]:
    """Return (name and version, function) that runs the source.

    The function takes inputs as the compiled model does. What runs it is the front end's choice.

    Raises
    ------
    MissingExtraError
        If what has to run the source is not installed.
    """
    name, run = front_end_of(model).runner(model, imported)
    return name, lambda inputs: run(list(map(_as_source, inputs, imported.inputs)))


def _as_source(images: F32, port: Port) -> F32:
    """Put images, as the compiled model takes them, in the shape and order of axes of the source.

    The passes may have given the front end's input another shape, but not another order.
    """
    if port.layout == "NCHW":
        channels, height, width = port.shape
        images = images.reshape(len(images), height, width, channels).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images.reshape(len(images), *port.shape))


def check(images: Any, shape: tuple[int, ...], inputs: Inputs) -> F32:
    """Return samples as float32 (N, *shape).

    Raises
    ------
    InputError
        If they have another shape, are not numbers, or are not what the model takes.
    """
    array = np.asarray(images)
    if array.ndim < 2 or array.shape[0] == 0 or array[0].size != np.prod(shape):
        raise InputError(
            f"samples have shape {array.shape}, expected (N, {', '.join(map(str, shape))}), N > 0"
        )
    if array.dtype.kind not in "fiu":
        raise InputError(f"samples have dtype {array.dtype}, expected float32")
    if array.dtype == np.uint8 and inputs.u8_divisor:
        array = array / np.float32(inputs.u8_divisor)
    elif array.dtype == np.uint8 and inputs.range == (-math.inf, math.inf):
        raise InputError(
            "samples are uint8, and nothing says what bytes mean to this network: give floats, or "
            "an input range"
        )
    array = array.astype(np.float32).reshape(len(array), *shape)
    if not (np.isfinite(array).all() and array.min() >= inputs.low and array.max() <= inputs.high):
        raise InputError(
            f"samples lie between {array.min()} and {array.max()}, expected {inputs.low:g} to "
            f"{inputs.high:g}: give another input range (--input-range LOW HIGH), or none"
        )
    return array


def check_labels(labels: Any, samples: int, classes: int) -> NDArray[np.int64]:
    """Return the right outputs of samples as int64 (samples,).

    Raises
    ------
    InputError
        If they are not one integer 0 to ``classes`` - 1 for each sample.
    """
    array = np.asarray(labels)
    if array.shape != (samples,) or array.dtype.kind not in "iu":
        raise InputError(
            f"labels have shape {array.shape} and dtype {array.dtype}, expected ({samples},) "
            "integers: one for each sample"
        )
    if array.min() < 0 or array.max() >= classes:
        raise InputError(
            f"labels lie between {array.min()} and {array.max()}, expected 0 to {classes - 1}"
        )
    return array.astype(np.int64)


def compare_outputs(
    reference: str,
    names: Sequence[str],
    want: Sequence[NDArray[Any]],
    got: Sequence[NDArray[Any]],
    tolerance: float,
    labels: NDArray[np.int64] | None = None,
    *,
    binary: bool = False,
) -> Verification:
    """Compare each output of source and compiled model, as :func:`compare` does.

    Of several, the worst figures are returned; ``labels`` and ``binary`` are of the first.

    Raises
    ------
    VerificationError
        If one of them differs.
    """
    results: list[Verification] = []
    for name, theirs, ours in zip(names, want, got, strict=True):
        first = not results
        right = labels if first else None
        try:
            results.append(
                compare(reference, theirs, ours, tolerance, right, binary=binary and first)
            )
        except VerificationError as error:
            if len(names) == 1:
                raise
            raise VerificationError(f"output {name!r}: {error}") from None
    if len(results) == 1:
        return results[0]
    return replace(
        max(results, key=lambda result: result.max_error),
        label_agreement=min(result.label_agreement for result in results),
        source_accuracy=results[0].source_accuracy,
        accuracy=results[0].accuracy,
    )


def compare(
    reference: str,
    want: NDArray[Any],
    got: NDArray[Any],
    tolerance: float,
    labels: NDArray[np.int64] | None = None,
    *,
    binary: bool = False,
) -> Verification:
    """Compare the outputs (N, ...) of source and compiled model; ``labels`` (N,) are the right
    ones, and ``binary`` says that the only output is the probability of label 1.

    Raises
    ------
    VerificationError
        If they differ by more than ``tolerance``, or in shape, or are not finite.
    """
    want, got = np.asarray(want, dtype=np.float64), np.asarray(got, dtype=np.float64)
    if want.shape != got.shape:
        raise VerificationError(
            f"the compiled model returned shape {got.shape}, {reference} {want.shape}"
        )
    want, got = want.reshape(len(want), -1), got.reshape(len(got), -1)
    error = np.abs(got - want) / np.maximum(1.0, np.abs(want))
    theirs, ours = (
        values[:, 0] > 0.5 if binary else values.argmax(axis=1) for values in (want, got)
    )
    median, q90, q99 = np.quantile(error.reshape(len(error), -1).max(axis=1), (0.5, 0.9, 0.99))
    result = Verification(
        reference,
        samples=len(want),
        label_agreement=float((theirs == ours).mean()),
        max_error=float(error.max()),
        mean_error=float(error.mean()),
        error_quantiles=(float(median), float(q90), float(q99)),
        source_accuracy=None if labels is None else float((theirs == labels).mean()),
        accuracy=None if labels is None else float((ours == labels).mean()),
    )
    if not error.max() <= tolerance:  # also true for NaN
        worst = int(np.nan_to_num(error, nan=np.inf).max(axis=1).argmax())
        raise VerificationError(
            f"the compiled model differs from {reference} by {result.max_error:.3g} on sample "
            f"{worst} of {len(want)}, more than the tolerance {tolerance:.3g}; labels agree on "
            f"{result.label_agreement:.2%}"
        )
    return result
