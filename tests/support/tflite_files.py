"""Writes .tflite files operator by operator, without TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fastdigit.compiler.frontends.tflite.reader import Node, Quantization, Tensor, TFLiteModel
from fastdigit.compiler.frontends.tflite.writer import write_model

__all__ = ["RELU", "RELU6", "RELU_N1_TO_1", "SAME", "TANH", "VALID", "TFLiteNet"]

SAME, VALID = 0, 1
RELU, RELU_N1_TO_1, RELU6, TANH = 1, 2, 3, 4

#: Classes of options that are not named after their operator.
OPTIONS = {
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions",
    "REDUCE_PROD": "ReducerOptions",
    "SPLIT_V": "SplitVOptions",
    "SUM": "ReducerOptions",
}

TYPES = {
    "float32": "FLOAT32",
    "float16": "FLOAT16",
    "int8": "INT8",
    "uint8": "UINT8",
    "int32": "INT32",
    "int64": "INT64",
    "bool": "BOOL",
}


class TFLiteNet:
    """Each method that adds an operator returns the network, and ``last`` is its first output."""

    def __init__(self, *shape: int, seed: int = 0, type: str = "FLOAT32", **more: Any) -> None:
        self.rng = np.random.default_rng(seed)
        self.tensors = [Tensor("input", shape, type, **more)]
        self.nodes: list[Node] = []
        self.last = 0
        self.inputs: tuple[int, ...] = (0,)
        self.outputs: tuple[int, ...] | None = None

    def constant(self, values: Any, scale: Any = None, zero: Any = 0, axis: int = 0) -> int:
        """A constant; floats of two are floats of one, whatever NumPy makes of lists."""
        array = np.asarray(values)
        array = array.astype(
            {"float64": np.float32, "int64": np.int32}.get(str(array.dtype), array.dtype)
        )
        known = None
        if scale is not None:
            scales = np.atleast_1d(np.asarray(scale, np.float32)).astype(np.float64)
            known = Quantization(scales, np.broadcast_to(zero, scales.shape).astype(np.int64), axis)
        data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        name = f"constant{len(self.tensors)}"
        kind = TYPES[str(array.dtype)]
        self.tensors.append(Tensor(name, array.shape, kind, data=data, quantization=known))
        return len(self.tensors) - 1

    def input(self, *shape: int, name: str = "other", **more: Any) -> int:
        """One more input."""
        number = self.raw(Tensor(name, shape, "FLOAT32", **more))
        self.inputs = (*self.inputs, number)
        return number

    def raw(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def weights(self, *shape: int) -> int:
        """Constants of which a product with a vector of ones is about one."""
        return self.constant(self.rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]) or 1))

    def add(
        self,
        kind: str,
        *inputs: Any,
        outputs: int = 1,
        custom: str = "",
        result: str = "FLOAT32",
        **options: Any,
    ) -> TFLiteNet:
        """Add an operator; inputs are numbers of tensors, None the last output, or constants."""

        def number(given: Any) -> int:
            if given is None:
                return self.last
            return given if isinstance(given, int) else self.constant(given)

        numbers = tuple(number(given) for given in (inputs or (None,)))
        label = f"{kind.lower()}{len(self.nodes)}"
        made = [self.raw(Tensor(label, (), result)) for _ in range(outputs)]
        words = "".join(word.capitalize() for word in kind.split("_"))
        name = OPTIONS.get(kind, f"{words}Options") if options else ""
        self.nodes.append(Node(kind, numbers, tuple(made), options, name, 1, custom))
        self.last = made[0]
        return self

    def conv(self, inputs: int, outputs: int, *taps: int, **options: Any) -> TFLiteNet:
        given = {"Padding": VALID, "StrideH": 1, "StrideW": 1, **options}
        return self.add(
            "CONV_2D", None, self.weights(outputs, *taps, inputs), self.weights(outputs), **given
        )

    def depthwise(self, outputs: int, *taps: int, **options: Any) -> TFLiteNet:
        given = {"Padding": VALID, "StrideH": 1, "StrideW": 1, "DepthMultiplier": 1, **options}
        weights = self.constant(self.rng.normal(size=(1, *taps, outputs)) / np.sqrt(np.prod(taps)))
        return self.add("DEPTHWISE_CONV_2D", None, weights, self.weights(outputs), **given)

    def dense(self, inputs: int, outputs: int, **options: Any) -> TFLiteNet:
        weights = self.weights(outputs, inputs)
        return self.add("FULLY_CONNECTED", None, weights, self.weights(outputs), **options)

    def pool(
        self, kind: str, size: int, stride: int, padding: int = VALID, **options: Any
    ) -> TFLiteNet:
        given = {"FilterHeight": size, "FilterWidth": size, "StrideH": stride, "StrideW": stride}
        return self.add(f"{kind}_POOL_2D", None, Padding=padding, **given)

    def model(self, name: str = "net.tflite") -> TFLiteModel:
        outputs = (self.last,) if self.outputs is None else self.outputs
        return TFLiteModel(name, tuple(self.tensors), tuple(self.nodes), self.inputs, outputs)

    def bytes(self) -> bytes:
        return write_model(self.model())

    def save(self, folder: Path) -> Path:
        path = folder / "net.tflite"
        path.write_bytes(self.bytes())
        return path
