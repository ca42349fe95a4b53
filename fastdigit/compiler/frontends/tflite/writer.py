"""Writes a network as the bytes of a .tflite file: the opposite of the reader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastdigit.compiler.frontends.tflite.reader import (
    IDENTIFIER,
    VERSION,
    Node,
    Tensor,
    TFLiteModel,
    import_schema,
)
from fastdigit.compiler.frontends.tflite.weights import dequantized

__all__ = ["with_float_weights", "write_model"]


def with_float_weights(model: TFLiteModel) -> TFLiteModel:
    """Return a network whose weights are float32 numbers, whatever they were stored as.

    So a runtime multiplies by what the weights stand for. With integers TensorFlow Lite would round
    the values that they are multiplied by, too.
    """
    tensors = [_as_floats(tensor) for tensor in model.tensors]
    nodes = []
    for node in model.nodes:
        source = tensors[node.inputs[0]] if node.inputs else None
        if node.type == "DEQUANTIZE" and source is not None and source.data is not None:
            tensors[node.outputs[0]] = source
        else:
            nodes.append(node)
    return replace(model, tensors=tuple(tensors), nodes=tuple(nodes))


def _as_floats(tensor: Tensor) -> Tensor:
    stored = tensor.type == "FLOAT16" or tensor.quantization is not None
    if tensor.data is None or not stored:
        return tensor
    data = np.frombuffer(dequantized(tensor).astype("<f4").tobytes(), np.uint8)
    return replace(tensor, type="FLOAT32", data=data, quantization=None)


def write_model(model: TFLiteModel) -> bytes:
    """Return the bytes of a file with a network."""
    import flatbuffers

    writer = _Writer(import_schema(), flatbuffers.Builder(1 << 16))
    return writer.write(model)


class _Writer:
    def __init__(self, schema: Any, builder: Any) -> None:
        self.schema, self.builder = schema, builder

    def write(self, model: TFLiteModel) -> bytes:
        kinds = sorted({(node.type, node.version, node.custom) for node in model.nodes})
        # Buffer 0 is empty, and stands for none.
        buffers, tensors = [self._table("Buffer", {})], []
        for tensor in model.tensors:
            number = 0
            if tensor.data is not None:
                number = len(buffers)
                data = self.builder.CreateByteVector(tensor.data.tobytes())
                buffers.append(self._table("Buffer", {"Data": data}))
            tensors.append(self._tensor(tensor, number))
        graph = self._table(
            "SubGraph",
            {
                "Tensors": self._tables(tensors),
                "Inputs": self._numbers(model.inputs),
                "Outputs": self._numbers(model.outputs),
                "Operators": self._tables([self._node(node, kinds) for node in model.nodes]),
            },
        )
        root = self._table(
            "Model",
            {
                "Version": VERSION,
                "OperatorCodes": self._tables([self._code(*kind) for kind in kinds]),
                "Subgraphs": self._tables([graph]),
                "Buffers": self._tables(buffers),
            },
        )
        self.builder.Finish(root, file_identifier=IDENTIFIER)
        return bytes(self.builder.Output())

    def _table(self, kind: str, fields: dict[str, Any]) -> int:
        getattr(self.schema, f"{kind}Start")(self.builder)
        for name, value in fields.items():
            getattr(self.schema, f"{kind}Add{name}")(self.builder, value)
        return int(getattr(self.schema, f"{kind}End")(self.builder))

    def _numbers(self, numbers: Any, dtype: Any = np.int32) -> int:
        return int(self.builder.CreateNumpyVector(np.array(numbers, dtype=dtype)))

    def _tables(self, offsets: Sequence[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())

    def _code(self, kind: str, version: int, custom: str) -> int:
        number = getattr(self.schema.BuiltinOperator, kind)
        fields = {"DeprecatedBuiltinCode": min(number, 127), "BuiltinCode": number}
        if custom:
            fields["CustomCode"] = self.builder.CreateString(custom)
        return self._table("OperatorCode", {**fields, "Version": version})

    def _tensor(self, tensor: Tensor, buffer: int) -> int:
        fields = {
            "Shape": self._numbers(tensor.shape),
            "Type": getattr(self.schema.TensorType, tensor.type),
            "Buffer": buffer,
            "Name": self.builder.CreateString(tensor.name),
        }
        if tensor.free:
            signature = [-1 if axis in tensor.free else n for axis, n in enumerate(tensor.shape)]
            fields["ShapeSignature"] = self._numbers(signature)
        if tensor.quantization is not None:
            known = tensor.quantization
            scale = self._numbers(known.scale, np.float32)
            zero = self._numbers(known.zero_point, np.int64)
            fields["Quantization"] = self._table(
                "QuantizationParameters",
                {"Scale": scale, "ZeroPoint": zero, "QuantizedDimension": known.axis},
            )
        return self._table("Tensor", fields)

    def _node(self, node: Node, kinds: Sequence[tuple[str, int, str]]) -> int:
        fields: dict[str, Any] = {
            "OpcodeIndex": kinds.index((node.type, node.version, node.custom)),
            "Inputs": self._numbers(node.inputs),
            "Outputs": self._numbers(node.outputs),
        }
        if node.options_type:
            values = {
                name: self._numbers(value) if isinstance(value, tuple) else value
                for name, value in node.options.items()
            }
            fields["BuiltinOptionsType"] = getattr(self.schema.BuiltinOptions, node.options_type)
            fields["BuiltinOptions"] = self._table(node.options_type, values)
        return self._table("Operator", fields)
