"""Runs sources with their own runtimes, some images at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastdigit.errors import MissingExtraError, pip_install

__all__ = ["Runner", "batched", "onnx_runtime"]

#: For each input images (N, *shape in the source) -> for each output (N, ...).
Runner: TypeAlias = Callable[[Sequence[NDArray[np.float32]]], list[NDArray[Any]]]

#: Images that a source gets at once, which bounds its memory.
BATCH = 256


def batched(run: Runner, fixed: int | None) -> Runner:
    """Call ``run`` with a fixed number of images at a time, or with any up to BATCH."""

    def whole(inputs: Sequence[NDArray[np.float32]]) -> list[NDArray[Any]]:
        count = len(inputs[0])
        batch = fixed or min(BATCH, count)
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
    data: bytes, inputs: Sequence[str] | None = None, outputs: Sequence[str] | None = None
) -> tuple[str, Runner]:
    """Return what runs an ONNX model, for some of its inputs and outputs: by default for all.

    Other inputs get zeros; no output that is asked for may depend on them.

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
    sources = {source.name: source for source in session.get_inputs()}
    given = list(sources) if inputs is None else list(inputs)
    wanted = [output.name for output in session.get_outputs()] if outputs is None else list(outputs)

    def run(images: Sequence[NDArray[np.float32]]) -> list[NDArray[Any]]:
        feed = dict(zip(given, images, strict=True))
        for name in sources.keys() - feed.keys():
            _, *dims = sources[name].shape
            shape = [size if isinstance(size, int) else 1 for size in dims]
            feed[name] = np.zeros((len(images[0]), *shape), np.float32)
        results: list[NDArray[Any]] = session.run(wanted, feed)
        return results

    size = sources[given[0]].shape[0]
    return f"onnxruntime {onnxruntime.__version__}", batched(
        run, size if isinstance(size, int) else None
    )
