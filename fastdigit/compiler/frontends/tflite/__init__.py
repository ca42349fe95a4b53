"""From a TensorFlow Lite file to the IR.

The file is read by reader.py, which trusts nothing in it, and imported as what it does to one image
(importer.py). An operator is a function in one of the files by family here, marked with
:func:`~fastdigit.compiler.frontends.tflite.registry.converts`. Semantics: TensorFlow Lite's schema
and reference kernels.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastdigit.compiler.frontends.common import DEFAULTS, Imported, ImportOptions, Port
from fastdigit.compiler.frontends.front_end import FrontEnd
from fastdigit.compiler.frontends.runners import Runner
from fastdigit.compiler.frontends.tflite.evaluator import evaluate
from fastdigit.compiler.frontends.tflite.importer import Importer, image_shape, needed_nodes
from fastdigit.compiler.frontends.tflite.ports import (
    input_names,
    output_names,
    with_shapes,
    with_shapes_of,
)
from fastdigit.compiler.frontends.tflite.reader import IDENTIFIER, TFLiteModel, read_model
from fastdigit.compiler.frontends.tflite.registry import supported_operators
from fastdigit.compiler.frontends.tflite.writer import with_float_weights, write_model
from fastdigit.errors import ModelFormatError

__all__ = ["FRONT_END", "SUPPORTED_OPERATORS", "TFLiteModel", "import_tflite", "load_tflite"]

MAX_FILE_BYTES = 1 << 30

# Each file of this folder registers its converters.
for _file in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")

#: Operators on images; those of :data:`.constants.FOLDS` are read on constants too.
SUPPORTED_OPERATORS = supported_operators()


def load_tflite(path: Path) -> TFLiteModel:
    """Return the network in a file.

    Raises
    ------
    MissingExtraError
        If the package tflite is not installed.
    ModelFormatError
        If the file is not a valid TensorFlow Lite model.
    """
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ModelFormatError(f"{path.name}: larger than {MAX_FILE_BYTES} bytes")
    return read_model(path.name, path.read_bytes())


def import_tflite(model: TFLiteModel, options: ImportOptions = DEFAULTS) -> Imported:
    """Return the network of a file.

    Raises
    ------
    ModelFormatError
        If the file contradicts itself.
    UnsupportedError
        Naming the operator and what is supported.
    InputError
        If an output is asked for that there is not, or a shape that an input cannot have.
    """
    model = with_shapes(model, options)
    names = options.choose(list(output_names(model)))
    outputs = [output_names(model)[name] for name in names]
    importer = Importer(model, outputs)
    graph = importer.run()
    sources = {number: name for name, number in input_names(model).items()}
    ports = tuple(
        _port(model, sources[importer.inputs[value]], importer.inputs[value])
        for value in graph.inputs
    )
    results = tuple(
        Port(name, graph.shapes[value]) for name, value in zip(names, graph.outputs, strict=True)
    )
    fits = len(model.labels) > 1 and results[0].shape == (len(model.labels),)
    name = model.name.removesuffix(".tflite")
    return Imported(graph, "tflite", name, ports, results, model.labels if fits else ())


def _port(model: TFLiteModel, name: str, number: int) -> Port:
    tensor = model.tensors[number]
    return Port(name, image_shape(tensor.shape), dtype=tensor.type.lower())


#: Returns tensors for inputs of the shapes that the file has, both by their numbers.
Run: TypeAlias = Callable[[Mapping[int, NDArray[Any]], Sequence[int]], list[NDArray[Any]]]


def _runner(model: TFLiteModel, imported: Imported) -> tuple[str, Runner]:
    """LiteRT if it is installed, else the evaluator; both get what the weights stand for, and the
    nodes that were imported."""
    model = with_shapes_of(model, {port.name: port.shape for port in imported.inputs})
    outputs = [output_names(model)[port.name] for port in imported.outputs]
    nodes = tuple(node for _, node in needed_nodes(model, outputs))
    model = replace(model, nodes=nodes)
    try:
        from ai_edge_litert import __version__, interpreter
    except ImportError:
        run: Run = lambda inputs, outputs: evaluate(model, inputs, outputs)  # noqa: E731
        return f"numpy {np.__version__} in float64", _each(model, imported, run)
    return f"ai-edge-litert {__version__}", _each(model, imported, _litert(interpreter, model))


def _litert(interpreter: Any, model: TFLiteModel) -> Run:
    """Return what runs a network in LiteRT.

    It is not given the bytes of the file, which it trusts more than we do, but what was read and
    imported of them.
    """
    resolver = interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        session = interpreter.Interpreter(
            model_content=write_model(with_float_weights(model)),
            num_threads=1,
            experimental_op_resolver_type=resolver,
        )
        session.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise _refused(model, error) from error

    def run(inputs: Mapping[int, NDArray[Any]], outputs: Sequence[int]) -> list[NDArray[Any]]:
        try:
            for number, image in inputs.items():
                session.set_tensor(number, image)
            session.invoke()
            return [np.array(session.get_tensor(number)) for number in outputs]
        except (RuntimeError, ValueError) as error:
            raise _refused(model, error) from error

    return run


def _refused(model: TFLiteModel, error: Exception) -> ModelFormatError:
    reason = " ".join(str(error).split())[:300]
    return ModelFormatError(f"{model.name}: LiteRT refuses this network: {reason}")


def _each(model: TFLiteModel, imported: Imported, run: Run) -> Runner:
    """Give images one by one, with the types and axes that the file has."""
    sources = [input_names(model)[port.name] for port in imported.inputs]
    outputs = [output_names(model)[port.name] for port in imported.outputs]

    def one(images: Sequence[NDArray[np.float32]]) -> list[NDArray[Any]]:
        given = {}
        for number, image in zip(sources, images, strict=True):
            tensor = model.tensors[number]
            whole = np.rint(image) if tensor.type != "FLOAT32" else image
            given[number] = whole.reshape(tensor.shape).astype(tensor.type.lower())
        return [result.reshape(image_shape(result.shape)) for result in run(given, outputs)]

    def each(inputs: Sequence[NDArray[np.float32]]) -> list[NDArray[Any]]:
        results = [one(images) for images in zip(*inputs, strict=True)]
        return [np.stack(output) for output in zip(*results, strict=True)]

    return each


FRONT_END = FrontEnd(
    name="tflite",
    title="TensorFlow Lite",
    model="",
    suffixes=(".tflite",),
    marker=None,
    extra="compile",
    verified_by="LiteRT if installed, else NumPy in float64",
    summary="weights of float32, float16 or dynamic range; not fully quantized",
    read=load_tflite,
    owns=lambda model: isinstance(model, TFLiteModel),
    import_model=import_tflite,
    runner=_runner,
    matches=lambda content: content.head[4:8] == IDENTIFIER,
)
