"""The Open Inference Protocol, version 2, as bytes: requests in, responses out.

Sources: "Open Inference Protocol", https://github.com/kserve/open-inference-protocol, and the
"Binary Tensor Data Extension" of Triton Inference Server, whose clients send it by default.
Nothing here knows of HTTP servers or of the engine.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np

from fastdigit.serve.errors import RequestError, TooLarge

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "VERSION",
    "Answer",
    "Head",
    "Inference",
    "Signature",
    "decompressed",
    "encode",
    "json_bytes",
    "numbers",
    "parse",
]

VERSION: Final = "1"
"""The only version of each model."""

# Numbers that are written as JSON at once.
PART: Final = 4096

PLATFORM: Final = "fastdigit"
INPUT: Final = "input"
LABEL: Final = "label"

#: Datatypes of the protocol that an input may have; floats other than FP32 are converted.
DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "FP32": np.dtype("<f4"),
    "UINT8": np.dtype("u1"),
    "FP64": np.dtype("<f8"),
    "FP16": np.dtype("<f2"),
}


@dataclass(frozen=True)
class Head:
    """One of several outputs: its name, and its shape for one image."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives.

    Attributes
    ----------
    name
        The name it is served as.
    shape
        Of one image.
    outputs
        How many values an image gives.
    values
        What they are: "probabilities" or "logits".
    accepts_bytes
        Whether the input may be UINT8 in 0..255.
    range
        Least and greatest number of an input that is not.
    labels
        Whether the network has labels.
    heads
        Of a model of several outputs, each of them; those before are of the first. The values of an
        image are then those of all heads, one after the other.
    """

    name: str
    shape: tuple[int, ...]
    outputs: int
    values: str
    accepts_bytes: bool
    range: tuple[float, float]
    labels: bool
    heads: tuple[Head, ...] = ()

    @property
    def values_of_image(self) -> int:
        """How many values an image gives, in all outputs."""
        return sum(head.size for head in self.heads) if self.heads else self.outputs

    @property
    def output_names(self) -> tuple[str, ...]:
        if self.heads:
            return tuple(head.name for head in self.heads)
        return (self.values, LABEL) if self.labels else (self.values,)

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether it is that of images behind one another, also flat or without a channel axis."""
        one = shape[1:]
        return len(shape) > 1 and (
            one == self.shape
            or one == (math.prod(self.shape),)
            or (len(self.shape) == 3 and self.shape[2] == 1 and one == self.shape[:2])
        )

    def metadata(self) -> dict[str, Any]:
        label = {"name": LABEL, "datatype": "INT64", "shape": [-1]}
        if self.heads:
            outputs = [
                {"name": head.name, "datatype": "FP32", "shape": [-1, *head.shape]}
                for head in self.heads
            ]
        else:
            outputs = [
                {"name": self.values, "datatype": "FP32", "shape": [-1, self.outputs]},
                *([label] if self.labels else []),
            ]
        return {
            "name": self.name,
            "versions": [VERSION],
            "platform": PLATFORM,
            "inputs": [{"name": INPUT, "datatype": "FP32", "shape": [-1, *self.shape]}],
            "outputs": outputs,
        }


@dataclass(frozen=True)
class Inference:
    """A request, checked but for the values of the images."""

    id: str | None
    images: NDArray[Any]
    #: Outputs that are wanted, in order, and whether in binary.
    outputs: tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class Answer:
    """Part of the body of a response; `header_length` is that of the JSON if tensors follow it."""

    body: bytes
    header_length: int | None


def _refuse(message: str) -> NoReturn:
    raise RequestError(400, message)


def parse(body: bytes, header_length: str | None, signature: Signature) -> Inference:
    """Read a request.

    Parameters
    ----------
    body
        JSON, followed by the tensors that are sent in binary.
    header_length
        The header ``Inference-Header-Content-Length``: bytes of the JSON; None: all of them.
    signature
        What the model takes and gives.

    Raises
    ------
    RequestError
        400: the request is wrong; the message says in what.
    """
    size = json_bytes(body, header_length)
    request = _json(body[:size] if size < len(body) else body)
    if not isinstance(request, dict):
        _refuse(f"the request is a JSON {_kind(request)}, expected an object with 'inputs'")
    identifier = request.get("id")
    if identifier is not None and not isinstance(identifier, str):
        _refuse(f"id is a JSON {_kind(identifier)}, expected a string")
    parameters = _parameters(request, "the request")
    outputs = _outputs(request.get("outputs"), parameters, signature)
    images = _images(request.get("inputs"), memoryview(body)[size:], signature)
    return Inference(identifier, images, outputs)


