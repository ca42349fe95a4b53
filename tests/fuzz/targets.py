"""What reads bytes from anywhere in Python: each must end, soon and in bounded memory, in a result
or in an error of fastdigit's own. Whatever else comes out is a finding.

A target is a row of :data:`TARGETS`. The model file's own, in C, is ``model.c``.
"""

from __future__ import annotations

import functools
import io
import json
import random
import tempfile
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastdigit.errors import FastDigitError, InputError
from tests.fuzz import mutators
from tests.fuzz.mutators import Mutator

__all__ = ["TARGETS", "Target"]


@dataclass(frozen=True)
class Target:
    """A row of :data:`TARGETS`.

    Parameters
    ----------
    run
        Reads the bytes; returns, or raises an error of fastdigit's own.
    seeds
        Inputs to start from, beside those in the corpus.
    mutate
        Changes one into another.
    """

    run: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    mutate: Mutator

    def try_one(self, data: bytes) -> bool:
        """Whether it was taken; raises whatever may not come out."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.run(data)
        except FastDigitError as error:
            if not str(error).strip():
                raise AssertionError(f"{type(error).__name__} without a message") from error
            return False
        return True


# ---- Model files, as the Python package reads them ----


def _read_model(data: bytes) -> None:
    import fastdigit
    from fastdigit.compiler import listing, unpack

    limits = fastdigit.Limits(operations=1 << 20, plan_bytes=1 << 24, context_bytes=1 << 22)
    model = fastdigit.Model(data, limits=limits)
    json.dumps(model.info(), default=str)
    model.plan()
    repr(model)
    listing(unpack(data))


def _model_seeds() -> list[bytes]:
    from fastdigit.compiler.backends.fdm.pack import pack
    from tests.support.networks import chain, dense, packed

    graph = chain((4,), [dense(np.random.default_rng(0), 4, 3)])
    meta = {"name": "x", "classes": ["a", "b", "c"], "input": {"range": [0, 1]}, "ctc_blank": 0}
    plain = pack(graph, meta, input_range=(0.0, 1.0), u8_divisor=255)
    return [packed(graph), plain]


def _mutate_meta(data: bytes, rng: random.Random) -> bytes:
    """META changed in its place, or any bytes; the checksum is right again."""
    import struct

    from fastdigit._core import xxhash64

    out = bytearray(data)
    if len(data) >= 128 and rng.random() < 0.7:
        at, size = struct.unpack_from("<QQ", data, 64 + 8)
        if at + size <= len(data) and size < 1 << 16:
            meta = mutators.mutate_json(bytes(data[at : at + size]), rng)
            room = -size % 64 + size
            if len(meta) <= room:
                struct.pack_into("<Q", out, 64 + 16, len(meta))
                out[at : at + room] = meta.ljust(room, b"\0")
    else:
        out = bytearray(mutators.mutate_bytes(data, rng))
    if len(out) >= 64 and rng.random() < 0.95:
        struct.pack_into("<QQ", out, 16, len(out), xxhash64(bytes(out[64:])))
    return bytes(out)


# ---- Files to compile ----


def _compile(data: bytes, suffix: str) -> None:
    """All that is ours of compiling: what the source's own runtime makes of it is not."""
    from fastdigit.compiler.backends.fdm.pack import pack
    from fastdigit.compiler.frontends import import_model, open_source
    from fastdigit.compiler.passes import optimize

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{suffix}"
        path.write_bytes(data)
        imported = import_model(open_source(path, None))
        graph = optimize(imported.graph, lambda step, now: None)
        names = ([p.name for p in imported.inputs], [p.name for p in imported.outputs])
        several = len(names[0]) + len(names[1]) > 2
        pack(
            graph,
            {"name": "x"},
            input_range=[(0.0, 1.0)] * len(names[0]),
            u8_divisor=[255] * len(names[0]),
            names=names if several else None,
        )


def _onnx_seeds() -> list[bytes]:
    from tests.support.compiler_cases import OnnxNet

    first = OnnxNet((None, 2, 6, 6))
    first.conv(2, 4, (3, 3), pads=[1, 1, 1, 1])
    first.batchnorm(4)
    first.add("Relu")
    first.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    first.add("Flatten")
    first.gemm(36, 3)
    first.add("Softmax")
    second = OnnxNet((None, 6))
    second.gemm(6, 4)
    second.add("Sigmoid")
    return [bytes(net.model().SerializeToString()) for net in (first, second)]


def _keras_seeds(suffix: str) -> list[bytes]:
    from tests.support.keras_cases import keras3, list_config

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{suffix}"
        (keras3 if suffix == ".keras" else list_config)(path)
        return [path.read_bytes()]


