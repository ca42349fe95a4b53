"""Quantises the network to 8 bits with the tools of other runtimes; run as a program.

``python quantize.py SCHEME SOURCE TARGET CALIBRATION``, where SCHEME is a function of this module,
SOURCE is the network in float32, and CALIBRATION is a ``.npy`` file of images, float32
(N, 28, 28, 1). It is run by path, in a process of its own, and imports nothing of ours.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["SCHEMES"]

Scheme = Callable[[Path, Path, Path], None]


def _images(calibration: Path, shape: list[Any]) -> Iterator[Any]:
    """Yield images one by one in a model's input shape."""
    for image in np.load(calibration):
        yield image.reshape(1, *shape[1:])


def _onnxruntime_dynamic(operators: list[str]) -> Scheme:
    """Weights in 8 bits; activations are quantised at run time, by their range in each call.

    https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
    """

    def scheme(source: Path, target: Path, calibration: Path) -> None:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        with tempfile.TemporaryDirectory() as scratch:
            prepared = _preprocess(source, Path(scratch))
            quantize_dynamic(
                prepared, target, op_types_to_quantize=operators, weight_type=QuantType.QInt8
            )

    return scheme


def _onnxruntime_static(activations: str) -> Scheme:
    """Weights and activations in 8 bits, in QDQ form, ranges from the calibration images.

    `activations` is "QUInt8" or "QInt8". Where the CPU lacks VNNI, products of unsigned activations
    with signed weights could saturate, so weights get 7 bits, as the documentation advises.
    https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
    """

    def scheme(source: Path, target: Path, calibration: Path) -> None:
        from onnxruntime import InferenceSession
        from onnxruntime.quantization import (
            CalibrationDataReader,
            QuantFormat,
            QuantType,
            quantize_static,
        )

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                (input_,) = InferenceSession(
                    str(source), providers=["CPUExecutionProvider"]
                ).get_inputs()
                self._feeds = ({input_.name: image} for image in _images(calibration, input_.shape))

            def get_next(self) -> dict[str, Any] | None:
                return next(self._feeds, None)

        with tempfile.TemporaryDirectory() as scratch:
            quantize_static(
                _preprocess(source, Path(scratch)),
                target,
                Reader(),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType[activations],
                weight_type=QuantType.QInt8,
                per_channel=True,
                reduce_range=activations == "QUInt8" and not _has_vnni(),
            )

    return scheme


def _preprocess(source: Path, scratch: Path) -> Path:
    """Infer shapes and optimise, as ONNX Runtime asks one to do first."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    target = scratch / "prepared.onnx"
    quant_pre_process(source, target, skip_symbolic_shape=True)
    return target


def _has_vnni() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_vnni" in flags or "avx_vnni" in flags


def litert_dynamic(source: Path, target: Path, calibration: Path) -> None:
    """Weights in 8 bits, activations quantised at run time.

    https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/post_training_quantization
    """
    _convert_to_tflite(source, target, None)


def litert_int8(source: Path, target: Path, calibration: Path) -> None:
    """Weights and activations in 8 bits; input and output stay float32."""
    _convert_to_tflite(source, target, calibration)


def _convert_to_tflite(source: Path, target: Path, calibration: Path | None) -> None:
    import tensorflow as tf

    model = tf.keras.models.load_model(source, compile=False)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if calibration is not None:
        shape = list(model.input_shape)
        converter.representative_dataset = lambda: ([i] for i in _images(calibration, shape))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    target.write_bytes(converter.convert())


def openvino_int8(source: Path, target: Path, calibration: Path) -> None:
    """Weights and activations in 8 bits, by NNCF's post-training quantisation.

    https://docs.openvino.ai/2025/openvino-workflow/model-optimization-guide.html
    """
    import nncf
    import openvino

    model = openvino.Core().read_model(source)
    shape = [d.get_length() if d.is_static else 1 for d in model.input(0).partial_shape]
    images = list(_images(calibration, shape))
    quantized = nncf.quantize(model, nncf.Dataset(images), subset_size=len(images))
    openvino.save_model(quantized, target, compress_to_fp16=False)


def openvino_weights(source: Path, target: Path, calibration: Path) -> None:
    """Weights alone in 8 bits, by NNCF."""
    import nncf
    import openvino

    model = openvino.Core().read_model(source)
    openvino.save_model(nncf.compress_weights(model), target, compress_to_fp16=False)


SCHEMES: dict[str, Scheme] = {
    "onnxruntime dense dynamic": _onnxruntime_dynamic(["MatMul", "Gemm"]),
    "onnxruntime all dynamic": _onnxruntime_dynamic(["MatMul", "Gemm", "Conv"]),
    "onnxruntime u8s8": _onnxruntime_static("QUInt8"),
    "onnxruntime s8s8": _onnxruntime_static("QInt8"),
    "litert dynamic": litert_dynamic,
    "litert int8": litert_int8,
    "openvino int8": openvino_int8,
    "openvino weights": openvino_weights,
}


if __name__ == "__main__":
    SCHEMES[sys.argv[1]](*map(Path, sys.argv[2:]))