def json_bytes(body: bytes, header_length: str | None) -> int:
    """Return how many bytes of a request are JSON; arguments and errors as for :func:`parse`."""
    if header_length is None:
        return len(body)
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 20):
        _refuse(f"Inference-Header-Content-Length is {header_length[:40]!r}, expected a number")
    size = int(header_length)
    if size > len(body):
        _refuse(f"Inference-Header-Content-Length is {size}, but the body has {len(body)} bytes")
    return size


def _json(data: bytes) -> Any:
    def constant(name: str) -> NoReturn:
        _refuse(f"the request has the number {name}, which JSON does not know")

    try:
        return json.loads(data, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        _refuse(f"the request is not JSON: {str(error)[:200]}")


def _kind(value: Any) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def _parameters(holder: dict[str, Any], what: str) -> dict[str, Any]:
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        _refuse(f"parameters of {what} are a JSON {_kind(parameters)}, expected an object")
    for name in ("shared_memory_region", "classification"):
        if name in parameters:
            _refuse(f"{what} has the parameter {name}, an extension that is not supported")
    return parameters


def _flag(parameters: dict[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        _refuse(f"parameter {name} is a JSON {_kind(value)}, expected true or false")
    return value


def _outputs(
    wanted: Any, parameters: dict[str, Any], signature: Signature
) -> tuple[tuple[str, bool], ...]:
    binary = _flag(parameters, "binary_data_output", False)
    if wanted is None or wanted == []:
        return tuple((name, binary) for name in signature.output_names)
    if not isinstance(wanted, list):
        _refuse(f"outputs are a JSON {_kind(wanted)}, expected an array")
    found: dict[str, bool] = {}
    for output in wanted:
        name = output.get("name") if isinstance(output, dict) else None
        if not isinstance(name, str) or name not in signature.output_names or name in found:
            _refuse(
                f"outputs are to be named once each, out of {', '.join(signature.output_names)}"
            )
        found[name] = _flag(_parameters(output, f"output {name}"), "binary_data", binary)
    return tuple(found.items())


def _images(inputs: Any, binary: memoryview, signature: Signature) -> NDArray[Any]:
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        _refuse(f"inputs are to be an array of one object, the tensor {INPUT!r}")
    tensor = inputs[0]
    if tensor.get("name") != INPUT:
        _refuse(f"the input is named {str(tensor.get('name'))[:40]!r}, expected {INPUT!r}")
    datatype = tensor.get("datatype")
    dtype = DTYPES.get(datatype) if isinstance(datatype, str) else None
    if dtype is None or (dtype.kind == "u" and not signature.accepts_bytes):
        taken = "FP32, FP64, FP16" + (" or UINT8" if signature.accepts_bytes else "")
        _refuse(f"the input has datatype {str(datatype)[:40]}, expected {taken}")
    shape = _shape(tensor.get("shape"), signature)
    parameters = _parameters(tensor, f"input {INPUT}")
    if "binary_data_size" in parameters:
        if "data" in tensor:
            _refuse("the input has both 'data' and 'binary_data_size'")
        return _from_bytes(parameters["binary_data_size"], binary, dtype, shape)
    if len(binary):
        _refuse(f"{len(binary)} bytes follow the JSON, but no input has 'binary_data_size'")
    return _from_json(tensor.get("data"), dtype, shape)


def _shape(shape: Any, signature: Signature) -> tuple[int, ...]:
    if (
        not isinstance(shape, list)
        or len(shape) > 8
        or not all(type(n) is int and 0 <= n < 2**31 for n in shape)
        or not signature.accepts(tuple(shape))
    ):
        _refuse(
            f"the input has shape {str(shape)[:80]}, expected [N, "
            f"{', '.join(map(str, signature.shape))}]"
        )
    return tuple(shape)


def _from_bytes(
    size: Any, binary: memoryview, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> NDArray[Any]:
    expected = math.prod(shape) * dtype.itemsize
    if type(size) is not int or size != expected:
        _refuse(
            f"binary_data_size is {str(size)[:40]}, but shape and datatype make {expected} bytes"
        )
    if len(binary) != size:
        _refuse(f"binary_data_size is {size}, but {len(binary)} bytes follow the JSON")
    return _converted(np.frombuffer(binary, dtype).reshape(shape))


def _from_json(data: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    if not isinstance(data, list):
        _refuse("the input has neither 'data', an array, nor 'binary_data_size'")
    flat = _flat(data, shape)
    # Before NumPy sees them: for each value it would make room for the longest string.
    if not {int, float}.issuperset(map(type, flat)):
        _refuse("'data' holds something that is no number")
    if dtype.kind == "u":
        try:
            return np.frombuffer(bytes(flat), np.uint8).reshape(shape)
        except (TypeError, ValueError):
            _refuse("'data' of datatype UINT8 holds something that is no integer in 0..255")
    try:
        return _converted(np.array(flat, np.float64).reshape(shape))
    except OverflowError:
        _refuse("'data' holds a number that is out of range")


def _flat(data: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """The values of an array of this shape, or of one that is flat already, unchecked."""
    if len(data) == math.prod(shape) and not (data and type(data[0]) is list):
        return data
    parts: list[Any] = [data]
    for size in shape:
        for part in parts:
            if type(part) is not list or len(part) != size:
                _refuse(
                    f"'data' is no array of shape {list(shape)}, nor one of its "
                    f"{math.prod(shape)} numbers"
                )
        parts = list(chain.from_iterable(parts))
    return parts


def _converted(values: NDArray[Any]) -> NDArray[Any]:
    """Bytes, or float32."""
    if values.dtype.kind == "u" and values.dtype.itemsize == 1:
        return values
    with np.errstate(over="ignore"):  # what becomes infinite is refused as out of range
        return values.astype(np.float32, copy=False)


def encode(
    request: Inference,
    signature: Signature,
    values: NDArray[np.float32],
    labels_of: Callable[[NDArray[np.float32]], NDArray[np.int64]],
) -> Iterator[Answer]:
    """Write the response: the values of each image, the label that these give, or both.

    Yields
    ------
    Answer
        A part of it, made in a few milliseconds at most; all bodies together are the body, and the
        last part knows the length of the header.
    """
    outputs: list[tuple[dict[str, Any], NDArray[Any] | None]] = []
    tensors: list[bytes] = []
    for name, binary in request.outputs:
        array: NDArray[Any]
        if signature.heads:
            array, datatype = _head(values, signature.heads, name), "FP32"
        elif name == LABEL:
            array, datatype = labels_of(values), "INT64"
        else:
            array, datatype = values, "FP32"
        output: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(array.shape)}
        if binary:
            stored = "<i8" if datatype == "INT64" else "<f4"
            tensors.append(array.astype(stored, copy=False).tobytes())
            output["parameters"] = {"binary_data_size": len(tensors[-1])}
        outputs.append((output, None if binary else array.ravel()))
    response: dict[str, Any] = {"model_name": signature.name, "model_version": VERSION}
    if request.id is not None:
        response["id"] = request.id
    length = 0
    text = _written(response)[:-1] + ',"outputs":['
    for index, (output, data) in enumerate(outputs):
        text += ("," if index else "") + _written(output)
        if data is not None:
            text = text[:-1] + ',"data":['
            for start in range(0, len(data), PART):
                text += ("," if start else "") + _written(numbers(data[start : start + PART]))[1:-1]
                yield Answer(text.encode(), None)
                length += len(text)
                text = ""
            text += "]}"
    text += "]}"
    length += len(text)
    yield Answer(b"".join([text.encode(), *tensors]), length if tensors else None)


def _head(values: NDArray[np.float32], heads: Sequence[Head], name: str) -> NDArray[np.float32]:
    """Return one of several outputs of what the model gave for all of them."""
    start = 0
    for head in heads:
        if head.name == name:
            return values[:, start : start + head.size].reshape(-1, *head.shape)
        start += head.size
    raise KeyError(name)


def _written(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def numbers(array: NDArray[Any]) -> list[Any]:
    """Return its elements for JSON, which has no infinity and no NaN: null."""
    values: list[Any] = array.ravel().tolist()
    finite = np.isfinite(array).ravel()
    if finite.all():
        return values
    return [value if known else None for value, known in zip(values, finite, strict=True)]


def decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo ``Content-Encoding``, as far as the result has at most `limit` bytes.

    Raises
    ------
    TooLarge
        413: it has more.
    RequestError
        415: another encoding than gzip or deflate; 400: damaged.
    """
    if encoding not in ("gzip", "deflate"):
        raise RequestError(415, f"Content-Encoding {encoding[:40]!r}, expected gzip or deflate")
    inflater = zlib.decompressobj(zlib.MAX_WBITS | (16 if encoding == "gzip" else 0))
    try:
        data = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        _refuse(f"the body is not {encoding}: {error}")
    if len(data) > limit:
        raise TooLarge(413, f"the body has more than {limit} bytes when decompressed")
    if not inflater.eof or inflater.unused_data:
        _refuse(f"the body is not {encoding}: it ends too early or too late")
    return data
