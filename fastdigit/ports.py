"""Inputs and outputs of a model: what arrays they take, and what their values mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fastdigit.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "InputPort",
    "OutputPort",
    "checked_number",
    "checked_out",
    "described_outputs",
    "take_batch",
]

#: Of a shape that META gives a result.
_MAX_AXES: Final = 16

_FLOAT32: Final = np.dtype(np.float32)
_UINT8: Final = np.dtype(np.uint8)
_GREATEST: Final = float(np.finfo(np.float32).max)


class InputPort:
    """An input, and how to take images for it."""

    def __init__(self, port: Mapping[str, Any]) -> None:
        self.name: str = port["name"]
        self.shape: tuple[int, ...] = port["shape"]
        self.range: tuple[float, float] = port["range"]
        self.accepts_u8: bool = port["accepts_u8"]
        self.batch_shapes = _batch_shapes(self.shape)
        # Not (784,): more likely a mistake than an image.
        self._single_shapes = tuple(shape for shape in self.batch_shapes if len(shape) > 1)

    def facts(self) -> dict[str, Any]:
        return {"shape": self.shape, "range": self.range, "accepts_u8": self.accepts_u8}

    def take(self, batch: Any) -> tuple[NDArray[Any], bool, int]:
        """The batch as a C-contiguous array, whether of bytes (else float32), how many images."""
        if not isinstance(batch, np.ndarray):
            raise InputError(
                f"the batch is a {type(batch).__name__}, expected a NumPy array "
                f"{self._expected()}; convert it with numpy.asarray"
            )
        shape, dtype = batch.shape, batch.dtype
        if shape[1:] in self.batch_shapes:
            n = shape[0]
        elif shape in self._single_shapes:
            n = 1
        else:
            raise InputError(f"the batch has shape {shape}, expected {self._expected()}")
        u8 = dtype is _UINT8 or dtype == _UINT8
        if u8 and not self.accepts_u8:
            raise InputError(
                f"the batch is uint8, and nothing says what bytes mean to this model, which takes "
                f"floats{self._range()}: convert it as in training, or compile the model with "
                "--mean and --std (mean=, std=), or with --input-range 0 255"
            )
        if not u8 and dtype is not _FLOAT32:
            if dtype.kind != "f":
                bytes_ = "uint8 in 0..255 or " if self.accepts_u8 else ""
                raise InputError(
                    f"the batch has dtype {dtype}, expected {bytes_}floats{self._range()}; "
                    "convert it with .astype"
                )
            with np.errstate(over="ignore"):  # what becomes infinite is refused as out of range
                batch = batch.astype(_FLOAT32, order="C")
        flags = batch.flags
        if not (flags.c_contiguous and flags.aligned):
            batch = np.require(batch, requirements=["C", "A"])
        return batch, u8, n

    def _range(self) -> str:
        """Where floats are to lie, in words; "" if anywhere."""
        low, high = self.range
        return f" in {low:g}..{high:g}" if abs(low) < _GREATEST or high < _GREATEST else ""

    def _expected(self) -> str:
        usual = [shape for shape in self.batch_shapes if len(shape) < 3 or shape == self.shape]
        shapes = [f"(N, {', '.join(map(str, shape))})" for shape in usual]
        shapes += [f"({', '.join(map(str, shape))})" for shape in self._single_shapes[:1]]
        return f"of shape {' or '.join(shapes)}"


class OutputPort:
    """An output, and what it means.

    Parameters
    ----------
    index
        Among the outputs.
    port
        As the engine tells.
    described
        As META does: a shape, classes.
    """

    def __init__(self, index: int, port: Mapping[str, Any], described: Mapping[str, Any]) -> None:
        self.index = index
        self.name: str = port["name"]
        self.elements: int = port["elements"]
        self.has_softmax: bool = port["has_softmax"]
        self.has_sigmoid: bool = port["has_sigmoid"]
        self.shape = _source_shape(port["shape"], described.get("shape"))
        #: One value, the probability of the second of two classes.
        self.binary = self.has_sigmoid and self.elements == 1
        vector = self.elements == port["shape"][-1]
        #: The values are logarithms of probabilities.
        self.has_log_softmax = vector and described.get("log_softmax") is True
        self.has_probabilities = self.has_softmax or self.has_sigmoid or self.has_log_softmax
        #: Which class stands for nothing, of a network trained with CTC; None if that is not known.
        self.ctc_blank = _ctc_blank(self.shape, described.get("ctc_blank"))
        self.has_labels: bool = vector and (self.elements > 1 or self.has_probabilities)
        labels = 2 if self.binary else self.elements
        classes = described.get("classes")
        #: What each class of a step is written as, that of the blank included; None if not known.
        self.characters: list[str] | None = None
        names = classes if isinstance(classes, list) else []
        if self.ctc_blank is not None and len(names) == self.shape[-1]:
            self.characters = list(map(str, names))
        if self.characters is not None:
            classes = self.characters
        elif not isinstance(classes, list) or len(classes) != labels:
            classes = list(range(labels))
        self.classes = tuple(map(str, classes))

    def facts(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "has_softmax": self.has_softmax,
            "has_sigmoid": self.has_sigmoid,
            "has_log_softmax": self.has_log_softmax,
            "ctc_blank": self.ctc_blank,
        }

    def as_probabilities(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Make probabilities of what the network gives, in its place."""
        return np.exp(values, out=values) if self.has_log_softmax else values

    def result(self, n: int, out: Any) -> NDArray[np.float32]:
        """Where what the network computes goes."""
        return self._array((n, *self.shape), out)

    def require_probabilities(self) -> None:
        if not self.has_probabilities:
            raise UnsupportedError(
                "this network does not end in a softmax or in sigmoids: it has logits, but no "
                "probabilities"
            )

    def require_labels(self) -> None:
        if self.has_labels:
            return
        if self.elements == 1:
            raise UnsupportedError(
                "this network returns one number that is no probability, which is no label: use "
                "Model.run, or say from which number on it means 1, by threshold="
            )
        steps = len(self.shape) == 2
        raise UnsupportedError(
            f"this network returns shape {self.shape} for an image, which is no label: use "
            f"Model.run{', or Model.predict_text if it reads text (CTC)' if steps else ''}"
        )

    def blank_of(self, given: int | None) -> int:
        """The class that stands for nothing: as given, or as the model says."""
        if len(self.shape) != 2:
            raise UnsupportedError(
                f"this network returns shape {self.shape} for an image; text is read of "
                "(steps, classes)"
            )
        if given is not None:
            return given
        if self.ctc_blank is None:
            raise InputError(
                "nothing says which class of this model stands for nothing: give blank= "
                "(--ctc-blank), -1 for networks trained with Keras' ctc_batch_cost and 0 with "
                "PyTorch's CTCLoss, or compile it with ctc_blank="
            )
        return self.ctc_blank

    def checked_threshold(self, threshold: Any) -> float | None:
        """What the only output is compared with; None if there are several."""
        if threshold is None:
            self.require_labels()
            return 0.5 if self.binary else None
        if self.elements != 1:
            raise UnsupportedError(
                f"threshold is for networks of one output, and this one has {self.elements}: "
                "compare what Model.run returns with it"
            )
        bounds = (0.0, 1.0) if self.binary else (-math.inf, math.inf)
        return checked_number("threshold", threshold, *bounds)

    def floats(self, n: int, out: NDArray[np.float32] | None) -> NDArray[np.float32]:
        return self._array((n, self.elements), out)

    def _array(self, shape: tuple[int, ...], out: Any) -> NDArray[np.float32]:
        if out is None:
            return np.empty(shape, _FLOAT32)
        checked: NDArray[np.float32] = checked_out(out, shape, _FLOAT32)
        return checked


