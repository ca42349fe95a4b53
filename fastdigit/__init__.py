"""Recognise digits, or run any small convolutional network, on a CPU.

>>> import fastdigit
>>> fastdigit.predict(images)  # uint8 (N, 28, 28), or floats in 0..1
array([7, 2, 1, 0, 4])

:func:`predict` and :func:`predict_proba` use the digit classifier that ships with the package;
:func:`load` opens a compiled model of your own, and :func:`compile` makes one from Keras, ONNX or
TensorFlow.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

try:
    from fastdigit import _core
except ImportError as error:
    if error.name != __name__:  # it is there, and can't be loaded
        raise
    _here = Path(__file__).parent
    raise ImportError(
        f"{_here.parent} is the source of fastdigit, and its C part is not built for this Python: "
        "type `pip install --editable .` there"
        if (_here / "_core.pyx").exists()
        else f"{_here} was built for another Python or platform: install fastdigit again"
    ) from None
from fastdigit.ctc import decode_ctc
from fastdigit.limits import Limits
from fastdigit.model import DEFAULT_MODEL, Model, load
from fastdigit.sdk import get_include, get_library
from fastdigit.threads import available_cpus, resolve_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from fastdigit.compiler.driver import Compiled
    from fastdigit.compiler.verify import Verification
    from fastdigit.images import Steps
    from fastdigit.reader import Reading

__all__ = [
    "Limits",
    "Model",
    "__version__",
    "compile",
    "config",
    "decode_ctc",
    "explain",
    "get_include",
    "get_library",
    "load",
    "normalize",
    "predict",
    "predict_proba",
    "read",
    "show_config",
    "verify",
]

__version__: str = _core.version()

_default: Model | None = None
_default_lock = threading.Lock()


def _default_model() -> Model:
    """The model that ships with the package, opened by the first call that needs it."""
    global _default
    if _default is None:
        with _default_lock:
            if _default is None:
                _default = load()
    return _default


def predict(
    batch: NDArray[Any],
    *,
    reject_below: float | None = None,
    out: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Which digit each image shows, or -1 where the probability of that is less than
    ``reject_below``; see :meth:`fastdigit.Model.predict`."""
    return _default_model().predict(batch, reject_below=reject_below, out=out)


