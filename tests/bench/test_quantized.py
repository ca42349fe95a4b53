"""Networks of 8 bits: images to calibrate with, conversion, and the adapters."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

import fastdigit
from fastdigit.bench import calibration, convert, quantized
from fastdigit.bench.adapter import ModelFiles, Variant, shipped_files
from fastdigit.bench.calibration import augment, calibration_digits
from fastdigit.bench.quantize import SCHEMES
from fastdigit.bench.quantized import (
    EIGHT_BIT_RUNTIMES,
    REDUCED,
    OnnxRuntimeDynamic,
    OnnxRuntimeQdq,
)
from fastdigit.bench.results import EIGHT_BIT, compare
from fastdigit.bench.runtimes import OnnxRuntime
from fastdigit.bench.scenarios import digits
from fastdigit.datasets import load_mnist_test


@pytest.fixture
def no_training_digits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FASTDIGIT_DATA", raising=False)
    monkeypatch.setattr(calibration, "cache_directory", lambda: tmp_path / "cache")


def training_digits(directory: Path | None) -> object:
    train = np.full((1000, 28, 28), 51, np.uint8), np.zeros(1000, np.uint8)
    return train, load_mnist_test()


def test_calibration_prefers_training_digits(
    monkeypatch: pytest.MonkeyPatch, no_training_digits: None, tmp_path: Path
) -> None:
    monkeypatch.setattr(calibration, "load_mnist", training_digits)
    chances = [
        lambda patch: Path("somewhere"),
        lambda patch: patch.setenv("FASTDIGIT_DATA", "somewhere"),
        lambda patch: ((tmp_path / "cache").mkdir(), (tmp_path / "cache/mnist.npz").touch())[1],
    ]
    for chance in chances:
        with monkeypatch.context() as patch:
            images, origin = calibration_digits(chance(patch), count=7)
        assert origin == "7 training digits"
        assert (images.shape, images.dtype) == ((7, 28, 28, 1), np.float32)
        assert (images == np.float32(0.2)).all()


def test_calibration_without_training_digits(no_training_digits: None) -> None:
    images, origin = calibration_digits(None, count=50)
    assert origin == "50 test digits, shifted and sheared at random"
    assert (images.shape, images.dtype) == ((50, 28, 28, 1), np.float32)
    assert images.min() == 0 and 0.9 < images.max() <= 1
    known = {image.tobytes() for image in load_mnist_test()[0]}
    same = [(np.round(image * 255).astype(np.uint8)).tobytes() in known for image in images]
    assert sum(same) < 5, "other images than those that accuracy is measured on"


def test_augmentation_moves_ink_and_makes_none() -> None:
    images = np.zeros((200, 28, 28), np.uint8)
    images[:, 12:16, 12:16] = 200
    images[:, 14, 14] = 255
    changed = augment(images, np.random.default_rng(0))
    assert (changed.sum(axis=(1, 2)) == images.sum(axis=(1, 2))).all(), "nothing leaves the image"
    rows, cols = np.array([np.argwhere(image == 255)[0] for image in changed]).T
    assert set(rows - 14) == set(range(-3, 4))
    assert set(cols - 14) >= set(range(-3, 4))
    full = np.full((50, 28, 28), 9, np.uint8)
    assert set(np.unique(augment(full, np.random.default_rng(0)))) == {0, 9}


def test_quantised_files_are_cached_by_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "cache_directory", lambda: tmp_path / "cache")
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\nfrom pathlib import Path\nscheme, source, target, images = sys.argv[1:]\n"
        "Path(target).write_bytes(scheme.encode() + Path(source).read_bytes() "
        "+ Path(images).read_bytes())\n"
        "Path(target).with_suffix('.bin').write_bytes(b'weights')\n"
    )
    monkeypatch.setattr(convert, "PROGRAM", program)
    source, images = tmp_path / "net.onnx", tmp_path / "images.npy"
    source.write_bytes(b"-network-")
    images.write_bytes(b"images")
    first = convert.quantize(source, "scheme", images, "numpy", ".xml")
    assert first.read_bytes() == b"scheme-network-images"
    assert first.with_suffix(".bin").read_bytes() == b"weights"

    elsewhere = tmp_path / "elsewhere.npy"
    elsewhere.write_bytes(b"images")
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", lambda *a, **o: pytest.fail("quantised again"))
        assert convert.quantize(source, "scheme", elsewhere, "numpy", ".xml") == first
    elsewhere.write_bytes(b"others")
    second = convert.quantize(source, "scheme", elsewhere, "numpy", ".xml")
    assert second.read_bytes() == b"scheme-network-others"
    program.write_text(program.read_text() + "# changed\n")
    assert convert.quantize(source, "scheme", images, "numpy", ".xml") != first


def test_every_scheme_is_used() -> None:
    used = [
        scheme
        for runtime in EIGHT_BIT_RUNTIMES.values()
        if issubclass(runtime, quantized._Quantized)
        for scheme in runtime.schemes
    ]
    assert sorted(used) == sorted(SCHEMES)


def test_variants_are_all_forms_in_all_schemes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def quantize(source: Path, scheme: str, images: Path, tool: str, suffix: str) -> Path:
        asked.append((source.name, scheme, images.name, tool, suffix))
        return Path(f"{source.stem} {scheme}{suffix}")

    monkeypatch.setattr(convert, "quantize", quantize)
    files = ModelFiles(Path("n.fdm"), (Path("a.onnx"), Path("b.onnx")), calibration=Path("c.npy"))
    variants = OnnxRuntimeQdq.variants(files)
    assert [variant.label for variant in variants] == [
        "a.onnx, u8s8",
        "a.onnx, s8s8",
        "b.onnx, u8s8",
        "b.onnx, s8s8",
    ]
    assert variants[3].path == Path("b onnxruntime s8s8.onnx")
    assert asked[3] == ("b.onnx", "onnxruntime s8s8", "c.npy", "onnx", ".onnx")


def test_without_its_tool_a_runtime_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert OnnxRuntimeDynamic.version() == OnnxRuntime.version()
    monkeypatch.setattr(OnnxRuntimeDynamic, "tools", ("no-such-distribution",))
    assert OnnxRuntimeDynamic.version() is None


def test_what_they_lack_is_named() -> None:
    files = ModelFiles(Path("n.fdm"), (Path("n.onnx"),))
    assert EIGHT_BIT_RUNTIMES["litert-int8"].lacks(files) == "the network as --keras FILE"
    own = EIGHT_BIT_RUNTIMES["fastdigit-int8"]
    assert own.lacks(files) == "the network compiled with precision 'int8'"
    reduced = ModelFiles(files.fdm, files.onnx, reduced={"int8": Path("n-int8.fdm")})
    assert own.lacks(reduced) is None
    assert own.variants(reduced) == [Variant("n-int8.fdm", Path("n-int8.fdm"))]


@pytest.mark.slow
@pytest.mark.parametrize("name", EIGHT_BIT_RUNTIMES)
def test_quantised_networks_label_nearly_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "cache_directory", lambda: tmp_path)
    runtime = EIGHT_BIT_RUNTIMES[name]
    if runtime.version() is None:
        pytest.skip(f"{name} is not installed")
    images, _ = calibration_digits(None, count=100)
    np.save(tmp_path / "images.npy", images)
    files = shipped_files()
    reduced = {precision: tmp_path / f"{precision}.fdm" for precision in REDUCED}
    for precision, path in reduced.items():
        fastdigit.compile(files.onnx[0], path, precision=precision)
    files = ModelFiles(files.fdm, files.onnx, calibration=tmp_path / "images.npy", reduced=reduced)
    if lacking := runtime.lacks(files):
        pytest.skip(f"{name} needs {lacking}")
    batch = 200
    sample = digits().images[:batch]
    expected, out = np.zeros((2, batch, 10), np.float32)
    OnnxRuntime(OnnxRuntime.variants(files)[0], batch, 1).bind(sample, expected)()
    for variant in runtime.variants(files):
        out.fill(np.nan)
        opened = runtime(variant, batch, 1)
        opened.bind(sample, out)()
        assert compare(out, expected, EIGHT_BIT).passed
