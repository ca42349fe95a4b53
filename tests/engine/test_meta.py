"""META of files from anywhere: no model is refused for it, and no command falls over it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from fastdigit import Model
from fastdigit.cli import main
from fastdigit.compiler.backends.fdm.unpack import unpack
from fastdigit.errors import ModelFormatError
from fastdigit.meta import parse_meta
from tests.support import need
from tests.support.model_files import sealed
from tests.support.networks import chain, dense, packed

GOOD = packed(chain((4,), [dense(np.random.default_rng(0), 4, 3)]))


def with_meta(meta: bytes) -> bytes:
    """The same file with another META."""
    entries = [struct.unpack_from("<IIQQQ", GOOD, 64 + 32 * i) for i in range(4)]
    out = bytearray(GOOD[: entries[0][2]])
    for i, (kind, record, offset, size, _) in enumerate(entries):
        data = meta if kind == 1 else GOOD[offset : offset + size]
        struct.pack_into("<IIQQQ", out, 64 + 32 * i, kind, record, len(out), len(data), 0)
        out += data + bytes(-len(data) % 64)
    return sealed(out)


BAD = {
    "nothing": b"",
    "a list": b"[1, 2]",
    "a string": b'"meta"',
    "null": b"null",
    "no JSON": b"{name: 1}",
    "NaN": b'{"x": NaN}',
    "infinite": b'{"x": 1e999}',
    "a long number": b'{"x": ' + b"9" * 5000 + b"}",
    "half a pair": rb'{"name": "\ud800"}',
    "deep lists": b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"a": ' * 50_000 + b"1" + b"}" * 50_000,
    "deep, and never closed": b'{"\\"[": ' + b"[" * 500_000,
    "a string that never ends": b'{"a": "' + b"[" * 100,
}


@pytest.mark.parametrize("name", BAD)
def test_bad_meta(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = with_meta(BAD[name])
    with pytest.raises(ModelFormatError, match="META"):
        parse_meta(BAD[name].decode())
    with pytest.raises(ModelFormatError, match="META"):
        unpack(data)
    model = Model(data)  # it runs without
    assert model.info()["meta"] == {} and model.classes == ("0", "1", "2")
    x = np.ones((2, 4), np.float32)
    assert model.logits(x).tobytes() == Model(GOOD).logits(x).tobytes()
    path = tmp_path / "m.fdm"
    path.write_bytes(data)
    for command in (["inspect", str(path)], ["verify", str(path), str(path)]):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "META" in said


STRANGE = {
    "other types": b'{"name": {"a": []}, "classes": {"b": 1}, "output": [], "outputs": {}, '
    b'"input": 3, "precision": [1], "temperature": "hot"}',
    "other lengths": b'{"classes": ["a"], "output": {"shape": [3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, '
    b"1, 1, 1, 1, 1, 1, 1]}}",
    "great numbers": b'{"output": {"shape": [' + b"9" * 4000 + b', 0]}, "x": "y"}',
    "brackets in a string": b'{"name": "' + b"[{" * 99 + b'"}',
    "lists in classes": b'{"classes": [[[[1]]], {"a": 1}, null]}',
    "commands of a terminal": b'{"\\u001b[31m": "\\u001b[0m"}',
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
def test_strange_meta(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Model(with_meta(STRANGE[name]))
    assert len(model.classes) == 3 and all(isinstance(text, str) for text in model.classes)
    assert model.output_shape == (3,) and repr(model)
    path = tmp_path / "m.fdm"
    path.write_bytes(with_meta(STRANGE[name]))
    assert main(["inspect", str(path)]) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "meta",
    [
        b'{"input_shape": 3}',
        b'{"input_shape": ["a"]}',
        b'{"input_shape": {"x": 3}}',
        b'{"input": {"preprocessing": {"scale": [1], "mean": [0, 0, 0, 0, 0], "std": [1]}}}',
        b'{"input": {"preprocessing": {"scale": [1], "mean": [0], "std": [0]}}}',
        b'{"input": {"preprocessing": {"scale": [1' + b"0" * 400 + b'], "mean": [0], "std": [1]}}}',
    ],
)
def test_verify_refuses_what_no_compiler_has_written(
    meta: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = need("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, ["N", 4])],
        [helper.make_tensor_value_info("y", kind, ["N", 4])],
    )
    source, path = tmp_path / "relu.onnx", tmp_path / "m.fdm"
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), source)
    path.write_bytes(with_meta(meta))
    assert main(["verify", str(path), str(source)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "META" in said
