"""Changes inputs so that they stay what they are, and get past the first check that meets them.

Each takes bytes and random numbers, and returns bytes: the same for the same numbers.
"""

from __future__ import annotations

import io
import json
import random
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

__all__ = [
    "Mutator",
    "cut",
    "mutate_bytes",
    "mutate_json",
    "mutate_onnx",
    "mutate_zip",
    "of_attribute",
]

Mutator = Callable[[bytes, random.Random], bytes]

WORDS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000)
NUMBERS = (0, -1, 1, 2, 3, 1 << 31, -(1 << 63), 1 << 64, 10**30, 0.5, -0.0, 1e-320, 1e308, 1e39)
TEXTS = ("", "a", "\0", "\ud800", "é" * 40, "../../x", "Lambda", "linear", "x" * 3000, "1", "nan")


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """A few bytes or words changed, copied, inserted or cut."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(7)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(out):
            out[at] = rng.randrange(256)
        elif kind in (2, 3) and len(out) >= 8:
            size = rng.choice((2, 4, 4, 8))
            at = rng.randrange((len(out) - size) // size + 1) * size
            old = int.from_bytes(out[at : at + size], "little")
            word = rng.choice((*WORDS, old + 1, old - 1, rng.getrandbits(8 * size)))
            out[at : at + size] = (word % (1 << 8 * size)).to_bytes(size, "little")
        elif kind == 4:
            begin = rng.randrange(len(out) + 1)
            piece = out[begin : begin + rng.choice((1, 2, 4, 16, 64))]
            out[at : at + len(piece) * rng.randrange(2)] = piece
        elif kind == 5:
            del out[at : at + rng.choice((1, 2, 4, 16, 256))]
        elif kind == 6 and rng.random() < 0.3:
            del out[at:]
    return bytes(out)


def mutate_json(data: bytes, rng: random.Random) -> bytes:
    """A value, a key or a part of what is written changed; sometimes the text itself."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return mutate_bytes(data, rng)
    if rng.random() < 0.1:
        return mutate_bytes(data, rng)
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = _changed(value, rng)
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    return text.encode(errors="surrogatepass")


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Each value within, as what holds it and where."""
    found, waiting = [], [value]
    while waiting and len(found) < 2000:
        holder = waiting.pop()
        inside = holder.items() if isinstance(holder, dict) else enumerate(holder)
        for key, child in inside:
            found.append((holder, key))
            if isinstance(child, dict | list):
                waiting.append(child)
    return found


def _changed(value: Any, rng: random.Random) -> Any:
    places = _places(value) if isinstance(value, dict | list) else []
    if not places:
        return _other(value, rng)
    holder, key = rng.choice(places)
    other, where = rng.choice(places)
    try:
        other = other[where]
        old = holder[key]
    except (KeyError, IndexError):
        return value
    kind = rng.randrange(6)
    if kind == 0:
        del holder[key]
    elif kind == 1:
        holder[key] = json.loads(json.dumps(other))
    elif kind == 2 and isinstance(holder, dict):
        holder[rng.choice((*TEXTS, str(key) + "s"))] = old
    elif kind == 2:
        holder.insert(key, json.loads(json.dumps(other)))
    elif kind == 3:
        depth = rng.choice((1, 2, 40))
        for _ in range(depth):
            old = [old] if rng.random() < 0.5 else {"a": old}
        holder[key] = old
    else:
        holder[key] = _other(old, rng)
    return value


def _other(value: Any, rng: random.Random) -> Any:
    kinds = (None, True, False, [], {}, rng.choice(NUMBERS), rng.choice(TEXTS))
    if isinstance(value, int) and rng.random() < 0.6:
        return rng.choice((value + 1, value - 1, -value, value * 2, rng.choice(NUMBERS)))
    if isinstance(value, list) and value and rng.random() < 0.6:
        return rng.choice((value * rng.choice((2, 3)), value[:-1], value[::-1], [value]))
    if isinstance(value, str) and rng.random() < 0.6:
        return rng.choice((value.upper(), value + "x", value[:-1], rng.choice(TEXTS)))
    return rng.choice(kinds)


def mutate_zip(data: bytes, rng: random.Random, inner: dict[str, Mutator]) -> bytes:
    """A member of an archive changed, left out or doubled; sometimes the archive itself."""
    if rng.random() < 0.1:
        return mutate_bytes(data, rng)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            sizes = [info.file_size for info in archive.infolist()]
            if sum(sizes) > 1 << 20:
                return mutate_bytes(data, rng)
            members = [(name, archive.read(name)) for name in names]
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, NotImplementedError, EOFError,
            struct.error, RuntimeError):  # fmt: skip
        return mutate_bytes(data, rng)
    if not members:
        return mutate_bytes(data, rng)
    at = rng.randrange(len(members))
    name, content = members[at]
    kind = rng.randrange(12)
    if kind == 0:
        del members[at]
    elif kind == 1:
        members.append(members[at])
    elif kind == 2:
        members[at] = (rng.choice((*names, "../" + name, name.upper())), content)
    else:
        members[at] = (name, inner.get(name, mutate_bytes)(content, rng))
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w") as archive:
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, content in members:
            method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return out.getvalue()


def cut(data: bytes, rng: random.Random) -> bytes:
    """The end is missing."""
    return data[: rng.randrange(len(data) + 1)]


def of_attribute(data: bytes, rng: random.Random, attribute: str) -> bytes:
    """JSON in an attribute of an HDF5 file changed, or the file cut. Other bytes stay: what damage
    within does to the HDF5 library, which can take for ever, is nothing that we could mend."""
    import h5py

    memory = io.BytesIO(data)
    try:
        with h5py.File(memory, "r+") as file:
            text = file.attrs[attribute]
            text = text if isinstance(text, bytes) else str(text).encode()
            file.attrs[attribute] = mutate_json(text, rng)
    except (OSError, KeyError, ValueError, RuntimeError, TypeError):
        return cut(data, rng)
    return cut(memory.getvalue(), rng) if rng.random() < 0.05 else memory.getvalue()


def mutate_onnx(data: bytes, rng: random.Random) -> bytes:
    """A field of the message changed, copied or cleared; sometimes the bytes."""
    import onnx
    from google.protobuf.message import DecodeError

    if rng.random() < 0.15:
        return mutate_bytes(data, rng)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        return mutate_bytes(data, rng)
    for _ in range(rng.choice((1, 1, 2, 4))):
        _change_message(model, rng)
    return bytes(model.SerializeToString())


def _messages(model: Any) -> list[Any]:
    found, waiting = [], [model]
    while waiting and len(found) < 2000:
        message = waiting.pop()
        found.append(message)
        for field, value in message.ListFields():
            if field.message_type is not None:
                waiting += [value] if hasattr(value, "ListFields") else list(value)
    return found


def _change_message(model: Any, rng: random.Random) -> None:
    message = rng.choice(_messages(model))
    fields = list(message.DESCRIPTOR.fields)
    present = [field for field, _ in message.ListFields()]
    field = rng.choice(present if present and rng.random() < 0.8 else fields)
    value = getattr(message, field.name)
    if field.message_type is not None:
        if hasattr(value, "ListFields"):  # one of them
            message.ClearField(field.name)
        elif len(value) and rng.random() < 0.4:
            del value[rng.randrange(len(value))]
        elif len(value):
            value.add().CopyFrom(rng.choice(value))
        else:
            value.add()
        return
    try:
        if hasattr(value, "append"):
            items = list(value)
            at = rng.randrange(len(items) + 1)
            items[at : at + rng.randrange(2)] = [_scalar(items[at - 1 : at], field, rng)]
            message.ClearField(field.name)
            getattr(message, field.name).extend(items)
        elif rng.random() < 0.2:
            message.ClearField(field.name)
        else:
            setattr(message, field.name, _scalar([value], field, rng))
    except (ValueError, TypeError):  # a number that the field cannot hold
        message.ClearField(field.name)


def _scalar(old: list[Any], field: Any, rng: random.Random) -> Any:
    if field.cpp_type == field.CPPTYPE_STRING:
        if isinstance(field.default_value, bytes) or (old and isinstance(old[0], bytes)):
            return mutate_bytes(old[0] if old else b"", rng)
        text = old[0] if old else "x"
        return rng.choice((text + "x", "Relu", "Reshape", "Conv", "Loop", "input", *TEXTS[:1]))
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return float(rng.choice((0.0, -1.0, 1e-45, 3e38, float("nan"), float("inf"), 0.5)))
    number = old[0] if old else 0
    return rng.choice(
        (number + 1, number - 1, -number, 0, 1, 2, 1 << 20, (1 << 31) - 1, -(1 << 63))
    )
