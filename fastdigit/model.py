"""Loaded models: batches of images in, labels or probabilities out."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, TypeAlias, overload

import numpy as np

from fastdigit._core import LABELS, LOGITS, VALUES, Core
from fastdigit.ctc import decode_ctc
from fastdigit.errors import InputError, ModelFormatError
from fastdigit.limits import Limits
from fastdigit.meta import parse_meta
from fastdigit.ports import (
    InputPort,
    OutputPort,
    checked_number,
    checked_out,
    described_outputs,
    take_batch,
)
from fastdigit.threads import Threads, resolve_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    #: Images for the only input, or for each.
    Batch: TypeAlias = NDArray[Any] | Mapping[str, NDArray[Any]] | Sequence[NDArray[Any]]

__all__ = ["DEFAULT_MODEL", "SHIPPED_MODELS", "Model", "load", "shipped_file"]

#: Name of the model that :func:`load` opens when given no path.
DEFAULT_MODEL: Final = "digits"

#: Names of the models that come with the package.
SHIPPED_MODELS: Final = ("digits", "seed")

#: The label of an image that :meth:`Model.predict` was not to label.
REJECTED: Final = -1

_MODELS: Final = os.path.join(os.path.dirname(__file__), "models")
_FLOAT32: Final = np.dtype(np.float32)
_INT64: Final = np.dtype(np.int64)


def load(
    path: str | os.PathLike[str] | None = None,
    *,
    threads: Threads | None = None,
    output: str | None = None,
    limits: Limits | None = None,
) -> Model:
    """Open a compiled model.

    Parameters
    ----------
    path
        A ``.fdm`` file, or the name of a model that ships with the package: "digits" or "seed".
        None: "digits".
    threads
        How many threads a call may use, the calling one included: 1 to 256, or "auto" for as many
        CPUs as this process may have (affinity and container quota). None: the environment variable
        ``FASTDIGIT_NUM_THREADS``, or 1. Results do not depend on it.
    output
        Of a network of several outputs, the name of the one that :meth:`Model.predict` and the like
        are about where they are not told another. None: the first.
    limits
        What the file may ask for; None: ``Limits()``, which is safe for files from anywhere.

    Raises
    ------
    OSError
        The file cannot be read.
    ModelFormatError
        It is not a model file, is damaged, or has another version of the format.
    LimitError
        It asks for more than ``limits`` allow, an :class:`UnsupportedError`.
    UnsupportedError
        The network is larger than this engine runs.
    IsaError
        ``FASTDIGIT_ISA`` asks for an ISA that is unknown or missing here.
    """
    if path is None:
        path = DEFAULT_MODEL
    if path in SHIPPED_MODELS:
        path = shipped_file(path)
    path = os.fspath(path)
    try:
        return Model(path, threads=threads, output=output, limits=limits)
    except ModelFormatError as error:
        if os.path.splitext(path)[1].lower() in (".fdm", ""):
            raise
        raise ModelFormatError(
            f"{error}; a model of another library is compiled first: fastdigit compile {path}"
        ) from error


def shipped_file(name: str) -> str:
    """Path of a shipped model."""
    return os.path.join(_MODELS, f"{name}.fdm")


class Model:
    """A compiled network, immutable once open and shared freely between threads.

    Parameters
    ----------
    source
        Path of a ``.fdm`` file, or the bytes of one.
    threads, output, limits
        See :func:`load`.

    Notes
    -----
    A row's result is the same to the last bit whatever the batch, the row's place in it, and the
    number of threads, and on every ISA but ``generic``, if no value of the network overflows. Calls
    release the GIL. Models pickle: the file travels with them.

    Batches are NumPy arrays of floats in the model's range, or of ``uint8`` where it says what
    bytes mean: for the digit classifier floats in 0..1 or bytes in 0..255 (white on black), of
    shape ``(N, 28, 28)``, ``(N, 28, 28, 1)``, ``(N, 784)``, or ``(28, 28)`` for one image; N may
    be 0. C-contiguous ``float32`` and ``uint8`` arrays are used where they lie, everything else is
    converted first. A model of several inputs takes a dict of such arrays by the names in
    :attr:`inputs`, or a tuple of them in order.

    In the main thread, Ctrl-C ends a call that takes long; ``timeout=`` ends it in any thread. Both
    are looked at between images and, of large networks, between operators. What was in ``out`` is
    gone then, and the model is as good as before.
    """

    def __init__(
        self,
        source: str | bytes,
        *,
        threads: Threads | None = None,
        output: str | None = None,
        limits: Limits | None = None,
    ) -> None:
        if limits is not None and not isinstance(limits, Limits):
            raise InputError(f"limits is a {type(limits).__name__}, expected fastdigit.Limits")
        self._threads = resolve_threads(threads)
        self._limits = limits
        self._core = Core(source, self._threads, None if limits is None else asdict(limits))
        facts = self._core.facts()
        self._meta = _readable_meta(facts["meta"])
        self._inputs = tuple(map(InputPort, self._core.inputs()))
        described = described_outputs(self._meta)
        self._heads = tuple(
            OutputPort(index, port, described.get(port["name"], described.get(None, {})))
            for index, port in enumerate(self._core.outputs())
        )
        #: The output that is meant where none is named.
        self._head = self._heads[0] if output is None else self._head_named(output)
        self._core.choose_output(self._head.index)
        self._has_labels = self._head.has_labels
        self._facts = {
            **facts,
            "output_shape": self._head.shape,
            "outputs": self._head.elements,
            "has_softmax": self._head.has_softmax,
            "has_sigmoid": self._head.has_sigmoid,
            "has_log_softmax": self._head.has_log_softmax,
            "ctc_blank": self._head.ctc_blank,
        }
        if len(self._inputs) == 1:
            self._run_batch = self._core.batch_runner(self._inputs[0].batch_shapes)
        else:
            self._run_batch = _not_here

    # ---- What it is ----

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image: (height, width, channels), or (features,); of the first input."""
        return self._inputs[0].shape

    @property
    def inputs(self) -> dict[str, tuple[int, ...]]:
        """The inputs, in order: name and shape of one image."""
        return {port.name: port.shape for port in self._inputs}

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """The outputs, in order: name and shape of the result for one image."""
        return {head.name: head.shape for head in self._heads}

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the result for one image: (classes,), (height, width, channels), or another that
        the network has at its source, such as (steps, channels). Of several outputs, the first, or
        the one that the model was loaded for."""
        return self._head.shape

    @property
    def classes(self) -> tuple[str, ...]:
        """What each label stands for, in order: a name for each output, or two if the only one is a
        sigmoid, which tells the second class from the first; of a network that reads text, one for
        each class of a step, the blank's included, if they are known. Of the output that
        :attr:`output_shape` is of; :meth:`classes_of` has those of others."""
        return self._head.classes

    def classes_of(self, output: str) -> tuple[str, ...]:
        """What each label of an output stands for, as :attr:`classes` has it of one."""
        return self._head_named(output).classes

    @property
    def has_labels(self) -> bool:
        """Whether :meth:`predict` labels images: not if the network returns an image, or a single
        number that is no probability."""
        return self._head.has_labels

    @property
    def has_probabilities(self) -> bool:
        """Whether :meth:`predict_proba` gives probabilities: not if the network ends in none, such
        as a regression, or scores without a softmax."""
        return self._head.has_probabilities

    @property
    def threads(self) -> int:
        """How many threads a call may use."""
        return self._threads

    def info(self) -> dict[str, Any]:
        """Facts about the model.

        Returns
        -------
        dict
            ``isa`` (whose kernels run it), ``threads``, ``input_shape``, ``output_shape``,
            ``outputs``, ``has_softmax`` (probabilities that add up to 1), ``has_sigmoid`` (each
            output is a probability of its own), ``has_log_softmax`` (outputs are logarithms of
            probabilities), ``ctc_blank`` (index of the class that stands for nothing, of a network
            that reads text; None if it is not known), ``range`` (least and greatest input value),
            ``accepts_u8``, ``inputs`` and ``heads`` (by name, the same of each input and output),
            ``multiply_adds`` (per image, by the layers' definitions), ``weight_bytes``,
            ``file_bytes``, ``context_bytes`` (scratch of one call, per thread),
            ``usage`` (what it asks for of each of :class:`fastdigit.Limits`),
            ``meta`` (a dict: what the compiler recorded, such as name, classes and verification).
        """
        return {
            **self._facts,
            "inputs": {port.name: port.facts() for port in self._inputs},
            "heads": {head.name: head.facts() for head in self._heads},
            "threads": self._threads,
            "usage": self._core.usage(),
            "meta": json.loads(json.dumps(self._meta)),
        }

    def plan(self) -> list[dict[str, Any]]:
        """How each op of the network is computed, on this CPU.

        Returns
        -------
        list of dict
            In the order of the program, the check of the input first. ``op`` (operator, as in the
            file), ``label`` (for people, such as "conv 3x3"), ``kernel``, ``algorithm`` (of a
            convolution: "direct", "abreast 2" if so many neighbouring outputs share a vector,
            "grouped", "depthwise", or Winograd's, as "F(4x4,3x3)" or "F(1x4,1x3)"; else empty),
            ``arithmetic`` ("float" or "bytes"), ``precision`` (of weights: "f32", "f16", "i8" or
            empty), ``input_shape``, ``output_shape``, ``multiply_adds`` (per image, by the layer's
            definition), ``executed`` (per image, by the algorithm; for Winograd's the products),
            ``weight_bytes`` (read in a call, at least), ``scratch_bytes`` (per thread).
        """
        return [dict(op) for op in self._core.plan()]

    def __repr__(self) -> str:
        name = self._meta.get("name", "unnamed")
        takes = ", ".join(str(port.shape) for port in self._inputs)
        gives = ", ".join(str(head.elements) for head in self._heads)
        return f"<fastdigit.Model {name!r} {takes} -> {gives}, isa {self._facts['isa']}>"

    # ---- What it does ----

    def predict(
        self,
        batch: Batch,
        *,
        threshold: float | None = None,
        reject_below: float | None = None,
        output: str | None = None,
        out: NDArray[np.int64] | None = None,
        timeout: float | None = None,
    ) -> NDArray[np.int64]:
        """Label of each image: the index of its greatest logit, the first of equals; or, of a
        network with one sigmoid output, 1 where that is greater than ``threshold``, otherwise 0.

        Parameters
        ----------
        batch
            N images; see the class.
        threshold
            For networks of one output, such as those that tell yes from no: the label is 1 where
            the output is greater. None: 0.5 if the network ends in a sigmoid; any other network of
            one output has no labels without it.
        reject_below
            Label -1 is given to an image whose label has a probability, as :meth:`predict_proba`
            gives it, of less than this number from 0 to 1; with one sigmoid output p, that of label
            1 is p and that of label 0 is 1 - p. What it rejects is known from images with known
            labels: a network is sure of things that it has never seen, too. None: every image gets
            a label.
        output
            Name of the output whose labels are wanted, one of :attr:`outputs`. None: the one that
            the model was loaded for, or the first.
        out
            Where to put the result: C-contiguous int64 of shape (N,).
        timeout
            Seconds that the call may take. None: any number.

        Returns
        -------
        ndarray
            int64 of shape (N,); ``out`` if given.

        Raises
        ------
        InputError
            The batch, ``threshold``, ``reject_below`` or ``out`` has the wrong type, shape or
            values, or ``out`` overlaps the batch.
        RunTimeoutError
            It took longer than ``timeout``, a :class:`TimeoutError`.
        UnsupportedError
            The network returns no labels: an image, or one number that is no probability; or
            ``threshold`` is given and it has several outputs, or ``reject_below`` and it ends
            neither in a softmax nor in sigmoids.

        Notes
        -----
        Several sigmoid outputs may mean classes that exclude each other, or labels of which an
        image can have any number; a network does not tell which. The index of the greatest is the
        label in the first case only. In the second, compare :meth:`predict_proba` with a threshold.
        """
        plain = threshold is None and reject_below is None
        if (
            plain
            and output is None
            and timeout is None
            and self._has_labels
            and (done := self._run_batch(batch, out, LABELS)) is not None
        ):
            return done
        head = self._head if output is None else self._head_named(output)
        limit = head.checked_threshold(threshold)
        least = 0.0 if reject_below is None else checked_number("reject_below", reject_below, 0, 1)
        if reject_below is not None:
            head.require_probabilities()
        inputs, n = take_batch(self._inputs, batch)
        labels = np.empty(n, _INT64) if out is None else checked_out(out, (n,), _INT64)
        if plain:
            self._run(head, inputs, n, None, None, labels, timeout)
            return labels
        values = np.empty((n, head.elements), _FLOAT32)
        self._run(head, inputs, n, values, None, labels, timeout)
        values = head.as_probabilities(values)
        # In float64: a threshold that float32 does not have is not rounded to one.
        confidence = values.max(axis=1).astype(np.float64)
        if limit is not None:
            labels[:] = confidence > limit
        if head.binary:
            confidence = np.where(labels == 1, confidence, 1 - confidence)
        if reject_below is not None:
            labels[confidence < least] = REJECTED
        return labels

    def predict_proba(
        self,
        batch: Batch,
        *,
        output: str | None = None,
        out: NDArray[np.float32] | None = None,
        timeout: float | None = None,
    ) -> NDArray[np.float32]:
        """Probability of each class for each image: of a softmax, also where the network gives its
        logarithm, of several sigmoids, or of the second class alone if there is one sigmoid output.

        Parameters
        ----------
        batch
            N images; see the class.
        output
            Name of an output; see :meth:`predict`.
        out
            Where to put the result: C-contiguous float32 of shape (N, outputs).
        timeout
            See :meth:`predict`.

        Returns
        -------
        ndarray
            float32 of shape (N, outputs); ``out`` if given. Rows add up to 1 if the network ends
            in a softmax or in its logarithm; those of sigmoids need not. With one sigmoid output p
            it is (N, 1), as in Keras; ``numpy.hstack([1 - p, p])`` is what scikit-learn has.

        Raises
        ------
        InputError
            The batch, or ``out``, has the wrong type, shape or values.
        RunTimeoutError
            See :meth:`predict`.
        UnsupportedError
            The network ends neither in a softmax, or its logarithm, nor in sigmoids.
        """
        head = self._head if output is None else self._head_named(output)
        head.require_probabilities()
        plain = output is None and timeout is None
        if plain and (done := self._run_batch(batch, out, VALUES)) is not None:
            return head.as_probabilities(done)
        inputs, n = take_batch(self._inputs, batch)
        values = head.floats(n, out)
        self._run(head, inputs, n, values, None, None, timeout)
        return head.as_probabilities(values)

    def logits(
        self,
        batch: Batch,
        *,
        output: str | None = None,
        out: NDArray[np.float32] | None = None,
        timeout: float | None = None,
    ) -> NDArray[np.float32]:
        """Outputs before the final softmax; the outputs themselves if there is none.

        Its temperature (``info()["meta"]["temperature"]``) is not in them.

        Parameters
        ----------
        batch
            N images; see the class.
        output
            Name of an output; see :meth:`predict`.
        out
            Where to put the result: C-contiguous float32 of shape (N, classes).
        timeout
            See :meth:`predict`.

        Returns
        -------
        ndarray
            float32 of shape (N, classes); ``out`` if given.

        Raises
        ------
        InputError
            The batch, or ``out``, has the wrong type, shape or values.
        """
        plain = output is None and timeout is None
        if plain and (done := self._run_batch(batch, out, LOGITS)) is not None:
            return done
        head = self._head if output is None else self._head_named(output)
        inputs, n = take_batch(self._inputs, batch)
        values = head.floats(n, out)
        self._run(head, inputs, n, None, values, None, timeout)
        return values

    def predict_text(
        self,
        batch: Batch,
        *,
        blank: int | None = None,
        classes: Sequence[str] | None = None,
        output: str | None = None,
    ) -> list[str]:
        """Text in each image, of a network that was trained with CTC: captchas, number plates.

        Parameters
        ----------
        batch
            N images; see the class.
        blank, classes
            As of :func:`fastdigit.decode_ctc`. None: as the model was compiled with
            (``ctc_blank=``, ``classes=``).
        output
            Name of an output; see :meth:`predict`.

        Returns
        -------
        list of str
            For each image.

        Raises
        ------
        InputError
            The batch is wrong; or the blank or the classes do not fit the network, or are neither
            given nor known.
        UnsupportedError
            The network does not return (steps, classes).
        """
        head = self._head if output is None else self._head_named(output)
        blank = head.blank_of(blank)
        if classes is None:
            classes = head.characters
        if classes is None:
            raise InputError(
                "nothing says what the classes of this model are written as: give classes= "
                "(--labels), or compile it with classes= (--classes)"
            )
        found = self.run(batch)
        values = found[head.name] if isinstance(found, dict) else found
        return decode_ctc(values, blank=blank, classes=classes)

    @overload
    def run(
        self, batch: Batch, *, out: NDArray[np.float32], timeout: float | None = None
    ) -> NDArray[np.float32]: ...

    @overload
    def run(
        self,
        batch: Batch,
        *,
        out: Mapping[str, NDArray[np.float32]] | None = None,
        timeout: float | None = None,
    ) -> Any: ...

    def run(self, batch: Batch, *, out: Any = None, timeout: float | None = None) -> Any:
        """What the network computes, for any network: classifiers, regressions, images.

        Parameters
        ----------
        batch
            N images; see the class.
        out
            Where to put the result: C-contiguous float32 of shape (N, *output_shape). Of a network
            of several outputs, such arrays by name.
        timeout
            See :meth:`predict`.

        Returns
        -------
        ndarray or dict
            float32 of shape (N, *output_shape), probabilities if the network ends in a softmax;
            ``out`` if given. Of a network of several outputs, the result of each by its name, in
            the order of :attr:`outputs`.

        Raises
        ------
        InputError
            The batch, or ``out``, has the wrong type, shape or values.
        """
        inputs, n = take_batch(self._inputs, batch)
        if len(self._heads) == 1:
            values = self._head.result(n, out)
            self._run(self._head, inputs, n, values, None, None, timeout)
            return values
        given = {} if out is None else out
        if not isinstance(given, Mapping) or not given.keys() <= self.outputs.keys():
            raise InputError(
                "out is to be a dict of arrays by the names of outputs: "
                f"{', '.join(map(repr, self.outputs))}"
            )
        results = {head.name: head.result(n, given.get(head.name)) for head in self._heads}
        everything = [(result, None, None) for result in results.values()]
        self._core.run_all(inputs, n, everything, _nanoseconds(timeout))
        return results

    def labels_of(
        self, values: NDArray[np.float32], *, output: str | None = None
    ) -> NDArray[np.int64]:
        """Labels of what :meth:`predict_proba` or :meth:`logits` gave: (N, outputs).

        They are those of :meth:`predict`, but where rounding made probabilities equal that were
        not.

        Raises
        ------
        UnsupportedError
            The network returns no labels.
        """
        head = self._head if output is None else self._head_named(output)
        head.require_labels()
        found = values[:, 0] > 0.5 if head.binary else values.argmax(axis=1)
        return found.astype(_INT64, copy=False)

    # ---- How ----

    def _head_named(self, output: str) -> OutputPort:
        for head in self._heads:
            if head.name == output:
                return head
        raise InputError(
            f"there is no output {output!r}; the model has {', '.join(map(repr, self.outputs))}"
        )

    def _run(
        self,
        head: OutputPort,
        inputs: list[tuple[NDArray[Any], bool]],
        n: int,
        values: NDArray[np.float32] | None,
        logits: NDArray[np.float32] | None,
        labels: NDArray[np.int64] | None,
        timeout: float | None,
    ) -> None:
        limit = _nanoseconds(timeout)
        if head is self._head and len(inputs) == 1:
            self._core.run(*inputs[0], n, values, logits, labels, limit)
            return
        outputs: list[tuple[Any, Any, Any]] = [(None, None, None) for _ in self._heads]
        outputs[head.index] = (values, logits, labels)
        self._core.run_all(inputs, n, outputs, limit)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (self._core.to_bytes(), self._threads, self._head.name, self._limits)


def _unpickle(
    data: bytes, threads: int, output: str | None = None, limits: Limits | None = None
) -> Model:
    return Model(data, threads=threads, output=output, limits=limits)


def _not_here(batch: Any, out: Any, kind: int) -> None:
    """In the place of Core's `run_batch`, for models that it is not for."""


def _nanoseconds(timeout: Any) -> int:
    """As the engine takes it; 0: none."""
    if timeout is None:
        return 0
    number = not isinstance(timeout, bool | np.bool_) and isinstance(
        timeout, int | float | np.integer | np.floating
    )
    if not number or not timeout > 0:
        raise InputError(f"timeout is {timeout!r}, expected a number of seconds > 0, or None")
    return min(int(min(timeout, 1e9) * 1e9), 10**18) or 1


def _readable_meta(text: str) -> dict[str, Any]:
    """META is for people: what is not as it should be is no reason to refuse a model that runs."""
    try:
        return parse_meta(text)
    except ModelFormatError:
        return {}
