"""From a Keras model, of any version, to the IR.

``files.py`` and ``live.py`` read a file or a model in memory into a
:class:`~fastdigit.compiler.frontends.keras.network.Network`, without running anything of it.
``importer.py`` makes a graph of that, and ``evaluate.py`` computes with it, to verify.

A layer is a row of ``kinds.py``, a function in one of the files by family here, marked with
:func:`~fastdigit.compiler.frontends.keras.registry.converts`, or with
:func:`~fastdigit.compiler.frontends.keras.registry.joins` if it has several inputs, and a function
of ``evaluate.py``.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdigit.compiler.frontends.common import DEFAULTS, Imported, ImportOptions
from fastdigit.compiler.frontends.front_end import FrontEnd
from fastdigit.compiler.frontends.keras.evaluate import evaluate
from fastdigit.compiler.frontends.keras.files import read_file
from fastdigit.compiler.frontends.keras.importer import import_network
from fastdigit.compiler.frontends.keras.live import is_keras, live_runner, read_live
from fastdigit.compiler.frontends.keras.network import Network
from fastdigit.compiler.frontends.keras.registry import supported_layers
from fastdigit.compiler.frontends.runners import Runner
from fastdigit.errors import VerificationError

__all__ = ["FRONT_END", "SUPPORTED_LAYERS", "import_keras"]

# Each file of this folder registers its converters.
for _file in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")

#: Names of the Keras layers that are read.
SUPPORTED_LAYERS = supported_layers()


def import_keras(model: Any, options: ImportOptions = DEFAULTS) -> Imported:
    """Return the network of a Keras model, in memory or as it was read from a file.

    Raises
    ------
    UnsupportedError
        Naming the layers and what is supported.
    InputError
        If the options do not fit the model.
    """
    network = model if isinstance(model, Network) else read_live(model)
    return import_network(network, options)


def _owns(model: Any) -> bool:
    return isinstance(model, Network) or is_keras(model)


def _runner(model: Any, imported: Imported) -> tuple[str, Runner]:
    """Keras, for a model in memory, if it computes that in float32; else the evaluation of the
    source in float64."""
    network, reason = model, ""
    if not isinstance(model, Network):
        network = read_live(model)
        try:
            return live_runner(model, network, imported)
        except VerificationError as error:
            reason = f"; {error}"
    network = network.choose([port.name for port in imported.outputs])
    places = [[port.name for port in imported.inputs].index(g.name) for g in network.inputs]

    def run(inputs: Sequence[NDArray[np.float32]]) -> list[NDArray[Any]]:
        return list(evaluate(network, [inputs[place] for place in places]))

    return f"the source in float64 (numpy {np.__version__}{reason})", run


FRONT_END = FrontEnd(
    name="keras",
    title="Keras",
    model="a Keras model",
    suffixes=(".keras", ".h5", ".hdf5"),
    marker=None,
    extra="compile",
    verified_by="its layers computed in float64; a model in memory against Keras",
    summary="Sequential or functional, of Keras 1 to 3; code in a file is not run",
    read=read_file,
    owns=_owns,
    import_model=import_keras,
    runner=_runner,
    read_weights=read_file,
    matches=lambda content: content.is_hdf5 or "config.json" in content.members,
)
