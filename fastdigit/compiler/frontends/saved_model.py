"""From a TensorFlow SavedModel, the directory of ``model.export`` or ``tf.saved_model.save``.

Its signature is converted by tf2onnx and read as ONNX. What verifies the result runs the signature
in TensorFlow, so that it checks the conversion too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastdigit.compiler.frontends.common import DEFAULTS, Imported, ImportOptions
from fastdigit.compiler.frontends.front_end import FrontEnd
from fastdigit.compiler.frontends.onnx import import_onnx
from fastdigit.compiler.frontends.runners import Runner, batched
from fastdigit.errors import MissingExtraError, ModelFormatError, UnsupportedError, pip_install

__all__ = ["FRONT_END", "SavedModel", "import_saved_model", "load_saved_model"]

#: Which signature is taken, the first there is. Keras writes both, and they are the same.
SIGNATURES = ("serving_default", "serve")
OPSET = 18


#: Arrays by the names of inputs (N, ...), names of outputs -> these outputs.
Run: TypeAlias = Callable[[Mapping[str, NDArray[Any]], Sequence[str]], list[NDArray[Any]]]


#: Of recurrent layers, as tf2onnx converts their loops or leaves them.
_RECURRENT = frozenset({"GRU", "LSTM", "Loop", "RNN", "Scan"})


@dataclass(frozen=True)
class SavedModel:
    """A signature of a SavedModel.

    Parameters
    ----------
    name
        Of the directory.
    model
        The signature, as an ONNX ``ModelProto``.
    inputs, outputs
        By the signature's names: what they are called in ``model``.
    shapes
        Of the inputs, by name, with the batch; None for what is free.
    dtypes
        Of the inputs, by name.
    run
        Runs the signature in TensorFlow.
    """

    name: str
    model: Any
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    shapes: Mapping[str, tuple[int | None, ...]]
    dtypes: Mapping[str, str]
    run: Run


def load_saved_model(path: Path) -> SavedModel:
    """Load the SavedModel in a directory, with TensorFlow.

    A SavedModel is a program that TensorFlow runs: load none that you don't trust.

    Raises
    ------
    MissingExtraError
        If TensorFlow or tf2onnx is not installed.
    ModelFormatError
        If TensorFlow cannot load the directory.
    UnsupportedError
        If it has no signature that can be told from others, or operators that tf2onnx does not
        convert.
    """
    try:
        import tensorflow as tf
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"reading a SavedModel needs TensorFlow and tf2onnx: {pip_install('export')}"
        ) from error
    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as error:  # TensorFlow raises whatever its readers raise
        if not (path / "variables").is_dir() and "variables" in str(error):
            raise ModelFormatError(
                f"{path.name}: its weights, the directory 'variables' beside saved_model.pb, are "
                "missing; copy or download all of the SavedModel"
            ) from error
        # Keras 2 saved the state of optimizers, too, with which TensorFlow's loader fails without
        # Keras 2. The older loader looks at the graph alone.
        try:
            return _from_graph(path)
        except (UnsupportedError, ModelFormatError):
            raise
        except Exception:  # the first error says more
            reason = " ".join(str(error).split())[:300]
            raise ModelFormatError(f"{path.name}: TensorFlow cannot load it: {reason}") from error
    return _from_function(path, loaded)


def _dims(shape: Any) -> tuple[int | None, ...]:
    return tuple(shape.as_list()) if shape.rank is not None else ()


def _from_function(path: Path, loaded: Any) -> SavedModel:
    import tensorflow as tf

    function = _chosen(path.name, loaded.signatures)
    specs = function.structured_input_signature[1]
    own = function.inputs[: len(function.inputs) - len(function.captured_inputs)]
    # Dicts are flattened by their sorted keys.
    inputs = dict(zip(sorted(specs), (tensor.name for tensor in own), strict=True))
    results = sorted(function.structured_outputs)
    outputs = dict(zip(results, (tensor.name for tensor in function.outputs), strict=True))

    def run(arrays: Mapping[str, NDArray[Any]], wanted: Sequence[str]) -> list[NDArray[Any]]:
        # From `loaded`, which owns the variables: a function alone does not keep them.
        function = _chosen(path.name, loaded.signatures)
        found = function(**{name: tf.constant(array) for name, array in arrays.items()})
        return [np.asarray(found[name]) for name in wanted]

    return SavedModel(
        path.name,
        _function_to_onnx(path.name, function, list(inputs.values()), list(outputs.values())),
        inputs,
        outputs,
        {name: _dims(spec.shape) for name, spec in specs.items()},
        {name: spec.dtype.name for name, spec in specs.items()},
        run,
    )


def _from_graph(path: Path) -> SavedModel:
    """Load a signature as TensorFlow 1 does: a graph, and a session with its variables."""
    import tensorflow as tf

    v1 = tf.compat.v1
    session = v1.Session(graph=tf.Graph(), config=v1.ConfigProto(intra_op_parallelism_threads=1))
    with session.graph.as_default():
        loaded = v1.saved_model.load(session, [v1.saved_model.tag_constants.SERVING], str(path))
    signature = _chosen(path.name, loaded.signature_def)
    inputs = {name: str(info.name) for name, info in signature.inputs.items()}
    outputs = {name: str(info.name) for name, info in signature.outputs.items()}
    sources, results = list(inputs.values()), list(outputs.values())

    def to_onnx() -> Any:
        import tf2onnx

        # What the public function leaves of variables that functions read, this one freezes.
        from tensorflow.python.framework.convert_to_constants import (
            convert_variables_to_constants_from_session_graph as frozen,
        )

        nodes = [result.partition(":")[0] for result in results]
        graph = frozen(session, session.graph.as_graph_def(add_shapes=True), nodes)
        with tf.Graph().as_default():
            tf.import_graph_def(graph, name="")
            inlined = tf2onnx.tf_loader.tf_optimize(sources, results, graph)
        return _graph_to_onnx(path.name, inlined, sources, results)

    def run(arrays: Mapping[str, NDArray[Any]], wanted: Sequence[str]) -> list[NDArray[Any]]:
        feed = {inputs[name]: array for name, array in arrays.items()}
        return [np.asarray(found) for found in session.run([outputs[n] for n in wanted], feed)]

    return SavedModel(
        path.name,
        to_onnx(),
        inputs,
        outputs,
        {name: _dims(tf.TensorShape(info.tensor_shape)) for name, info in signature.inputs.items()},
        {name: tf.dtypes.as_dtype(info.dtype).name for name, info in signature.inputs.items()},
        run,
    )


def import_saved_model(source: SavedModel, options: ImportOptions = DEFAULTS) -> Imported:
    """Return the network of a SavedModel, with the names of its signature.

    Errors are those of :func:`.onnx.import_onnx`.
    """
    names = options.choose(list(source.outputs))
    wanted = [source.outputs[name] for name in names]
    if len(set(wanted)) < len(wanted):
        raise UnsupportedError(
            f"{source.name}: the outputs {', '.join(map(repr, names))} are not all different; "
            "choose one of each: outputs=, --keep"
        )
    shape = options.input_shape
    if isinstance(shape, Mapping):
        shape = {source.inputs[name]: shape[name] for name in shape if name in source.inputs}
    asked = None if options.outputs is None else tuple(wanted)
    try:
        imported = import_onnx(source.model, ImportOptions(asked, shape))
    except UnsupportedError as error:
        if _RECURRENT & {node.op_type for node in source.model.graph.node}:
            advice = (
                f"{source.name}: in a SavedModel, recurrent layers are loops, of which some are "
                "not recognised; compile the .keras or .h5 file of the model, where they are layers"
            )
            error.reasons = (advice, *error.reasons)
        raise
    sources = {value: name for name, value in source.inputs.items()}
    results = dict(zip(wanted, names, strict=True))
    inputs = tuple(replace(port, name=sources[port.name]) for port in imported.inputs)
    for port in inputs:
        if source.dtypes[port.name] not in ("float32", "uint8"):
            raise UnsupportedError(
                f"{source.name}: the input {port.name!r} has type {source.dtypes[port.name]}; "
                "supported are float32 and uint8"
            )
    if any(port.name not in results for port in imported.outputs):
        raise UnsupportedError(
            f"{source.name}: the signature returns labels (an arg max) and not the scores that "
            "they come from; supported is a signature that returns scores"
        )
    outputs = tuple(replace(port, name=results[port.name]) for port in imported.outputs)
    return replace(imported, kind="savedmodel", name=source.name, inputs=inputs, outputs=outputs)


def _chosen(name: str, signatures: Any) -> Any:
    names = [known for known in signatures if not known.startswith("__")]  # what initialises
    for wanted in SIGNATURES:
        if wanted in names:
            return signatures[wanted]
    if len(names) == 1:
        return signatures[names[0]]
    raise UnsupportedError(
        f"{name}: the SavedModel has {f'signatures {names}' if names else 'no signatures'}; "
        f"expected {' or '.join(SIGNATURES)}, which Keras' model.export writes, or a single one "
        "(tf.saved_model.save(module, path, signatures=function))"
    )


def _function_to_onnx(name: str, function: Any, inputs: list[str], outputs: list[str]) -> Any:
    import tf2onnx

    frozen = tf2onnx.tf_loader.from_function(function, inputs, outputs)
    return _graph_to_onnx(name, frozen, inputs, outputs)


def _graph_to_onnx(name: str, frozen: Any, inputs: list[str], outputs: list[str]) -> Any:
    import onnx
    import tf2onnx

    converted, _ = tf2onnx.convert.from_graph_def(
        _prepared(frozen), name=name, input_names=inputs, output_names=outputs, opset=OPSET
    )
    left = sorted({n.op_type for n in converted.graph.node if not onnx.defs.has(n.op_type)})
    if left:
        raise UnsupportedError(
            f"{name}: TensorFlow's operators {', '.join(left)} have no equivalent that tf2onnx "
            "knows; if this is a Keras model, compile its .keras file"
        )
    return converted


def _prepared(graph_def: Any) -> Any:
    """Write what tf2onnx does not convert with operators that it does.

    ``erfc(x)``, of Keras' gelu, is ``1 - erf(x)``. Functions marked for XLA, in which Keras has its
    convolutions of groups, are never inlined; all that is left in a frozen graph could be.
    """
    from tensorflow.core.framework import attr_value_pb2

    for function in graph_def.library.function:
        for mark in ("_XlaMustCompile", "_noinline"):
            function.attr.pop(mark, None)
        function.signature.is_stateful = False
        function.control_ret.clear()
        del function.signature.control_output[:]
    for node in list(graph_def.node):
        if node.op == "StatefulPartitionedCall":
            node.op = "PartitionedCall"
            node.attr.pop("_XlaMustCompile", None)
        if node.op != "Erfc":
            continue
        kind = node.attr["T"]
        result, node.name, node.op = node.name, f"{node.name}/erf", "Erf"
        one = graph_def.node.add(op="Const", name=f"{result}/one")
        one.attr["dtype"].CopyFrom(kind)
        tensor = attr_value_pb2.AttrValue()
        tensor.tensor.dtype = kind.type
        tensor.tensor.tensor_shape.SetInParent()
        tensor.tensor.float_val.append(1.0)
        one.attr["value"].CopyFrom(tensor)
        difference = graph_def.node.add(op="Sub", name=result, input=[one.name, node.name])
        difference.attr["T"].CopyFrom(kind)
    return graph_def


def _runner(model: SavedModel, imported: Imported) -> tuple[str, Runner]:
    import tensorflow as tf

    names = [port.name for port in imported.inputs]
    wanted = [port.name for port in imported.outputs]
    axes = [port.batch_axis for port in imported.outputs]

    def run(images: Sequence[NDArray[np.float32]]) -> list[NDArray[Any]]:
        arrays = {}
        for name, (batch, *sizes) in model.shapes.items():
            if name in names:
                array = images[names.index(name)]
                whole = np.rint(array) if model.dtypes[name] == "uint8" else array
                arrays[name] = whole.astype(model.dtypes[name])
            else:  # no output that is wanted depends on it
                dims = [batch or len(images[0]), *(size or 1 for size in sizes)]
                arrays[name] = np.zeros(dims, model.dtypes[name])
        found = model.run(arrays, wanted)
        return [np.moveaxis(array, axis, 0) for array, axis in zip(found, axes, strict=True)]

    fixed = {model.shapes[name][0] for name in names} - {None}
    return f"tensorflow {tf.__version__}", batched(run, next(iter(fixed), None))


FRONT_END = FrontEnd(
    name="savedmodel",
    title="SavedModel",
    model="",
    suffixes=(),
    marker="saved_model.pb",
    extra="export",
    verified_by="TensorFlow",
    summary="what Keras 2 and 3 and tf.saved_model.save write, by way of ONNX",
    read=load_saved_model,
    owns=lambda model: isinstance(model, SavedModel),
    import_model=import_saved_model,
    runner=_runner,
)
