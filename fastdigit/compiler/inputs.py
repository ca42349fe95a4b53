"""What numbers a network takes: their range, what a byte stands for, what is done to them first.

Images are bytes, 0 to 255. Networks were trained on these, on a 255th of them, or on something else
that was computed from either, and the computation may be in the network or in the program around
it. What is in the network tells what the network takes (:func:`find_inputs`); what was in the
program is told by the user (:class:`Preprocessing`) and becomes a part of the network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastdigit.compiler.ir import LINEAR, Affine, Array, Graph, Layer, Node, Shape
from fastdigit.compiler.ops import (
    Binary,
    Conv2D,
    Crop,
    Dense,
    Eltwise,
    LayerNorm,
    Pad,
    Pool2D,
    Reshape,
    Resize,
    Transpose,
    with_nodes,
)
from fastdigit.compiler.passes.rewrite import readers_of, remove_dead
from fastdigit.errors import InputError, ModelFormatError

__all__ = ["InputRange", "Inputs", "Numbers", "Preprocessing", "find_inputs", "preprocess"]

#: As a user gives it: found in the network, any finite value, or (least, greatest).
InputRange: TypeAlias = tuple[float, float] | Literal["auto"] | None
Numbers: TypeAlias = float | Sequence[float] | NDArray[Any]
F64 = NDArray[np.float64]
Readers: TypeAlias = Mapping[str, Sequence[Node]]
#: Least and greatest value of an input, and why these.
Range: TypeAlias = tuple[float, float, str]

ANY: Final = (-math.inf, math.inf)
UNIT: Final = (0.0, 1.0)
BYTES: Final = (0.0, 255.0)

#: Width of the interval that a network makes of its inputs first: from x / 255 - 0.5, and narrower,
#: to a deviation of an eighth of what (x - mean) / std has on photographs.
WIDTHS: Final = (0.25, 32.0)
UNUSUAL: Final = ": what the network begins with makes nothing usual of 0 to 1, or of 0 to 255"
#: Length of a unit's weights in the first layer, root mean square, that is taken for one of bytes:
#: an input of 1 would change next to nothing. In 153 files that people have published they are 0.15
#: to 8, trained on 0 to 1 or on bytes; where a converter has divided them, a 255th.
SMALL: Final = (2e-4, 0.04)
#: What (x - mean) makes of bytes, if nothing is divided.
PLAIN: Final = 4.0 * 255


@dataclass(frozen=True)
class Inputs:
    """What a model takes.

    Parameters
    ----------
    low, high
        Least and greatest value, perhaps infinite.
    u8_divisor
        A byte b stands for b / ``u8_divisor``; 0: bytes are not accepted.
    reason
        Why, for people.
    assumed
        Whether neither the user nor the network said so.
    """

    low: float
    high: float
    u8_divisor: int
    reason: str
    assumed: bool = False

    @property
    def usual(self) -> tuple[float, float]:
        """The range, finite, that images come from, to verify the model with."""
        if math.isfinite(self.low) and math.isfinite(self.high):
            return self.range
        return {0: (-3.0, 3.0), 1: BYTES}.get(self.u8_divisor, UNIT)

    @property
    def range(self) -> tuple[float, float]:
        return self.low, self.high

    @property
    def doubtful(self) -> bool:
        """Whether it was assumed although something in the network is unusual."""
        return self.assumed and self.reason != "assumed"

    def __str__(self) -> str:
        values = "any finite values" if self.range == ANY else f"{self.low:g} to {self.high:g}"
        bytes_ = {0: "no bytes", 1: "bytes as they are"}.get(
            self.u8_divisor, f"bytes / {self.u8_divisor}"
        )
        hint = (
            "; if it was trained on others, give input_range=, --input-range"
            if self.assumed
            else ""
        )
        return f"{values}, {bytes_} ({self.reason}{hint})"


@dataclass(frozen=True)
class Preprocessing:
    """``(x * scale - mean) / std``, which a network's inputs went through when it was trained.

    Each is one number, or one for each channel (for each feature of a vector).
    """

    scale: tuple[float, ...] = (1.0,)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @classmethod
    def of(cls, shape: Shape, **given: Numbers | None) -> Preprocessing | None:
        """Return what a user gave of ``scale``, ``mean`` and ``std``; None if it was nothing.

        Raises
        ------
        InputError
            If it does not fit images of ``shape``, or is not finite, or divides by zero.
        """
        found = {}
        for name, numbers in given.items():
            if numbers is None:
                continue
            try:
                values = tuple(np.atleast_1d(np.asarray(numbers, np.float64)).tolist())
            except (TypeError, ValueError):
                raise InputError(f"{name} is {numbers!r}, expected numbers") from None
            if len(values) not in (1, shape[-1]) or any(isinstance(v, list) for v in values):
                raise InputError(
                    f"{name} has {len(values)} numbers, expected one, or one for each of the "
                    f"input's {shape[-1]} {'channels' if len(shape) > 1 else 'features'}"
                )
            if not all(map(math.isfinite, values)) or (name != "mean" and 0 in values):
                raise InputError(f"{name} is {numbers}, expected finite numbers that are not 0")
            found[name] = values
        return cls(**found) if found else None

    @classmethod
    def from_meta(cls, entry: Any) -> Preprocessing | None:
        """Return that of an input, of which META has ``entry``; None if there is none.

        Raises
        ------
        ModelFormatError
            If it is not what :meth:`to_meta` writes.
        """
        meta = entry.get("preprocessing") if isinstance(entry, Mapping) else None
        if meta is None:
            return None
        try:
            parts = (tuple(map(float, meta[name])) for name in ("scale", "mean", "std"))
            return cls(*parts)
        except (KeyError, OverflowError, TypeError, ValueError):
            raise ModelFormatError(f"META has {meta!r} as preprocessing") from None

    def require_fit(self, shape: Shape) -> None:
        """Refuse one that is for other images than of ``shape``.

        Raises
        ------
        ModelFormatError
            If it has numbers for other channels, or divides by zero.
        """
        numbers = (self.scale, self.mean, self.std)
        if any(len(n) not in (1, shape[-1]) for n in numbers) or 0 in self.std:
            raise ModelFormatError(f"META has a preprocessing that is not for shape {shape}")

    def to_meta(self) -> dict[str, list[float]]:
        return {"scale": list(self.scale), "mean": list(self.mean), "std": list(self.std)}

    def apply(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Compute it, in float64, and round once."""
        scale, mean, std = (np.asarray(n, np.float64) for n in (self.scale, self.mean, self.std))
        return ((images.astype(np.float64) * scale - mean) / std).astype(np.float32)

    def affine(self, shape: Shape) -> Affine:
        """The same as a scale and shift along the last axis."""
        size = shape[-1:]
        scale, mean, std = (
            np.broadcast_to(np.asarray(n, np.float64), size)
            for n in (self.scale, self.mean, self.std)
        )
        return Affine(len(shape) - 1, scale / std, -mean / std)


