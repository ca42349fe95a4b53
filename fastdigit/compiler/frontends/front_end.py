"""What a front end is: which sources it takes, how it reads them, and what runs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastdigit.compiler.frontends.common import Imported, ImportOptions
from fastdigit.compiler.frontends.runners import Runner
from fastdigit.compiler.frontends.sniff import Content

__all__ = ["FrontEnd"]


@dataclass(frozen=True)
class FrontEnd:
    """A row of :data:`fastdigit.compiler.frontends.FRONT_ENDS`, from which everything that has to
    know of a front end learns of it: the driver, ``fastdigit compile --help``, errors, documents.

    Parameters
    ----------
    name
        What META says of a model's source: "keras".
    title
        What people call it.
    model
        What it takes in memory, with an article; "" if it takes only files.
    suffixes
        Of its files.
    marker
        The file that a directory has if it is such a source; None if none is.
    extra
        Of the package: what installs the libraries that it needs.
    verified_by
        What a compiled model is held against.
    summary
        A sentence about what is read.
    read
        Returns the model in a file or directory.
    owns
        Whether a model in memory is one of its own.
    import_model
        Returns the network of a model: the outputs that the options choose, and the inputs that
        these need.
    runner
        Returns the name of what runs a model, with its version, and a function that does: from
        arrays for `Imported.inputs`, as the source takes them, to those of `Imported.outputs`.
    read_weights
        Returns the model in a file of weights and one of its architecture; None if it knows no such
        pairs.
    matches
        Whether the content of a file is one of its own, whatever its name; False if it reads none.
    """

    name: str
    title: str
    model: str
    suffixes: tuple[str, ...]
    marker: str | None
    extra: str
    verified_by: str
    summary: str
    read: Callable[[Path], Any]
    owns: Callable[[Any], bool]
    import_model: Callable[[Any, ImportOptions], Imported]
    runner: Callable[[Any, Imported], tuple[str, Runner]]
    read_weights: Callable[[Path, Path], Any] | None = None
    matches: Callable[[Content], bool] = lambda content: False

    @property
    def files(self) -> str:
        """What it reads, in words: "a .keras or .h5 file"."""
        if self.marker is not None:
            return f"the directory of a {self.title}"
        *others, last = self.suffixes
        return f"a {', '.join(others)} or {last} file" if others else f"a {last} file"
