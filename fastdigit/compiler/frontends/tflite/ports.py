"""What the inputs and outputs of a .tflite file are called, and their shapes where it leaves them
free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fastdigit.compiler.frontends.common import ImportOptions
from fastdigit.compiler.frontends.tflite.reader import TFLiteModel, shown
from fastdigit.compiler.ir import Shape
from fastdigit.errors import InputError, UnsupportedError

__all__ = ["free_shape", "input_names", "output_names", "with_shapes", "with_shapes_of"]


def input_names(model: TFLiteModel) -> dict[str, int]:
    """Return the numbers of the inputs, by name."""
    return _named(model, model.inputs, model.input_names)


def output_names(model: TFLiteModel) -> dict[str, int]:
    """Return the numbers of the outputs, by name."""
    return _named(model, model.outputs, model.output_names)


def _named(
    model: TFLiteModel, numbers: Sequence[int], signature: Mapping[str, int]
) -> dict[str, int]:
    """Names of the signature, which people chose, where it names all of them; else those of
    tensors, with a number where several have the same."""
    if set(signature.values()) == set(numbers):
        return dict(signature)
    names: dict[str, int] = {}
    for index, number in enumerate(dict.fromkeys(numbers)):
        name = model.tensors[number].name
        names[f"{name} {index + 1}" if name in names else name] = number
    return names


def with_shapes(model: TFLiteModel, options: ImportOptions) -> TFLiteModel:
    """Return a network whose inputs have the shapes that the options give.

    Raises
    ------
    InputError
        If one is not what the file leaves free.
    """
    given = options.input_shape
    shapes = {
        name: given.get(name) if isinstance(given, Mapping) else given
        for name in input_names(model)
    }
    return with_shapes_of(
        model, {name: tuple(shape) for name, shape in shapes.items() if shape is not None}
    )


def with_shapes_of(model: TFLiteModel, shapes: Mapping[str, Shape]) -> TFLiteModel:
    """Return a network in which inputs with free axes, by name, have these shapes of an image."""
    tensors = list(model.tensors)
    for name, number in input_names(model).items():
        tensor = tensors[number]
        if name not in shapes or not any(axis > 0 for axis in tensor.free):
            continue
        shape = (1, *shapes[name])
        fits = len(shape) == len(tensor.shape) and all(
            axis in tensor.free or asked == size
            for axis, (asked, size) in enumerate(zip(shape, tensor.shape, strict=True))
        )
        if not fits:
            raise InputError(
                f"input_shape is {shapes[name]}, and the input {shown(name)} has shape "
                f"{_sizes(model, number)}"
            )
        tensors[number] = replace(tensor, shape=shape, free=())
    return replace(model, tensors=tuple(tensors))


def _sizes(model: TFLiteModel, number: int) -> list[int | str]:
    """Return the shape of a tensor with "?" where it is free, as messages have it."""
    tensor = model.tensors[number]
    return ["?" if axis in tensor.free else size for axis, size in enumerate(tensor.shape)]


def free_shape(model: TFLiteModel, name: str, number: int) -> UnsupportedError:
    """Return the error about an input with axes that are free and were not given."""
    axes = {4: "height, width, channels", 3: "steps, channels"}.get(
        len(model.tensors[number].shape), "..."
    )
    return UnsupportedError(
        f"the input {shown(name)} has shape {_sizes(model, number)}; give the shape of an image: "
        f"input_shape=({axes})"
    )