def preprocess(graph: Graph, preprocessing: Preprocessing, value: str | None = None) -> Graph:
    """Return the network that does ``preprocessing`` first, to its input ``value``, by default the
    first."""
    value = graph.input if value is None else value
    shape, raw = graph.shapes[value], f"{value}:raw"
    first = Node("preprocessing", Eltwise(affine=preprocessing.affine(shape)), (raw,), value)
    names = {raw if name == value else name: graph.shapes[name] for name in graph.inputs}
    return with_nodes(graph, (first, *graph.nodes), inputs=names)


def find_inputs(
    graph: Graph, given: InputRange = "auto", dtype: str = "float32", value: str | None = None
) -> Inputs:
    """Say what a network takes.

    Parameters
    ----------
    graph
        As a front end built it.
    given
        The range that the user gave.
    dtype
        Of the source's input.
    value
        Name of the input; by default the first.

    Notes
    -----
    With "auto", the range is that of bytes if the source's input is declared as such, or if the
    arithmetic that the network begins with makes a usual interval of 0 to 255 and not of 0 to 1:
    ``x / 255``, ``x / 127.5 - 1``, ``(x - mean) / std`` with a mean of some 120. Otherwise it is 0
    to 1, and the reason says whether the network agrees.

    All that is found is evidence of what the network computes, but for one guess: the weights of
    the first layer may be far too small for inputs up to 1, as those are that a converter has
    divided by 255. It is ``assumed`` then, and says nothing of bytes where a range is given.

    Of a batch normalization only the mean counts: what it saw in training, on average. Its scale
    and shift are learned together with the layers behind it, and the scale may become small for
    other reasons than the size of the inputs.
    """
    value = graph.input if value is None else value
    begins = _beginnings(remove_dead(graph), value)
    found, guess = _found(graph, value, dtype, begins)
    low, high, why = found or guess or (*UNIT, "")
    if given is None:  # and no guess says what bytes mean
        return Inputs(*ANY, 0 if found is None else _divisor(low, high), "as given")
    if given != "auto":
        given = _checked(given)
        note = "as given"
        if why and given != (low, high):
            note += f"; {low:g} to {high:g} was expected: {why}"
        return Inputs(*given, _divisor(*given), note)
    if found is not None:
        return Inputs(low, high, _divisor(low, high), why)
    if guess is not None:
        return Inputs(low, high, _divisor(low, high), f"assumed: {why}", assumed=True)
    unusual = UNUSUAL if any(one.affine is not None for one in begins) else ""
    return Inputs(*UNIT, 255, f"assumed{unusual}", assumed=True)


