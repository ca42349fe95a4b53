"""Makes an ONNX model ready to be walked: functions inlined, nodes in order, checked.

What a model means stays as it is. The file is not trusted: whatever it asks for, this takes time
and memory in proportion to its size, or is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from fastdigit.compiler.frontends.onnx.files import import_onnx_package, refuse_external
from fastdigit.errors import ModelFormatError, UnsupportedError

__all__ = ["opset_of", "prepared", "refuse_quantized"]

#: Nodes of a model, its functions inlined.
MAX_NODES = 20_000


def prepared(model: Any) -> Any:
    """Return a valid model without functions, its nodes in an order in which they can run.

    The model that is given stays as it is.

    Raises
    ------
    ModelFormatError
        If the model is not valid ONNX.
    UnsupportedError
        If it has weights in other files, operators that ONNX doesn't have, or too many nodes.
    """
    onnx = import_onnx_package()
    refuse_external(model)
    refuse_quantized(model.graph.node)
    if _nodes_inlined(model) > MAX_NODES:
        raise UnsupportedError(f"the model has more than {MAX_NODES} nodes")
    order = _order(model.graph.node)
    if order is not None or model.functions or not model.graph.name or _shapeless(model):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        model = copy
        model.graph.name = model.graph.name or "model"  # which the checker wants
        _sort(model.graph, order)
    if model.functions:
        for function in model.functions:
            _sort(function, _order(function.node))
        model = _inlined(onnx, model)
        _sort(model.graph, _order(model.graph.node))
    _refuse_unknown(onnx, model.graph.node)
    _refuse_references(model.graph.node)
    _check(onnx, model, _shapeless(model))
    opset, newest = opset_of(model), onnx.defs.onnx_opset_version()
    if not 1 <= opset <= newest:
        raise UnsupportedError(
            f"the model uses opset {opset}; the installed onnx {onnx.__version__} knows 1 to "
            f"{newest}: pip install --upgrade onnx onnxruntime"
        )
    return model


def _shapeless(model: Any) -> list[Any]:
    """Return inputs and outputs of which a model says no type, or no shape."""
    return [
        value
        for value in (*model.graph.input, *model.graph.output)
        if value.type.WhichOneof("value") is None
        or (value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape"))
    ]


def _check(onnx: Any, model: Any, shapeless: Sequence[Any]) -> None:
    """Let onnx check a model. It wants the types and shapes that are missing, which nobody needs of
    outputs: while it works they have some."""
    typeless = [value for value in shapeless if value.type.WhichOneof("value") is None]
    for value in typeless:
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    for value in shapeless:
        value.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # ValidationError, or what pybind makes of a broken model
        raise ModelFormatError(f"not a valid ONNX model: {_line(error)}") from error
    for value in shapeless:
        value.type.tensor_type.ClearField("shape")
    for value in typeless:
        value.ClearField("type")


def opset_of(model: Any) -> int:
    """Return the version of ONNX's operators that a model uses."""
    if model.ir_version < 3:  # before there were several
        return 1
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return int(versions[0]) if versions else 1


