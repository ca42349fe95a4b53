"""A file is what its content says, and one that is no model is told so in one line."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdigit import cli
from fastdigit.compiler.frontends import FRONT_ENDS, open_source
from fastdigit.compiler.frontends.sniff import DIRECTORIES, KINDS, Content, what_is
from fastdigit.errors import FastDigitError, ModelFormatError, UnsupportedError
from tests.support import ROOT, need


def zipped(*names: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return data.getvalue()


def saved(save: object, *arrays: object) -> bytes:
    data = io.BytesIO()
    save(data, *arrays)  # type: ignore[operator]
    return data.getvalue()


LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
LAYERS = {"class_name": "Sequential", "config": {"layers": []}}

#: (name of a file, its content, words of what it is, words of what to do).
FILES = [
    ("pointer.h5", b"version https://git-lfs.github.com/spec/v1\noid 0\n", "git-lfs", "pull"),
    ("page.onnx", b"\n<!DOCTYPE html>\n<html lang=en>", "an HTML page", "raw"),
    ("page.h5", b"<html>", "an HTML page", "raw"),
    ("done.fdm", (ROOT / "fastdigit/models/digits.fdm").read_bytes(), "already", "fastdigit.load"),
    ("model.ort", b"\x20\0\0\0ORTM" + bytes(64), "ONNX Runtime's own", "the .onnx file"),
    ("script.pt", zipped("m/data.pkl", "m/constants.pkl"), "TorchScript", "torch.jit.load"),
    ("new.pt2", zipped("serialized_exported_program.json"), "torch.export", "torch.export.load"),
    ("net.pt", zipped("net/data.pkl", "net/data/0"), "a PyTorch file", "torch.onnx.export("),
    ("old.pth", LEGACY_TORCH, "a PyTorch file", "torch.onnx.export("),
    ("model.pkl", pickle.dumps([1, 2]), "a Python pickle", "skl2onnx"),
    ("w.safetensors", b'@' + bytes(7) + b'{"a":{"data_offsets":[]}}', "safetensors", "export"),
    ("w.npz", saved(np.savez, np.zeros(3)), "NumPy arrays", "a model"),
    ("w.npy", saved(np.save, np.zeros(3)), "a NumPy array", "--calibrate"),
    ("m.mlpackage.zip", zipped("m.mlpackage/Manifest.json"), "a Core ML package", "converted from"),
    ("model.ckpt.index", bytes(40) + bytes.fromhex("57fb808b247547db"), "a checkpoint", "save"),
    ("model.ckpt.data-00000-of-00001", bytes(range(200, 256)), "a checkpoint", "save"),
    ("checkpoint", b'model_checkpoint_path: "x"\n', "a checkpoint", "save"),
    ("llama.gguf", b"GGUF\3\0\0\0", "GGUF", "small image networks"),
    ("train.ipynb", json.dumps({"cells": [], "nbformat": 4}).encode(), "a Jupyter notebook", "run"),
    ("model.json", json.dumps({"modelTopology": LAYERS}).encode(), "TensorFlow.js", "converter"),
    ("model.json", json.dumps(LAYERS).encode(), "without weights", "--architecture"),
    ("model.json", json.dumps(json.dumps(LAYERS)).encode(), "without weights", "--architecture"),
    ("labels.json", b'["a", "b"]', "JSON, but no model", "weights"),
    ("net.xml", b'<?xml version="1.0"?>\n<net name="x">', "an OpenVINO model", "converted from"),
    ("page.xml", b'<?xml version="1.0"?>\n<rss>', "XML", "download"),
    ("net.param", b"7767517\n3 2\n", "an ncnn network", "converted from"),
    ("paper.onnx", b"%PDF-1.7\n1 0 obj\n", "a PDF document", "the network"),
    ("train.py", "import keras  # für alle\n".encode(), "a text file", "weights"),
    ("missing.onnx", b"404: Not Found", "a text file", "weights"),
    ("digit.png", b"\x89PNG\r\n\x1a\n" + bytes(8), "a picture", "fastdigit predict"),
    ("digit.webp", b"RIFF\0\1\2\3WEBPVP8 \xff", "a picture", "fastdigit predict"),
    ("models.zip", zipped("model.h5", "readme.md"), "a zip archive", "unpack"),
    ("model.keras", zipped("config.json")[:20], "cut off", "again"),
    ("model.tar.gz", b"\x1f\x8b\x08\0\0\0\0\0", "a compressed archive", "unpack"),
    ("model.tar", b"\0" * 257 + b"ustar\0\x30\x30", "a compressed archive", "unpack"),
    ("model.pb", b"\x08\x01\x12\x02\x0a\x00", "saved_model.pb", "the directory"),
    ("frozen.pb", b"\x0a\x03\x0a\x01x\x22\x02\x08\x01", "a frozen graph", "tf2onnx"),
    ("model.mlmodel", b"\x08\x01\x12\x00\xa2\x1f\x00", "a Core ML model", "converted from"),
    ("net.caffemodel", b"\x0a\x01x\xa2\x06\x00", "a Caffe model", "ONNX"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "what", "advice"), FILES, ids=[row[2] for row in FILES])
def test_says_what_a_file_is(
    name: str,
    data: bytes,
    what: str,
    advice: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(FastDigitError, match="this is ") as caught:
        open_source(path)
    assert str(caught.value).startswith(f"{name}: this is ")
    assert what in str(caught.value).partition(";")[0]
    assert advice in str(caught.value).partition(";")[2]
    assert cli.main(["compile", str(path)]) == cli.ERROR
    assert capsys.readouterr().err == f"fastdigit compile: {caught.value}\n"


def test_every_kind_has_a_case(tmp_path: Path) -> None:
    found = []
    for number, (name, data, _, _) in enumerate(FILES):
        (tmp_path / str(number)).mkdir()
        path = tmp_path / str(number) / name
        path.write_bytes(data)
        found.append(what_is(Content(path)))
    texts = {kind.what for kind in KINDS}
    assert {kind.what for kind in found if kind} == texts
    assert len(KINDS) <= len(FILES)


@pytest.mark.parametrize("kind", DIRECTORIES, ids=lambda kind: kind.what)
def test_says_what_a_directory_is(kind: object, tmp_path: Path) -> None:
    files, what, advice = kind.files, kind.what, kind.advice  # type: ignore[attr-defined]
    for file in files:
        (tmp_path / file).touch()
    with pytest.raises(UnsupportedError, match=f"^{tmp_path.name}: this is ") as caught:
        open_source(tmp_path)
    assert str(caught.value).endswith(f"this is {what}; {advice}")


def test_a_directory_around_the_model(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").touch()
    (tmp_path / "net.onnx.data").touch()
    with pytest.raises(UnsupportedError, match=r"give the file in it: net\.onnx$"):
        open_source(tmp_path)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    with pytest.raises(ModelFormatError, match=r"^model\.onnx: the file is empty; "):
        open_source(tmp_path / "model.onnx")


@pytest.mark.parametrize("suffix", [s for known in FRONT_ENDS for s in known.suffixes])
def test_a_file_that_is_not_there(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file"):
        open_source(tmp_path / f"model{suffix}")


@pytest.mark.parametrize("name", ["model.bin", "model.h5", "model", "model.onnx.txt"])
def test_onnx_of_another_name(name: str, tmp_path: Path) -> None:
    onnx = need("onnx")
    from tests.support.compiler_cases import OnnxNet

    model = OnnxNet(("N", 4)).gemm(4, 2).model()
    onnx.save(model, tmp_path / name)
    assert open_source(tmp_path / name) == model


def test_hdf5_is_found_behind_other_bytes(tmp_path: Path) -> None:
    signature = b"\x89HDF\r\n\x1a\n"
    for place in (0, 512, 1024, 2048):
        (tmp_path / "x").write_bytes(bytes(place) + signature + bytes(8))
        assert Content(tmp_path / "x").is_hdf5
    for place in (8, 256, 1000):
        (tmp_path / "x").write_bytes(bytes(place) + signature + bytes(3000))
        assert not Content(tmp_path / "x").is_hdf5


@pytest.mark.parametrize("place", [512, 1024, 2048, 8192])
def test_what_begins_within_an_archive_is_one_of_its_files(place: int, tmp_path: Path) -> None:
    """Files in zip and tar archives may begin where HDF5 may begin behind a user's block."""
    signature = b"\x89HDF\r\n\x1a\n"
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.json", "{}".ljust(place - (30 + 6) - (30 + 4)))
        archive.writestr("b.h5", signature + bytes(600))
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("a"), io.BytesIO())
        for name, size in (("c", place - 1536), ("b.h5", 608)):
            if size >= 0:
                header = tarfile.TarInfo(name)
                header.size = size
                archive.addfile(header, io.BytesIO(signature.ljust(size, b"\0")))
    assert (tmp_path / "x.zip").read_bytes()[place:].startswith(signature)
    assert any(
        (tmp_path / "x.tar").read_bytes()[at:].startswith(signature) for at in (1024, 2048, 8192)
    )
    for name, what in (("x.zip", "a zip archive"), ("x.tar", "a compressed archive")):
        assert not Content(tmp_path / name).is_hdf5
        kind = what_is(Content(tmp_path / name))
        assert kind is not None and kind.what == what