def _found(
    graph: Graph, value: str, dtype: str, begins: Sequence[_Beginning]
) -> tuple[Range | None, Range | None]:
    """Return the range that the source takes, and why, if it says so; and one that is a guess."""
    if dtype == "uint8":
        return (*BYTES, "the source takes bytes"), None
    ranges = [_usual_range(graph, value, one) for one in begins]
    said = {one[:2]: one for one in ranges if one is not None}
    if not said:
        guesses = [_weighed(graph, value, one) for one in begins]
        return None, None if None in guesses else guesses[0]
    if len(said) > 1:  # branches that contradict each other
        return None, None
    (found,) = said.values()
    if None not in ranges:
        return found, None
    low, high, why = found
    return None, (low, high, f"{why}, in one of the branches that read this input")


def _checked(given: tuple[float, float]) -> tuple[float, float]:
    try:
        low, high = (float(bound) for bound in given)
    except (TypeError, ValueError):
        raise InputError(
            f"input_range is {given!r}, expected (low, high), None for all finite values, or 'auto'"
        ) from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(
            f"input_range is {given}, expected two finite numbers, low < high, or None for all "
            "finite values"
        )
    if any(float(np.float32(bound)) != bound for bound in (low, high)):
        raise InputError(f"input_range is {given}, expected numbers that float32 has")
    return low, high


def _divisor(low: float, high: float) -> int:
    """What bytes are divided by: they are images' in 0 to 1, and themselves where they fit."""
    if (low, high) == UNIT:
        return 255
    return 1 if low <= 0 and high >= 255 else 0


def _usual_range(graph: Graph, value: str, begins: _Beginning) -> Range | None:
    """Return the range that a beginning is for, and why; None if it does not say."""
    if begins.affine is None:
        return _averaged(graph, value, begins) or _summed(graph, value, begins)
    scale, shift = begins.affine
    if not (scale.all() and np.isfinite(scale).all() and np.isfinite(shift).all()):
        return None
    centre = -shift / scale  # what becomes 0
    if len(graph.shapes[value]) == 1 and len(np.unique(scale)) > 1:
        return None  # measurements of several kinds, and no image
    least, greatest = float(np.abs(scale).min()), float(np.abs(scale).max())
    first, last = float(centre.min()), float(centre.max())
    narrow, wide = WIDTHS
    words = _words(scale, shift)
    if first >= -0.05 and last <= 1.05 and least >= narrow:
        return *UNIT, f"the network begins with {words}"
    if first >= -1 and last <= 256 and least * 255 >= narrow:
        plain = first >= 2 and greatest * 255 <= PLAIN
        if greatest * 255 <= wide or plain:
            return *BYTES, f"the network begins with {words}"
    return None


