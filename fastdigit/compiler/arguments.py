"""What a caller of the compiler says about a network, checked against the network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdigit.compiler.frontends import Imported
from fastdigit.compiler.heads import is_binary
from fastdigit.compiler.inputs import (
    InputRange,
    Inputs,
    Numbers,
    Preprocessing,
    find_inputs,
    preprocess,
)
from fastdigit.compiler.ir import Graph, Shape
from fastdigit.compiler.verify import check, count_samples, make_samples
from fastdigit.ctc import ctc_names
from fastdigit.errors import InputError, UnsupportedError

__all__ = ["check_blank", "check_provenance", "name_classes", "take_inputs", "take_samples"]


def take_inputs(
    imported: Imported,
    input_range: InputRange | Mapping[str, InputRange],
    mean: Numbers | None,
    std: Numbers | None,
    scale: Numbers | None,
) -> tuple[Graph, Preprocessing | None, list[Inputs]]:
    """Return the network with its preprocessing, the latter, and what the network takes."""
    graph, ports = imported.graph, imported.inputs
    ranges: Mapping[str, InputRange]
    if isinstance(input_range, Mapping):
        ranges = input_range
        if unknown := ranges.keys() - {port.name for port in ports}:
            raise InputError(
                f"input_range is for {sorted(unknown)}; the model has inputs "
                f"{', '.join(repr(port.name) for port in ports)}"
            )
    else:
        ranges = {port.name: input_range for port in ports}
    shape = graph.shapes[graph.input]
    if len(ports) > 1 and not mean is std is scale is None:
        raise UnsupportedError(
            "mean, std and scale are for networks of one input; compute them for the others in the "
            "program around it, and give input_range"
        )
    preprocessing = Preprocessing.of(shape, scale=scale, mean=mean, std=std)
    if preprocessing is None:
        takes = [
            find_inputs(graph, ranges.get(port.name, "auto"), port.dtype, value)
            for port, value in zip(ports, graph.inputs, strict=True)
        ]
        return graph, None, takes
    if imported.inputs[0].dtype not in ("float32", "float16", "float64"):
        raise InputError(
            f"mean, std or scale given, but the source takes {imported.inputs[0].dtype}: what is "
            "computed of images is in it already"
        )
    graph = preprocess(graph, preprocessing)
    inputs = find_inputs(graph, ranges.get(ports[0].name, "auto"))
    if inputs.assumed:
        raise InputError(
            "mean, std and scale make nothing usual of 0 to 1 or of 0 to 255: give the input range "
            "of the images too"
        )
    return graph, preprocessing, [inputs]


def take_samples(
    samples: Any, graph: Graph, takes: Sequence[Inputs], imported: Imported
) -> list[NDArray[np.float32]]:
    """Return images for each input of a graph: those that are given, or generated ones."""
    shapes = [graph.shapes[value] for value in graph.inputs]
    names = [port.name for port in imported.inputs]
    if samples is None:
        made = []
        count = count_samples(graph)
        for index, (shape, taken) in enumerate(zip(shapes, takes, strict=True)):
            # Inputs of the same shape do not get the same images.
            images = np.roll(make_samples(shape, *taken.usual, count), index, axis=0)
            exact = imported.inputs[index].dtype.startswith("float")
            made.append(images if exact else np.rint(images))
        return made
    if isinstance(samples, Mapping):
        if samples.keys() != set(names):
            raise InputError(f"samples are for {list(samples)}, expected them for {names}")
        samples = [samples[name] for name in names]
    elif len(names) == 1:
        samples = [samples]
    elif not isinstance(samples, list | tuple) or len(samples) != len(names):
        raise InputError(f"the network has inputs {names}: expected samples by name, or in order")
    checked = [check(*given) for given in zip(samples, shapes, takes, strict=True)]
    if len({len(images) for images in checked}) > 1:
        raise InputError(f"samples of {names} are not as many of each")
    return checked


def check_provenance(provenance: Mapping[str, Any] | None) -> Any:
    if provenance is None:
        return None
    try:
        return json.loads(json.dumps(dict(provenance), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(f"provenance can't be written as JSON: {error}") from None


def name_classes(
    graph: Graph,
    imported: Imported,
    classes: Sequence[str] | Mapping[str, Sequence[str]] | None,
    blank: int | None,
) -> list[list[str]]:
    """Return the names of the labels of each output; of the first, those of the classes of a step
    if there is a ``blank``."""
    names = [port.name for port in imported.outputs]
    if not isinstance(classes, Mapping):
        first = classes if classes is not None else imported.classes or None
        classes = {} if first is None else {names[0]: first}
    if unknown := classes.keys() - set(names):
        raise InputError(f"classes given for {sorted(unknown)}, the model has outputs {names}")
    found = []
    for index, name in enumerate(names):
        if index == 0 and blank is not None:
            count = imported.outputs[0].shape[-1]
            found.append(ctc_names(classes.get(name), count, blank) or [])
        else:
            found.append(_check_classes(graph, index, classes.get(name)))
    return found


def check_blank(shape: Shape, blank: int) -> int:
    """Return the index of the blank, from the first."""
    if len(shape) != 2:
        raise InputError(f"ctc_blank given, but the network returns shape {shape}, not of steps")
    if isinstance(blank, bool) or not isinstance(blank, int) or not -shape[1] <= blank < shape[1]:
        raise InputError(f"ctc_blank is {blank!r}, expected the index of one of {shape[1]} classes")
    return blank % shape[1]


def _check_classes(graph: Graph, index: int, classes: Sequence[str] | None) -> list[str]:
    shape = graph.shapes[graph.outputs[index]]
    if is_binary(graph, index):
        if classes is None:
            return ["0", "1"]
        if isinstance(classes, str) or len(classes) != 2:
            raise InputError(
                f"{len(classes)} classes given, expected 2: the network's only output is a "
                "sigmoid, which is near 0 for the first and near 1 for the second"
            )
        return [str(label) for label in classes]
    if len(shape) != 1:
        if classes is not None:
            raise InputError(
                f"classes given, the network returns shape {shape} for an image; if it reads text, "
                "say which class stands for nothing, too: ctc_blank=, --ctc-blank"
            )
        return []
    if classes is None:
        return [str(index) for index in range(shape[0])]
    if isinstance(classes, str) or len(classes) != shape[0]:
        raise InputError(f"{len(classes)} classes given, the network has {shape[0]} outputs")
    return [str(label) for label in classes]