def predict_proba(
    batch: NDArray[Any], *, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Probability of each digit for each image; see :meth:`fastdigit.Model.predict_proba`."""
    return _default_model().predict_proba(batch, out=out)


def normalize(
    image: NDArray[Any] | bytes | str | os.PathLike[str], *, page: int | None = None
) -> NDArray[np.uint8]:
    """Make any picture of one digit look like those of MNIST: uint8 (28, 28), white on black.

    It takes an array of pixels, the bytes of an image file, or its path, and of a file of several
    pages the ``page``; see :func:`fastdigit.images.normalize`.
    """
    from fastdigit.images import normalize as normalized

    return normalized(image, page=page)


def explain(
    image: NDArray[Any] | bytes | str | os.PathLike[str], *, page: int | None = None
) -> Steps:
    """How :func:`normalize` finds the digit in a picture: grey, ink, lines, box, strokes and the
    image that the network sees; see :class:`fastdigit.images.Steps`."""
    from fastdigit.images import explain as explained

    return explained(image, page=page)


def read(image: NDArray[Any] | bytes | str | os.PathLike[str], **options: Any) -> Reading:
    """Read all digits of a picture: of a field, a line, or a page of fields.

    >>> fastdigit.read("form.png").text
    '20115 4711'

    It takes an array of pixels, the bytes of an image or PDF file, or its path. Options are
    ``length``, ``pattern``, ``check``, ``region``, ``reject_below`` and ``page``; see
    :func:`fastdigit.reader.read`.
    """
    from fastdigit.reader import read as reading

    return reading(image, **options)


def compile(
    source: Any,
    output: str | os.PathLike[str] | None,
    *,
    limits: Limits | None = None,
    **options: Any,
) -> Compiled:
    """Compile a Keras, ONNX or TensorFlow model to a ``.fdm`` file, verified against its source.

    Parameters
    ----------
    source
        A Keras model, or the path of a ``.keras``, ``.h5``, ``.onnx`` or ``.tflite`` file or of
        the directory of a SavedModel.
    output
        Where to write the compiled model. It is written only if its results agree with the
        source's. None: nowhere.
    limits
        What the compiled model may ask for, as for :func:`load`.
    **options
        ``architecture`` (JSON of a Keras model whose weights alone are ``source``), ``name``,
        ``outputs`` (those to keep), ``input_shape`` (where the source leaves it free),
        ``classes``, ``ctc_blank`` (of networks that read text), ``input_range`` (of the inputs; by
        default as the network says),
        ``mean``, ``std``, ``scale`` (what inputs went through in training), ``samples``,
        ``labels``, ``precision`` ("fp32", or "fp16", "int8" or "int8-dynamic" in wide dense
        layers), ``compact`` (False keeps units that make no difference), ``temperature`` (of the
        softmax), ``tolerance``, ``provenance`` (kept in META): see
        :func:`fastdigit.compiler.driver.compile_model`.

    Returns
    -------
    Compiled
        The bytes, META, listing and verification of the compiled model.

    Raises
    ------
    UnsupportedError
        The network has a layer that the compiler does not know.
    VerificationError
        The compiled network does not reproduce its source.
    MissingExtraError
        A library that reads the source is not installed.
    """
    from fastdigit.compiler.driver import compile_model

    return compile_model(source, output, engine=_engine(limits), **options)


def verify(
    model: str | os.PathLike[str],
    source: Any,
    *,
    limits: Limits | None = None,
    **options: Any,
) -> Verification:
    """Hold a ``.fdm`` file against the model it was compiled from.

    Parameters
    ----------
    model
        Path of the compiled model.
    source
        A Keras model, or the path of a ``.keras``, ``.h5`` or ``.onnx`` file.
    limits
        What the compiled model may ask for, as for :func:`load`.
    **options
        ``samples``, ``labels``, ``tolerance``: see
        :func:`fastdigit.compiler.driver.verify_model`.

    Returns
    -------
    Verification
        Errors and agreement of labels.

    Raises
    ------
    VerificationError
        They differ by more than the tolerance.
    """
    from fastdigit.compiler.driver import verify_model

    data = Path(model).read_bytes()
    Model(data, limits=limits)  # the one reader that trusts nothing
    return verify_model(data, source, engine=_engine(limits), **options)


def _engine(
    limits: Limits | None,
) -> Callable[[bytes, Sequence[NDArray[np.float32]]], list[NDArray[np.float32]]]:
    def run(data: bytes, inputs: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        results = Model(data, limits=limits).run(inputs[0] if len(inputs) == 1 else inputs)
        return list(results.values()) if isinstance(results, dict) else [results]

    return run


def config() -> dict[str, Any]:
    """What is running.

    Returns
    -------
    dict
        ``version``; ``isa`` (chosen), ``isas`` (those of this build: name and whether this CPU has
        it), ``isa_override`` (``FASTDIGIT_ISA`` or None); ``threads`` (default of a call), ``cpus``
        (this process may use); ``model`` (the default one); ``python``, ``numpy``, ``platform``.

    Raises
    ------
    IsaError
        ``FASTDIGIT_ISA`` asks for an ISA that is unknown or missing here.
    """
    import platform  # not needed by predict, and slow to import

    return {
        "version": __version__,
        "isa": _core.selected_isa(),
        "isas": dict(_core.isas()),
        "isa_override": os.environ.get("FASTDIGIT_ISA"),
        "threads": resolve_threads(None),
        "cpus": available_cpus(),
        "model": DEFAULT_MODEL,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": f"{sys.platform} {platform.machine()}",
    }


def show_config() -> None:
    """Print :func:`config`, for bug reports and for knowing which kernels run."""
    facts = config()
    override = facts["isa_override"]
    chosen = "the best this CPU has" if override is None else f"FASTDIGIT_ISA={override}"
    print(
        f"fastdigit {facts['version']}, Python {facts['python']}, NumPy {facts['numpy']}, "
        f"{facts['platform']}"
    )
    print(f"  ISA      {facts['isa']} ({chosen})")
    for name, usable in facts["isas"].items():
        print(f"           {name}: {'usable' if usable else 'not on this CPU'}")
    print(
        f"  threads  {facts['threads']} a call unless a model is loaded with more; "
        f"{facts['cpus']} CPUs usable"
    )
    print(f"  model    {facts['model']}")