def _averaged(graph: Graph, value: str, begins: _Beginning) -> Range | None:
    """Return the range that inputs had if a batch normalization has seen them, and why."""
    if begins.average is None or len(graph.shapes[value]) == 1:
        return None
    least, greatest = float(begins.average.min()), float(begins.average.max())
    if greatest < 2 or least < -1 or greatest > 256:
        return None
    return *BYTES, f"inputs were {greatest:.4g} on average in training, says batch normalization"


def _first_layer(
    graph: Graph, begins: _Beginning
) -> tuple[Conv2D | Dense, Node | None, bool] | None:
    """Return the layer that reads what a network begins with, the first normalization behind it if
    one comes before the next layer, and whether that one sees the sums of the layer as they are;
    None if no such layer is the only reader, or a normalization came before it."""
    known = begins.known
    readers = known[begins.value] if begins.reader is None else [begins.reader]
    if len(readers) != 1 or begins.average is not None:
        return None
    layer = readers[0].op
    if not isinstance(layer, Conv2D | Dense):
        return None
    behind, direct = readers[0].output, True
    while behind not in graph.outputs:
        readers = known[behind]
        for node in readers:
            affine = getattr(node.op, "affine", None)
            if affine is not None and affine.mean is not None:
                linear = getattr(node.op, "activation", LINEAR) == LINEAR
                return layer, node, direct and linear and len(readers) == 1
            if isinstance(node.op, LayerNorm):
                return layer, node, False
        if len(readers) != 1 or isinstance(readers[0].op, Layer):
            break
        direct = direct and isinstance(readers[0].op, Transpose)
        behind = readers[0].output
    return layer, None, False


def _summed(graph: Graph, value: str, begins: _Beginning) -> Range | None:
    """Return the range of bytes if a batch normalization has seen what only such inputs make."""
    first = _first_layer(graph, begins)
    if first is None or len(graph.shapes[value]) != 3:
        return None
    layer, normalization, direct = first
    affine = getattr(normalization.op, "affine", None) if normalization is not None else None
    return _bounded(layer, affine.mean) if direct and affine is not None else None


def _weighed(graph: Graph, value: str, begins: _Beginning) -> Range | None:
    """Return the range of bytes if the weights of the first layer are as small as if made for them:
    a guess.

    Converters multiply what a network begins with into the weights behind it. No normalization may
    come before the next layer: with one, the size of weights means nothing.
    """
    first = _first_layer(graph, begins)
    if first is None or begins.affine is not None or len(graph.shapes[value]) != 3:
        return None
    layer, normalization, _ = first
    if normalization is not None:
        return None
    squares = layer.weights.astype(np.float64) ** 2
    columns = squares.reshape(-1, squares.shape[-1]).sum(axis=0)
    size = math.sqrt(columns[columns > 0].mean()) if columns.any() else 0.0
    small, large = SMALL
    if not small < size < large:
        return None
    return *BYTES, "the weights of the first layer are as small as such inputs make them"


def _bounded(layer: Conv2D | Dense, mean: Array) -> Range | None:
    """Return the range of bytes if a batch normalization behind the first layer has seen sums that
    inputs up to 1 cannot make: none is greater than the sum of its weights."""
    weights = np.abs(layer.weights.astype(np.float64))
    most = weights.reshape(-1, weights.shape[-1]).sum(axis=0)
    if mean.shape != most.shape or not mean.any():  # another axis; or it has seen nothing
        return None
    sums = np.abs(mean - (0 if layer.bias is None else layer.bias))
    if (sums > 2 * most).mean() < 0.25 or (sums > 255 * most).any():
        return None
    return *BYTES, "batch normalization has seen sums that inputs up to 1 cannot make"


def _words(scale: F64, shift: F64) -> str:
    """``x * scale + shift``, as people write it."""

    def shown(values: F64, form: str = "{:.4g}") -> str:
        several = np.unique(values.round(6))
        if len(several) == 1:
            return form.format(several[0])
        return f"({form.format(several[0])} to {form.format(several[-1])})"

    text = "x"
    if (np.abs(scale) < 1).all() and len(np.unique(scale)) == 1 and (scale > 0).all():
        text += f" / {float((1 / scale).flat[0]):.6g}"
    elif (scale != 1).any():
        text += f" * {shown(scale)}"
    if (shift < 0).all():
        text += f" - {shown(-shift)}"
    elif shift.any():
        text += f" + {shown(shift)}"
    return text


