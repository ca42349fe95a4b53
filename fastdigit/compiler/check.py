"""Says of a source, without compiling it, what is supported and what is not: all of it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastdigit.compiler.frontends import ImportOptions, front_end_of, import_model, open_source
from fastdigit.compiler.frontends.common import DEFAULTS, NotImportedError
from fastdigit.compiler.ir import Node, Shape
from fastdigit.compiler.passes import optimize
from fastdigit.errors import UnsupportedError

__all__ = ["Check", "check_source"]


@dataclass(frozen=True)
class Check:
    """What :func:`check_source` found.

    Parameters
    ----------
    front_end
        What the source is: "Keras"; "" if no front end reads it.
    name
        Of the network, or of the file.
    inputs, outputs
        Their shapes, by name, for one image and without the batch; None if a shape is not known,
        which that of an output is not behind what is not supported.
    layers
        Names of the layers or operators that are read, in order.
    reasons
        What is not supported: a sentence each.
    """

    front_end: str
    name: str
    inputs: Mapping[str, Shape | None] = field(default_factory=dict)
    outputs: Mapping[str, Shape | None] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def compilable(self) -> bool:
        """Whether all of it is supported."""
        return not self.reasons

    @property
    def kinds(self) -> dict[str, int]:
        """How many layers there are of each kind, most frequent first."""
        found = (re.search(r"\((\w+)\)$", layer) for layer in self.layers)
        return dict(Counter(kind[1] for kind in found if kind).most_common())


def check_source(
    source: Any,
    architecture: str | os.PathLike[str] | None = None,
    options: ImportOptions = DEFAULTS,
) -> Check:
    """Read a source as the compiler does, and say what it could not compile.

    Nothing is computed or written. What this finds nothing against may still be refused by the
    verification.

    Parameters
    ----------
    source, architecture, options
        As for :func:`fastdigit.compiler.frontends.open_source` and
        :func:`~fastdigit.compiler.frontends.import_model`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFormatError
        If the source is damaged.
    MissingExtraError
        If a package is missing that reads it.
    """
    name = os.path.basename(os.fspath(source)) if isinstance(source, str | os.PathLike) else ""
    try:
        model = open_source(source, architecture)
        title = front_end_of(model).title
    except UnsupportedError as error:
        return Check("", name, reasons=error.reasons)
    try:
        imported = import_model(model, options)
    except NotImportedError as error:
        return Check(
            *(title, name, error.inputs, error.outputs, _layers(error.nodes), error.reasons)
        )
    except UnsupportedError as error:
        return Check(title, name, reasons=error.reasons)
    reasons: tuple[str, ...] = ()
    try:
        optimize(imported.graph)
    except UnsupportedError as error:
        reasons = error.reasons
    return Check(
        title,
        name or imported.name,
        {port.name: port.shape for port in imported.inputs},
        {port.name: port.shape for port in imported.outputs},
        _layers(imported.graph.nodes),
        reasons,
    )


def _layers(nodes: Iterable[Node]) -> tuple[str, ...]:
    """Names of layers; that of the input has what front ends do to it."""
    return tuple(dict.fromkeys(node.name for node in nodes if node.name != "input"))