def _mutate_keras(data: bytes, rng: random.Random) -> bytes:
    inner = {
        "config.json": mutators.mutate_json,
        "metadata.json": mutators.mutate_json,
        "model.weights.h5": mutators.cut,  # see of_attribute
    }
    return mutators.mutate_zip(data, rng, inner)


def _tflite_seeds() -> list[bytes]:
    from tests.support.tflite_files import TFLiteNet

    net = TFLiteNet(1, 6, 6, 2).conv(2, 4, 3, 3).pool("MAX", 2, 2)
    return [net.bytes(), TFLiteNet(1, 6).dense(6, 4).bytes()]


# ---- Pictures ----


def _read_picture(data: bytes) -> None:
    from fastdigit.images import normalize
    from fastdigit.images.reading import decode, prepare

    prepare(data, (8, 8, 3), max_pixels=1 << 16)
    normalize(decode(data, max_pixels=1 << 16))


def _pictures() -> list[bytes]:
    from PIL import Image, ImageDraw

    found = []
    for mode, formats in (("L", ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")), ("RGBA", ("PNG",))):
        picture = Image.new(mode, (20, 24), "white")
        ImageDraw.Draw(picture).line((6, 4, 12, 19), fill="black", width=3)
        for name in formats:
            memory = io.BytesIO()
            picture.save(memory, name)
            found.append(memory.getvalue())
    return found


# ---- Requests ----


@functools.cache
def _signature() -> Any:
    from fastdigit.serve.protocol import Signature

    return Signature("m", (2, 2, 1), 3, "probabilities", True, (0.0, 1.0), True)


def _read_request(data: bytes) -> None:
    """A line with headers, then the body."""
    from fastdigit.serve.errors import RequestError
    from fastdigit.serve.protocol import decompressed, parse

    head, _, body = data.partition(b"\n")
    encoding, _, length = head.decode("latin-1").partition(" ")
    try:
        if encoding:
            body = decompressed(body, encoding, 1 << 20)
        request = parse(body, length or None, _signature())
    except RequestError as error:
        assert 400 <= error.status < 500
        raise InputError(str(error)) from None
    assert _signature().accepts(request.images.shape)


def _requests() -> list[bytes]:
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, 2, 2, 1], "data": [0, 0.5, 1, 0]}
    plain = {"id": "1", "inputs": [tensor], "outputs": [{"name": "label"}], "parameters": {}}
    nested = {"inputs": [{**tensor, "datatype": "UINT8", "data": [[[[0], [1]], [[2], [3]]]]}]}
    raw = {**tensor, "parameters": {"binary_data_size": 16}}
    del raw["data"]
    head = json.dumps({"inputs": [raw]}).encode()
    bodies = [json.dumps(body).encode() for body in (plain, nested)]
    packed = zlib.compress(bodies[0])
    return [
        *(b"\n" + body for body in bodies),
        b" %d\n" % len(head) + head + np.zeros(4, np.float32).tobytes(),
        b"deflate\n" + packed,
    ]


def _mutate_request(data: bytes, rng: random.Random) -> bytes:
    head, _, body = data.partition(b"\n")
    encoding, _, length = head.partition(b" ")
    if encoding == b"deflate" and rng.random() < 0.5:
        try:
            body = zlib.compress(mutators.mutate_json(zlib.decompress(body), rng))
        except zlib.error:
            body = mutators.mutate_bytes(body, rng)
    elif length.isdigit() and rng.random() < 0.8:
        size = min(int(length[:9]), len(body))
        json_part = mutators.mutate_json(body[:size], rng)
        body = json_part + body[size:]
        head = b"%b %d" % (encoding, len(json_part) + rng.choice((0, 0, 0, 1, -1)))
    elif rng.random() < 0.9:
        body = mutators.mutate_json(body, rng)
    else:
        head = mutators.mutate_bytes(head, rng).replace(b"\n", b"")
    return head + b"\n" + body


TARGETS: dict[str, Target] = {
    "meta": Target(_read_model, _model_seeds, _mutate_meta),
    "onnx": Target(lambda data: _compile(data, ".onnx"), _onnx_seeds, mutators.mutate_onnx),
    "keras": Target(
        lambda data: _compile(data, ".keras"), lambda: _keras_seeds(".keras"), _mutate_keras
    ),
    "h5": Target(
        lambda data: _compile(data, ".h5"),
        lambda: _keras_seeds(".h5"),
        lambda data, rng: mutators.of_attribute(data, rng, "model_config"),
    ),
    "tflite": Target(lambda data: _compile(data, ".tflite"), _tflite_seeds, mutators.mutate_bytes),
    "picture": Target(_read_picture, _pictures, mutators.mutate_bytes),
    "request": Target(_read_request, _requests, _mutate_request),
}