@dataclass(frozen=True)
class _Beginning:
    """What a network does to an input first.

    Parameters
    ----------
    affine
        A scale and shift, with axes of the value that they make, or of length 1; None if there is
        neither.
    average
        What the input was in training, if a batch normalization follows.
    value
        What they make.
    reader
        That of ``value`` which is meant, if several branches begin with it.
    known
        The readers of each value.
    """

    affine: tuple[F64, F64] | None
    average: F64 | None
    value: str
    reader: Node | None
    known: Readers


def _beginnings(graph: Graph, value: str) -> list[_Beginning]:
    """What a network does to an input first: in each branch, if several read it as it is."""
    known = readers_of(graph)
    found: list[_Beginning] = []
    todo: list[tuple[str, Node | None]] = [(value, None)]
    while todo:
        value, reader = todo.pop()
        begins = _beginning(graph, known, value, reader)
        behind = known[begins.value]
        goes_on = begins.affine is None and begins.average is None
        if begins.reader is not None or not goes_on or len(behind) < 2:
            found.append(begins)
            continue
        todo += [
            (node.output, None) if _passes(node) else (begins.value, node)
            for node in reversed(behind)
        ]
    return found


def _passes(node: Node) -> bool:
    """Whether it gives values of an input, or those between, as they are."""
    return len(node.inputs) == 1 and isinstance(
        node.op, Reshape | Transpose | Resize | Pool2D | Pad | Crop
    )


def _beginning(graph: Graph, known: Readers, value: str, reader: Node | None) -> _Beginning:
    """Follow an input through arithmetic with constants, and through what moves pixels, or gives
    values between those of some, before it or between its parts; into that reader, where several
    read the same."""
    scale, shift = (np.full((1,) * len(graph.shapes[value]), number) for number in (1.0, 0.0))
    parts, average = 0, None
    while value not in graph.outputs:
        readers = known[value] if reader is None else [reader]
        if len(readers) != 1 or len(readers[0].inputs) != 1:
            break
        node = readers[0]
        before, after = graph.shapes[value], graph.shapes[node.output]
        match node.op:
            case Eltwise(activation, affine) if activation == LINEAR:
                if affine is not None:
                    along = [1] * len(after)
                    along[affine.axis] = -1
                    if affine.mean is not None:
                        average = affine.mean.reshape(along).astype(np.float64)
                        average = (average - shift) / scale if scale.all() else None
                        break
                    factor, term = affine.scale.reshape(along), affine.shift.reshape(along)
                    scale, shift, parts = scale * factor, shift * factor + term, parts + 1
            case Binary(kind, constant, activation, None) if (
                constant is not None and activation == LINEAR
            ):
                number = constant.astype(np.float64)
                number = number.reshape((1,) * (len(after) - number.ndim) + number.shape)
                match kind:
                    case "add":
                        shift = shift + number
                    case "sub":
                        shift = shift - number
                    case "mul":
                        scale, shift = scale * number, shift * number
                    case "div" if number.all():
                        scale, shift = scale / number, shift / number
                    case _:
                        break
                parts += 1
            case Reshape():
                scale, shift = (_reshaped(part, before, after) for part in (scale, shift))
            case Transpose(perm):
                scale, shift = (part.transpose(perm) for part in (scale, shift))
            case Resize() | Pool2D() | Pad() | Crop():
                if any(part.size != part.shape[-1] for part in (scale, shift)) or (
                    before[-1] != after[-1]
                ):
                    break
            case _:
                break
        value, reader = node.output, None
    # What does nothing says nothing, unless its parts cancel.
    if parts < 2 and (scale == 1).all() and not shift.any():
        return _Beginning(None, average, value, reader, known)
    scale, shift = np.broadcast_arrays(scale, shift)
    return _Beginning((scale, shift), average, value, reader, known)


def _reshaped(part: F64, before: Shape, after: Shape) -> F64:
    if part.size == 1:
        return part.reshape((1,) * len(after))
    return np.broadcast_to(part, before).reshape(after)
