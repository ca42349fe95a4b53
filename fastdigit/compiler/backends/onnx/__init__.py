"""The network of a model file, or of the IR, as a plain ONNX graph.

Exporters keep what the training framework needed: tf2onnx transposes between layouts, pads in
nodes of its own, and splits normalisations. Other runtimes should not be slow for that. This graph
is what one would write by hand for them: Conv, Relu, MaxPool, Add, Gemm, channels first, with
padding in the convolutions, and with normalisations folded as far as fastdigit's own compiler folds
them. Where an operator of the model file wants the channels last, such as a layer normalization of
images, it stands between two transposes.

Weights are the bits that the model file has; those of fewer bits are written as the numbers that
they stand for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastdigit.compiler.backends.fdm.unpack import unpack
from fastdigit.compiler.backends.onnx import operators  # noqa: F401  registers what writes them
from fastdigit.compiler.backends.onnx.writer import Writer, import_onnx_library
from fastdigit.compiler.ir import Graph

__all__ = ["to_onnx", "write"]


def write(model: bytes, *, channels_last: bool = False) -> bytes:
    """Return the network of a model file as the bytes of an ONNX file.

    Parameters
    ----------
    model
        The bytes of a ``.fdm`` file.
    channels_last
        Whether images are taken and returned as (N, height, width, channels), as Keras has them;
        otherwise they are (N, channels, height, width), as in between.

    Raises
    ------
    ModelFormatError
        If the model file is damaged.
    UnsupportedError
        If the network has an operator that can't be written as ONNX.
    MissingExtraError
        If onnx is not installed.
    """
    program = unpack(model)
    name = str(program.meta.get("name", "fastdigit"))
    names = [port.name for port in program.inputs], program.outputs
    made = to_onnx(program.graph, name=name, channels_last=channels_last, names=names)
    import_onnx_library().checker.check_model(made)
    data: bytes = made.SerializeToString(deterministic=True)
    return data


def to_onnx(
    graph: Graph,
    *,
    name: str = "fastdigit",
    channels_last: bool = False,
    names: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Any:
    """Return a network as an ``onnx.ModelProto``; for the rest, see :func:`write`.

    Parameters
    ----------
    names
        Of the inputs and of the outputs, where there are several; by default as their values are
        called. An input alone is ``input``, an output alone ``probabilities`` or ``output``.

    Raises
    ------
    UnsupportedError
        A value is neither an image nor a vector, which no model file has, or an operator can't be
        written.
    MissingExtraError
        If onnx is not installed.
    """
    return Writer(graph, channels_last=channels_last, names=names).model(name)