def take_batch(
    ports: Sequence[InputPort], batch: Any
) -> tuple[list[tuple[NDArray[Any], bool]], int]:
    """What each input gets, as its :meth:`InputPort.take` returns it, and how many images."""
    if len(ports) == 1:
        if isinstance(batch, Mapping) and batch.keys() == {ports[0].name}:
            (batch,) = batch.values()
        images, u8, n = ports[0].take(batch)
        return [(images, u8)], n
    names = ", ".join(repr(port.name) for port in ports)
    if isinstance(batch, Mapping):
        if batch.keys() != {port.name for port in ports}:
            raise InputError(
                f"the batch is for inputs {list(batch)}, expected an array for each of {names}"
            )
        arrays = [batch[port.name] for port in ports]
    elif isinstance(batch, tuple | list) and len(batch) == len(ports):
        arrays = list(batch)
    else:
        raise InputError(
            f"the model has {len(ports)} inputs: expected a dict of arrays by name, or "
            f"a tuple of them in order, for {names}"
        )
    taken = []
    for port, array in zip(ports, arrays, strict=True):
        try:
            taken.append(port.take(array))
        except InputError as error:
            raise InputError(f"input {port.name!r}: {error}") from None
    counts = {n for _, _, n in taken}
    if len(counts) > 1:
        raise InputError(
            f"the inputs {names} have {', '.join(str(n) for _, _, n in taken)} images, "
            "expected as many of each"
        )
    return [(images, u8) for images, u8, _ in taken], counts.pop()