@given(data=st.binary(max_size=300), name=st.sampled_from(["x", "x.onnx", "x.zip", "x.json"]))
def test_any_bytes_are_one_line(
    data: bytes, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(data)
    kind = what_is(Content(path))
    assert kind is None or "\n" not in kind.what + kind.advice
    for known in FRONT_ENDS:
        assert known.matches(Content(path)) in (True, False)


@given(st.lists(st.tuples(st.integers(1, 40), st.sampled_from("vlfd")), max_size=8), st.data())
def test_messages_are_walked(fields: list[tuple[int, str]], data: st.DataObject) -> None:
    """As Google's own library writes and reads them."""
    from fastdigit.compiler.frontends.sniff import _fields

    message, expected = b"", {}
    for number, kind in dict(fields).items():
        wire = {"v": 0, "d": 1, "l": 2, "f": 5}[kind]
        key = number << 3 | wire
        message += bytes([key]) if key < 128 else bytes([key & 127 | 128, key >> 7])
        body = data.draw(st.binary(min_size=8, max_size=8))
        message += {"v": b"\x96\x01", "d": body, "l": b"\x08" + body, "f": body[:4]}[kind]
        expected[number] = wire
    assert _fields(message, len(message)) == expected
    if message:
        cut = data.draw(st.integers(1, 2))
        shorter = _fields(message[:-cut], len(message) - cut)
        assert shorter is None or len(shorter) < len(expected)
