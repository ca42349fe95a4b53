"""Runs sources with their own runtimes, some images at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastdigit.errors import MissingExtraError, pip_install

__all__ = ["Runner", "batched", "onnx_runtime"]

#: Images (N, *shape of the source) -> outputs (N, ...).
Runner: TypeAlias = Callable[[NDArray[np.float32]], NDArray[Any]]

#: Images that a source gets at once, which bounds its memory.
BATCH = 256


def batched(run: Runner, fixed: int | None) -> Runner:
    """Call ``run`` with a fixed number of images at a time, or with any up to BATCH."""

    def whole(images: NDArray[np.float32]) -> NDArray[Any]:
        batch = fixed or min(BATCH, len(images))
        padding = np.repeat(images[-1:], -len(images) % batch, axis=0)
        padded = np.concatenate([images, padding])
        outputs = [run(padded[start : start + batch]) for start in range(0, len(padded), batch)]
        return np.concatenate(outputs)[: len(images)]

    return whole


def onnx_runtime(data: bytes, output: str | None = None) -> tuple[str, Runner]:
    """Return what runs an output of an ONNX model, by default its first.

    Raises
    ------
    MissingExtraError
        If ONNX Runtime is not installed.
    """
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

    def run(images: NDArray[np.float32]) -> NDArray[Any]:
        result: NDArray[Any] = session.run([wanted], {source.name: images})[0]
        return result

    size = source.shape[0]
    return f"onnxruntime {onnxruntime.__version__}", batched(
        run, size if isinstance(size, int) else None
    )