def described_outputs(meta: Mapping[str, Any]) -> dict[str | None, dict[str, Any]]:
    """What META says of outputs by name; under None, of the only one of a file without names."""
    alone = meta.get("output")
    shape = alone.get("shape") if isinstance(alone, dict) else None
    known = {key: meta.get(key) for key in ("classes", "ctc_blank", "log_softmax")}
    described: dict[str | None, dict[str, Any]] = {None: {"shape": shape, **known}}
    several = meta.get("outputs")
    for entry in several if isinstance(several, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            described[entry["name"]] = entry
    return described


def _batch_shapes(shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Shapes of one image of a batch: whole, without an axis of length 1 or with that at the other
    end, and flat."""
    if len(shape) == 1:
        return (shape,)
    height, width, channels = shape
    without = [shape[:axis] + shape[axis + 1 :] for axis in (2, 0, 1) if shape[axis] == 1]
    moved = []
    if shape.count(1) == 1 and 1 in (height, channels):  # one channel, first or last: the same
        moved = [(channels, height, width) if channels == 1 else (width, channels, height)]
    return (*dict.fromkeys((*without, shape, *moved)), (height * width * channels,))


def _source_shape(shape: tuple[int, ...], given: Any) -> tuple[int, ...]:
    """The shape that META gives the result, where it is one for as many elements."""
    if not isinstance(given, list) or len(given) > _MAX_AXES:
        return shape
    if any(type(size) is not int or not 1 <= size <= math.prod(shape) for size in given):
        return shape
    return tuple(given) if math.prod(given) == math.prod(shape) else shape


def _ctc_blank(shape: tuple[int, ...], given: Any) -> int | None:
    """The index of the blank that META gives, where it is one of the classes of a step."""
    fits = type(given) is int and len(shape) == 2 and 0 <= given < shape[-1]
    return given if fits else None


def checked_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    if not isinstance(out, np.ndarray):
        raise InputError(
            f"out is a {type(out).__name__}, expected a NumPy array of {dtype} and shape {shape}"
        )
    if out.shape != shape or out.dtype != dtype:
        raise InputError(
            f"out is {out.dtype} of shape {out.shape}, expected {dtype} of shape {shape}"
        )
    if not (out.flags.c_contiguous and out.flags.writeable and out.flags.aligned):
        raise InputError("out is not C-contiguous, aligned and writeable")
    return out


def checked_number(name: str, value: Any, low: float, high: float) -> float:
    # A bool is a number in Python, and a mistake here.
    number = not isinstance(value, bool | np.bool_) and isinstance(
        value, int | float | np.integer | np.floating
    )
    if not number or not low <= value <= high:
        bounds = f" from {low:g} to {high:g}" if math.isfinite(low) else ""
        raise InputError(f"{name} is {value!r}, expected a number{bounds}, or None")
    return float(value)
