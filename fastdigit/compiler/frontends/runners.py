"""Runs sources with their own runtimes, some images at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastdigit.errors import MissingExtraError, VerificationError, pip_install

__all__ = ["Runner", "batched", "import_onnxruntime", "onnx_runtime", "without_telemetry"]

#: For each input images (N, *shape in the source) -> for each output (N, ...).
Runner: TypeAlias = Callable[[Sequence[NDArray[np.float32]]], list[NDArray[Any]]]

#: Images that a source gets at once, which bounds its memory.
BATCH = 256
#: Numbers that a source with a fixed number of images may take at once.
MAX_NUMBERS = 1 << 28


def without_telemetry() -> None:
    """Have ONNX Runtime send nothing and write nothing, unless the environment says otherwise.

    From 1.29 its wheels for Linux and macOS keep an identifier of the machine below the home
    directory, and tell their makers of sessions and models. It looks at the variable once, when it
    is imported (https://github.com/microsoft/onnxruntime/pull/27379).
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def import_onnxruntime() -> Any:
    """Return the module; :class:`MissingExtraError` if it is not installed."""
    without_telemetry()
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(
            f"verifying a model needs ONNX Runtime: {pip_install('compile')}"
        ) from error
    return onnxruntime


def batched(run: Runner, fixed: int | None) -> Runner:
    """Call ``run`` with a fixed number of images at a time, or with any up to BATCH."""

    def whole(inputs: Sequence[NDArray[np.float32]]) -> list[NDArray[Any]]:
        count = len(inputs[0])
        batch = fixed or min(BATCH, count)
        if batch * sum(images[0].size for images in inputs) > MAX_NUMBERS:
            raise VerificationError(
                f"the source takes exactly {batch:,} images at once, too many to run it and verify "
                "the result: export it with a batch axis that is free"
            )
        padded = [
            np.concatenate([images, np.repeat(images[-1:], -count % batch, axis=0)])
            for images in inputs
        ]
        parts = [
            run([images[start : start + batch] for images in padded])
            for start in range(0, len(padded[0]), batch)
        ]
        return [np.concatenate(output)[:count] for output in zip(*parts, strict=True)]

    return whole


def onnx_runtime(
    data: bytes,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    *,
    batch_axes: Sequence[int] | None = None,
) -> tuple[str, Runner]:
    """Return what runs an ONNX model, for some of its inputs and outputs: by default for all.

    Other inputs get zeros; no output that is asked for may depend on them. ``batch_axes`` says
    where the outputs of the model have their batch; those of the function have it first.

    Raises
    ------
    MissingExtraError
        If ONNX Runtime is not installed.
    VerificationError
        If it cannot run the model; the function raises it too.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as many kinds as there are reasons
        raise _cannot_run(error) from error
    sources = {source.name: source for source in session.get_inputs()}
    given = list(sources) if inputs is None else list(inputs)
    wanted = [output.name for output in session.get_outputs()] if outputs is None else list(outputs)

    def run(images: Sequence[NDArray[np.float32]]) -> list[NDArray[Any]]:
        feed = {
            name: _typed(sources[name], array) for name, array in zip(given, images, strict=True)
        }
        for name in sources.keys() - feed.keys():
            free = [len(images[0]), *[1] * len(sources[name].shape)]
            dims = [
                size if isinstance(size, int) else free[axis]
                for axis, size in enumerate(sources[name].shape)
            ]
            feed[name] = _typed(sources[name], np.zeros(dims, np.float32))
        try:
            results: list[NDArray[Any]] = session.run(wanted, feed)
        except Exception as error:
            raise _cannot_run(error) from error
        if batch_axes is not None:
            results = [
                np.moveaxis(result, axis, 0)
                for result, axis in zip(results, batch_axes, strict=True)
            ]
        return results

    dims = list(sources[given[0]].shape)
    size = dims[0] if dims else None
    if size == 0:
        raise VerificationError(
            "the source takes exactly 0 images at once, so that no runtime can run it; export it "
            "with a batch axis that is free"
        )
    return f"onnxruntime {onnxruntime.__version__}", batched(
        run, size if isinstance(size, int) and size > 0 else None
    )


#: Of inputs, by ONNX Runtime's names.
_DTYPES = {
    "tensor(bool)": "bool",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
}


def _typed(source: Any, images: NDArray[np.float32]) -> NDArray[Any]:
    """Return images in the type that an input has."""
    dtype = np.dtype(_DTYPES.get(source.type, "float32"))
    return (np.rint(images) if dtype.kind in "iu" else images).astype(dtype)


def _cannot_run(error: Exception) -> VerificationError:
    reason = " ".join(str(error).split())[:300]
    return VerificationError(
        f"ONNX Runtime cannot run the source, so the result cannot be verified: {reason}"
    )
