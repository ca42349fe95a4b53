"""Holds a compiled model against its source, run by ONNX Runtime, Keras or TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdigit.compiler.frontends import Imported, SavedModel
from fastdigit.errors import InputError, MissingExtraError, VerificationError, pip_install

__all__ = [
    "TOLERANCES",
    "Verification",
    "check",
    "check_labels",
    "compare",
    "make_samples",
    "source_runner",
]

F32 = NDArray[np.float32]
Runner = Callable[[F32], NDArray[Any]]

SAMPLES = 64
SEED = 20170
#: Images that a source gets at once, which bounds its memory.
BATCH = 256
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

    The function takes images as the compiled model does. A Keras model is converted with tf2onnx
    and run by ONNX Runtime if both are installed, and by Keras otherwise. A SavedModel is run by
    TensorFlow.

    Raises
    ------
    MissingExtraError
        If the source is ONNX and ONNX Runtime is not installed.
    """
    if isinstance(model, SavedModel):
        name, run = _tensorflow_runner(model)
    elif imported.kind == "onnx":
        name, run = _onnx_runner(model.SerializeToString(), imported.source_output)
    else:
        name, run = _keras_runner(model, imported)
    return name, lambda images: run(_as_source(images, imported))


def _as_source(images: F32, imported: Imported) -> F32:
    """Put images, as the compiled model takes them, in the shape and order of axes of the source.

    The passes may have given the front end's input another shape, but not another order.
    """
    if imported.source_layout == "NCHW":
        images = images.reshape(len(images), *imported.graph.shapes[imported.graph.input])
        images = images.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images.reshape(len(images), *imported.source_shape))


def _onnx_runner(data: bytes, output: str | None = None) -> tuple[str, Runner]:
    """Run an output of a model, by default its first."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(
            f"verifying a model needs ONNX Runtime: {pip_install('compile')}"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    wanted = output or session.get_outputs()[0].name

    def run(images: F32) -> NDArray[Any]:
        result: NDArray[Any] = session.run([wanted], {source.name: images})[0]
        return result

    batch = source.shape[0]
    batched = _batched(run, batch if isinstance(batch, int) else None)
    return f"onnxruntime {onnxruntime.__version__}", batched


def _tensorflow_runner(model: SavedModel) -> tuple[str, Runner]:
    import tensorflow as tf

    return f"tensorflow {tf.__version__}", _batched(model.run, model.batch)


def _batched(run: Runner, fixed: int | None) -> Runner:
    """Call ``run`` with a fixed number of images at a time, or with any up to BATCH."""

    def whole(images: F32) -> NDArray[Any]:
        batch = fixed or min(BATCH, len(images))
        padding = np.repeat(images[-1:], -len(images) % batch, axis=0)
        padded = np.concatenate([images, padding])
        outputs = [run(padded[start : start + batch]) for start in range(0, len(padded), batch)]
        return np.concatenate(outputs)[: len(images)]

    return whole


def _keras_runner(model: Any, imported: Imported) -> tuple[str, Runner]:
    import keras

    def alone(images: F32) -> NDArray[Any]:
        return np.asarray(model.predict(images, verbose=0))

    keras_alone: tuple[str, Runner] = (f"keras {keras.__version__}", alone)
    try:
        import onnxruntime  # noqa: F401
        import tensorflow as tf
        import tf2onnx
    except ImportError:
        tf2onnx = None
    if tf2onnx is None or keras.backend.backend() != "tensorflow":
        return keras_alone
    signature = [tf.TensorSpec((None, *imported.source_shape), tf.float32, name="input")]
    function = tf.function(lambda x: model(x, training=False), input_signature=signature)
    converted, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=18)
    if not _is_valid(converted):
        return keras_alone
    return _onnx_runner(converted.SerializeToString())


def _is_valid(model: Any) -> bool:
    """Whether tf2onnx knew all of the network: what it did not, it leaves as TensorFlow has it."""
    import onnx

    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError:
        return False
    return len(model.graph.input) == 1


def check(images: Any, shape: tuple[int, ...], low: float, high: float) -> F32:
    """Return samples as float32 (N, *shape).

    Raises
    ------
    InputError
        If they have another shape, are not numbers, or lie outside [low, high].
    """
    array = np.asarray(images)
    if array.dtype == np.uint8 and (low, high) == (0.0, 1.0):
        array = array / np.float32(255)
    if array.ndim < 2 or array.shape[0] == 0 or array[0].size != np.prod(shape):
        raise InputError(
            f"samples have shape {array.shape}, expected (N, {', '.join(map(str, shape))}), N > 0"
        )
    if array.dtype.kind not in "fiu":
        raise InputError(f"samples have dtype {array.dtype}, expected float32")
    array = array.astype(np.float32).reshape(len(array), *shape)
    if not (np.isfinite(array).all() and array.min() >= low and array.max() <= high):
        raise InputError(
            f"samples lie between {array.min()} and {array.max()}, expected {low} to {high}"
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


def compare(
    reference: str,
    want: NDArray[Any],
    got: NDArray[Any],
    tolerance: float,
    labels: NDArray[np.int64] | None = None,
) -> Verification:
    """Compare the outputs (N, ...) of source and compiled model; ``labels`` (N,) are the right
    ones.

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
    theirs, ours = want.argmax(axis=1), got.argmax(axis=1)
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
