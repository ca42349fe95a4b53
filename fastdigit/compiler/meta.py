"""What a model file says in its META section of what was compiled, and of what was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastdigit.compiler.backends.fdm.unpack import Program
from fastdigit.compiler.frontends import Imported, ImportOptions
from fastdigit.compiler.heads import ends_in_log_softmax, head_of
from fastdigit.compiler.ir import Graph, Shape
from fastdigit.compiler.ops import Softmax
from fastdigit.errors import ModelFormatError

__all__ = ["COMPILER_VERSION", "describe", "options_of", "plain", "ports_of"]

#: Changes when the same source may give another program.
COMPILER_VERSION = "4"


def describe(
    imported: Imported, graph: Graph, name: str | None, classes: list[list[str]], precision: str
) -> dict[str, Any]:
    head = head_of(graph)
    output = imported.outputs[0].shape
    reshaped = {} if output == graph.shapes[graph.output] else {"output": {"shape": list(output)}}
    inputs = []
    for port, value in zip(imported.inputs, graph.inputs, strict=True):
        shape = graph.shapes[value]
        layout = "NHWC" if len(shape) == 3 else "features"
        inputs.append({"name": port.name, "shape": list(shape), "layout": layout})
    several: dict[str, Any] = {}
    if len(imported.inputs) > 1 or len(imported.outputs) > 1:
        several["inputs"] = inputs
        several["outputs"] = [
            {
                "name": port.name,
                "shape": list(port.shape),
                "classes": labels,
                **({"log_softmax": True} if ends_in_log_softmax(graph, index) else {}),
            }
            for index, (port, labels) in enumerate(zip(imported.outputs, classes, strict=True))
        ]
    else:
        del inputs[0]["name"]
    if ends_in_log_softmax(graph):
        several["log_softmax"] = True
    return {
        **reshaped,
        **several,
        "name": name or imported.name,
        "classes": classes[0],
        "precision": precision,
        "temperature": head.op.temperature if head and isinstance(head.op, Softmax) else None,
        "compiler": COMPILER_VERSION,
        "input": inputs[0],
        "source": {
            "kind": imported.kind,
            "layout": imported.inputs[0].layout,
            "shape": list(imported.inputs[0].shape),
        },
    }


def ports_of(meta: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """What META says of each input, or output."""
    found = meta[f"{kind}s"] if f"{kind}s" in meta else [meta[kind]]
    return found


def options_of(program: Program) -> ImportOptions:
    """What a source was asked for when it was compiled."""
    shape = program.meta.get("input_shape")
    shapes = [*shape.values()] if isinstance(shape, dict) else [] if shape is None else [shape]
    for size in shapes:
        if not isinstance(size, list) or not all(type(axis) is int and axis > 0 for axis in size):
            raise ModelFormatError("META has an input_shape that is no list of sizes")
    input_shape: Any = None if shape is None or isinstance(shape, dict) else tuple(shape)
    if isinstance(shape, dict):
        input_shape = {name: tuple(size) for name, size in shape.items()}
    return ImportOptions(program.outputs if program.named else None, input_shape)


def plain(shape: Shape | Mapping[str, Shape]) -> Any:
    if isinstance(shape, Mapping):
        return {name: list(size) for name, size in shape.items()}
    return list(shape)