def _line(error: Exception) -> str:
    """Return what an error says, in one line."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]}..."


def _refuse_unknown(onnx: Any, nodes: Iterable[Any]) -> None:
    for node in nodes:
        kind = node.op_type  # bytes, if it is no UTF-8: the checker has a message for that
        if node.domain in ("", "ai.onnx") and isinstance(kind, str) and not onnx.defs.has(kind):
            name = node.name or ", ".join(node.output)
            raise UnsupportedError(
                f"node {name!r} ({node.op_type}): ONNX has no such operator. The exporter did "
                "not know how to convert it, so no runtime can run this file; compile the "
                "model that it comes from, as Keras or TensorFlow saves it"
            )


def _refuse_references(nodes: Iterable[Any]) -> None:
    """An attribute may name one of the function around it. The checker lets it pass elsewhere."""
    for node in nodes:
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                name = node.name or ", ".join(node.output)
                raise ModelFormatError(
                    f"node {name!r} ({node.op_type}): {attribute.name} is the attribute "
                    f"{attribute.ref_attr_name!r} of a function, but the node is in none"
                )


#: Of quantized models, beside those whose name says so: of ONNX, and of ONNX Runtime's domain.
_INTEGER_OPERATORS = frozenset(
    {"ConvInteger", "MatMulInteger", "MatMulInteger16", "MatMulNBits", "QAttention", "QGemm"}
)


def refuse_quantized(nodes: Iterable[Any]) -> None:
    """Refuse a quantized model, whatever else there is to say of it.

    Raises
    ------
    UnsupportedError
        Naming a node.
    """
    for node in nodes:
        kind = str(node.op_type)
        if "quant" in kind.lower() or kind.startswith("QLinear") or kind in _INTEGER_OPERATORS:
            name = node.name or ", ".join(node.output)
            raise UnsupportedError(
                f"node {name!r} ({kind}) is not supported: the model is quantized; compile the "
                "model in float32, which precision='int8' quantizes"
            )


# ---- order -------------------------------------------------------------------------------------


def _sort(graph: Any, order: Sequence[int] | None) -> None:
    if order is not None:
        nodes = [graph.node[index] for index in order]
        sorted_nodes = [type(node).FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(sorted_nodes)


def _order(nodes: Sequence[Any]) -> list[int] | None:
    """Return an order of nodes in which each comes behind those it reads; None if they have it."""
    writers = {output: i for i, node in enumerate(nodes) for output in node.output if output}
    reads = [{writers[name] for name in _names_read(node) if name in writers} for node in nodes]
    if all(source < i for i, sources in enumerate(reads) for source in sources):
        return None
    order: list[int] = []
    state = [0] * len(nodes)  # 1: on the way, 2: done
    for first in range(len(nodes)):
        stack = [first]
        while stack:
            index = stack[-1]
            if state[index] == 0:
                state[index] = 1
                for source in sorted(reads[index]):
                    if state[source] == 1:
                        raise ModelFormatError(
                            f"node {nodes[source].name or nodes[source].output[0]!r} needs its "
                            "own result"
                        )
                    if state[source] == 0:
                        stack.append(source)
                continue
            stack.pop()
            if state[index] == 1:
                state[index] = 2
                order.append(index)
    return order


def _names_read(node: Any) -> Iterator[str]:
    """Yield the values that a node reads, and those that the graphs within it do."""
    yield from node.input
    for attribute in node.attribute:
        graphs = [attribute.g] if attribute.HasField("g") else []
        for graph in (*graphs, *attribute.graphs):
            for inner in graph.node:
                yield from _names_read(inner)
            yield from (output.name for output in graph.output)


# ---- functions ---------------------------------------------------------------------------------

_Key = tuple[str, str, str]


def _key(domain: str, name: str, overload: str) -> _Key:
    return ("" if domain == "ai.onnx" else domain, name, overload)


def _nodes_inlined(model: Any) -> int:
    """Return how many nodes a model has with its functions inlined, without inlining them."""
    functions = {_key(f.domain, f.name, f.overload): f for f in model.functions}
    sizes: dict[_Key, int | None] = {}  # None: on the way

    def size_of(nodes: Iterable[Any]) -> int:
        total = 0
        for node in nodes:
            key = _key(node.domain, node.op_type, node.overload)
            total += 1 if key not in functions else size_of_function(key)
            for attribute in node.attribute:
                graphs = [attribute.g] if attribute.HasField("g") else []
                total += sum(size_of(graph.node) for graph in (*graphs, *attribute.graphs))
        return min(total, MAX_NODES + 1)

    def size_of_function(key: _Key) -> int:
        if key not in sizes:
            sizes[key] = None
            if len(sizes) > MAX_FUNCTIONS:
                raise UnsupportedError(f"the model has more than {MAX_FUNCTIONS} functions")
            sizes[key] = size_of(functions[key].node)
        size = sizes[key]
        if size is None:
            raise ModelFormatError(f"the function {key[1]!r} calls itself")
        return size

    for key in functions:
        size_of_function(key)  # also of one that nothing calls: it may call itself
    return size_of(model.graph.node)


#: Functions of a model, which may call one another.
MAX_FUNCTIONS = 200


def _inlined(onnx: Any, model: Any) -> Any:
    from onnx import inliner

    try:
        result = inliner.inline_local_functions(model)
    except Exception as error:
        raise ModelFormatError(f"not a valid ONNX model: {_line(error)}") from error
    local = {_key(f.domain, f.name, f.overload) for f in model.functions}
    for node in result.graph.node:
        if _key(node.domain, node.op_type, node.overload) in local:
            raise UnsupportedError(
                f"node {node.name or node.output[0]!r} ({node.op_type}): a function with "
                "operators of another opset than the model's; export the model without functions"
            )
    return result
