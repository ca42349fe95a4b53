"""Pictures for any network: `prepare`, and the command `fastdigit predict` with models of its own.

The networks here are sums whose result is known from the pixels."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastdigit
from fastdigit.cli import main
from fastdigit.compiler.backends.fdm.pack import pack
from fastdigit.compiler.ir import Activation, Op
from fastdigit.compiler.ops import Dense, Pad, Softmax
from fastdigit.datasets import load_mnist_test
from fastdigit.errors import InputError
from fastdigit.images import FITTINGS, prepare
from tests.support import need
from tests.support.networks import chain

Image = need("PIL.Image")

RNG = np.random.default_rng(0)
RED, GREEN, BLUE = (250, 10, 20), (30, 240, 40), (50, 60, 230)


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def stripes(height: int, width: int) -> np.ndarray:
    """Red, green, green, blue, from left to right."""
    colours = np.array([RED, GREEN, GREEN, BLUE], np.uint8)
    return np.broadcast_to(colours.repeat(width // 4, axis=0), (height, width, 3)).copy()


# ---- prepare ----


@pytest.mark.parametrize("resize", FITTINGS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_picture_of_the_right_size_stays_as_it_is(resize: Any, channels: int) -> None:
    pixels = RNG.integers(0, 256, (7, 9, channels), np.uint8)
    data = encoded(pixels[..., 0] if channels == 1 else pixels)
    got = prepare(data, (7, 9, channels), resize=resize)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, pixels)


def test_colour_becomes_grey_and_grey_colour() -> None:
    pixels = RNG.integers(0, 256, (7, 9, 3), np.uint8)
    grey = prepare(encoded(pixels), (7, 9, 1))[..., 0]
    assert np.abs(grey - pixels @ [0.299, 0.587, 0.114]).max() <= 1
    colour = prepare(encoded(grey), (7, 9, 3))
    np.testing.assert_array_equal(colour, np.stack([grey] * 3, axis=-1))
    words = grey.astype(np.uint16) * 257
    np.testing.assert_array_equal(prepare(encoded(words), (7, 9, 1))[..., 0], grey)


@pytest.mark.parametrize(
    "kind", ["PNG", "BMP", "PPM", "TIFF", "GIF", "WEBP", "JPEG", "AVIF", "HEIF"]
)
def test_kinds_of_files(kind: str, tmp_path: Path) -> None:
    if kind == "HEIF":
        need("pi_heif")
    elif kind in ("AVIF", "WEBP") and not need("PIL.features").check(kind.lower()):
        pytest.skip(f"Pillow was built without {kind}")
    pixels = np.broadcast_to(np.array(GREEN, np.uint8), (16, 16, 3))
    options = {"lossless": True} if kind == "WEBP" else {}
    path = tmp_path / "picture"
    # pi-heif has no encoder: pillow-heif has written it.
    heif = Path(__file__).parent / "fixtures" / "green.heic"
    path.write_bytes(heif.read_bytes() if kind == "HEIF" else encoded(pixels, kind, **options))
    got = prepare(path, (16, 16, 3)).astype(int)
    assert np.abs(got - pixels).max() <= (4 if kind in ("JPEG", "AVIF", "HEIF") else 0)


def test_what_is_transparent_is_white() -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2, :, 3] = 255
    got = prepare(encoded(pixels), (4, 4, 3))
    assert (got[:2] == 0).all() and (got[2:] == 255).all()
    np.testing.assert_array_equal(prepare(encoded(pixels), (4, 4, 4)), pixels)


def test_exif_is_heeded() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned right by a quarter
    pixels = RNG.integers(0, 256, (7, 9, 3), np.uint8)
    got = prepare(encoded(np.rot90(pixels), exif=exif), (7, 9, 3))
    np.testing.assert_array_equal(got, pixels)


def near(pixels: np.ndarray, colour: Any) -> bool:
    return bool(np.abs(pixels.astype(int) - np.array(colour)).max() <= 1)


@pytest.mark.parametrize("scale", [1, 10])
def test_three_ways_to_another_size(scale: int) -> None:
    """Smaller and larger: of a picture four times as wide as high, a square of 24."""
    data = encoded(stripes(8 * scale, 32 * scale))
    stretched = prepare(data, (24, 24, 3), resize="stretch")
    assert near(stretched[:, :3], RED) and near(stretched[:, 10:14], GREEN)
    assert near(stretched[:, -3:], BLUE)
    fitted = prepare(data, (24, 24, 3), resize="fit")
    assert near(fitted[:9], 0) and near(fitted[15:], 0)
    assert near(fitted[9:15, :3], RED) and near(fitted[9:15, 10:14], GREEN)
    cropped = prepare(data, (24, 24, 3), resize="crop")
    assert near(cropped[:, 2:-2], GREEN)
    np.testing.assert_array_equal(prepare(data, (24, 24, 3)), stretched)


def test_smaller_is_an_average() -> None:
    """A chequerboard of single pixels becomes grey, and no pattern of its own."""
    board = (np.indices((200, 200)).sum(0) % 2 * 255).astype(np.uint8)
    got = prepare(encoded(board), (25, 25, 1)).astype(int)
    assert np.abs(got - 127).max() <= 3


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3])),
    st.integers(0, 255),
    st.sampled_from(["stretch", "crop"]),
)
def test_one_colour_stays_one_colour(
    size: tuple[int, int], shape: tuple[int, int, int], grey: int, resize: Any
) -> None:
    got = prepare(encoded(np.full(size, grey, np.uint8)), shape, resize=resize)
    assert got.shape == shape and (got == grey).all()


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (b"no picture", {}, "no PNG, JPEG, BMP, .*WEBP.* file"),
        (encoded(RNG.integers(0, 256, (99, 99), np.uint8))[:2000], {}, "damaged"),
        (encoded(np.zeros((9, 9), np.uint8)), {"max_pixels": 80}, "9x9 pixels, at most 80"),
        (encoded(np.zeros((9, 9), np.uint8)), {"resize": "zoom"}, "resize is 'zoom'"),
    ],
)
def test_wrong_pictures(data: bytes, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(data, (5, 5, 1), **options)
    with pytest.raises(InputError, match="pictures of 2 channels"):
        prepare(data, (5, 5, 2))


# ---- The command ----


def write(path: Path, shape: tuple[int, ...], *ops: Op, **meta: Any) -> Path:
    unit = meta.pop("unit", True)
    bounds, divisor = ((0.0, 1.0), 255) if unit else ((-1.0, 1.0), 0)
    data = pack(chain(shape, ops), meta, input_range=bounds, u8_divisor=divisor)
    path.write_bytes(data)
    return path


def mean_of(shape: tuple[int, int, int]) -> np.ndarray:
    """Weights (elements, channels) that take the mean of each channel."""
    elements = shape[0] * shape[1] * shape[2]
    weights = np.tile(np.eye(shape[2]), (shape[0] * shape[1], 1)) / (shape[0] * shape[1])
    assert weights.shape == (elements, shape[2])
    return weights


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """A network that says which of red, green and blue there is most of."""
    shape = (24, 24, 3)
    layers = Dense(10 * mean_of(shape)), Softmax()
    return write(tmp_path / "colours.fdm", shape, *layers, classes=["red", "green", "blue"])


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """A red one and a blue one."""
    paths = []
    for name, colour in (("red", RED), ("blue", BLUE)):
        paths.append(tmp_path / f"{name}.png")
        paths[-1].write_bytes(encoded(np.broadcast_to(np.array(colour, np.uint8), (50, 40, 3))))
    return [str(path) for path in paths]


def said(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> list[str]:
    assert main(["predict", *map(str, arguments)]) == status
    shown = capsys.readouterr()
    return (shown.out if status == 0 else shown.err).splitlines()


def test_colours(colours: Path, pictures: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "--model", colours, *pictures)
    assert [line.split(": ")[1].split()[0] for line in lines] == ["red", "blue"]
    (line,) = said(capsys, "--model", colours, "--top", 2, pictures[0])
    assert [part.split()[0] for part in line.split(": ")[1].split(", ")] == ["red", "blue"]
    (line,) = said(capsys, "--model", colours, "--invert", "--top", 1, pictures[1])
    assert line.split(": ")[1].split()[0] == "red"  # 205 of red, 195 of green, 25 of blue

    (line,) = said(capsys, "--model", colours, "--json", "--top", 3, pictures[0])
    record = json.loads(line)
    assert (record["label"], record["class"]) == (0, "red")
    pixels = prepare(pictures[0], (24, 24, 3))
    want = fastdigit.load(colours).predict_proba(pixels[None])[0]
    np.testing.assert_array_equal(np.array(record["probabilities"], np.float32), want)
    assert [entry["class"] for entry in record["top"]] == ["red", "blue", "green"]
    assert record["top"][0]["probability"] == record["probabilities"][0]


def test_resizing_is_as_told(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "stripes.png"
    path.write_bytes(encoded(stripes(8, 32)))
    model = fastdigit.load(colours)
    found = {}
    for resize in FITTINGS:
        (line,) = said(capsys, "--model", colours, "--resize", resize, "--json", path)
        found[resize] = json.loads(line)["probabilities"]
        want = model.predict_proba(prepare(path, (24, 24, 3), resize=resize)[None])[0]
        np.testing.assert_array_equal(np.array(found[resize], np.float32), want)
    assert found["crop"][1] > found["stretch"][1] > found["fit"][1]


def test_label_files(
    colours: Path, pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "labels.txt"
    names.write_text("rot\ngrün\nblau\n\n", encoding="utf-8")
    lines = said(capsys, "--model", colours, "--labels", names, *pictures)
    assert [line.split(": ")[1].split()[0] for line in lines] == ["rot", "blau"]
    names.write_text("rot\ngrün\n", encoding="utf-8")
    (line,) = said(capsys, "--model", colours, "--labels", names, *pictures, status=2)
    assert "labels.txt has 2 lines, and the model 3 labels" in line
    names.write_bytes(b"\xff\xfe\xfd")
    (line,) = said(capsys, "--model", colours, "--labels", names, *pictures, status=2)
    assert "is not a text file in UTF-8" in line


def test_one_sigmoid(
    pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether there is more blue than red."""
    shape = (6, 5, 3)
    weights = mean_of(shape) @ np.array([[-2.0], [0.0], [2.0]])
    layer = Dense(weights, activation=Activation("sigmoid"))
    model = write(tmp_path / "blue.fdm", shape, layer, classes=["red", "blue"])
    logit = 2 * (np.array([RED[2], BLUE[2]]) - [RED[0], BLUE[0]]) / 255
    p = 1 / (1 + np.exp(-logit))
    lines = said(capsys, "--model", model, *pictures)
    assert [line.split(": ")[1] for line in lines] == [
        f"red ({1 - p[0]:.1%})",
        f"blue ({p[1]:.1%})",
    ]
    (line,) = said(capsys, "--model", model, "--threshold", 0.9, pictures[1])
    assert line.endswith(f": red ({1 - p[1]:.1%})")
    lines = said(capsys, "--model", model, "--reject-below", 0.84, "--json", *pictures)
    records = [json.loads(line) for line in lines]
    assert [record["class"] for record in records] == ["red", None]
    assert [record["label"] for record in records] == [0, -1]
    assert abs(records[1]["probabilities"][0] - p[1]) < 1e-6
    (line,) = said(capsys, "--model", model, "--reject-below", 0.84, pictures[1])
    assert line.endswith(f": rejected (blue ({p[1]:.1%}))")


def test_numbers(pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shape = (6, 5, 3)
    model = write(tmp_path / "sum.fdm", shape, Dense(mean_of(shape) @ np.ones((3, 1))))
    (line,) = said(capsys, "--model", model, pictures[0])
    assert abs(float(line.split(": ")[1]) - sum(RED) / 255) < 1e-5
    (line,) = said(capsys, "--model", model, "--json", pictures[0])
    assert abs(json.loads(line)["output"] - sum(RED) / 255) < 1e-5
    (line,) = said(capsys, "--model", model, "--threshold", 1, pictures[0])
    assert line.split(": ")[1].startswith("1 (1.098")


def test_logits(pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shape = (6, 5, 3)
    model = write(tmp_path / "logits.fdm", shape, Dense(mean_of(shape)), classes=["r", "g", "b"])
    (line,) = said(capsys, "--model", model, pictures[0])
    assert line.split(": ")[1] == f"r ({250 / 255:.4g})"
    (line,) = said(capsys, "--model", model, "--reject-below", 0.5, pictures[0], status=2)
    assert "no probabilities" in line


def test_a_source_with_channels_first(
    pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where nothing tells rows from channels, the model has the order of its source."""
    weights = np.kron(np.eye(3), np.ones((30, 1))) / 30
    model = write(tmp_path / "first.fdm", (3, 6, 5), Dense(weights), classes=["r", "g", "b"])
    lines = said(capsys, "--model", model, *pictures)
    assert [line.split(": ")[1].split()[0] for line in lines] == ["r", "b"]


def test_digits_are_normalized_unless_told_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = load_mnist_test()
    path = tmp_path / "digit.png"  # black on white, large
    path.write_bytes(encoded(255 - images[0].repeat(6, 0).repeat(6, 1)))
    (line,) = said(capsys, path)
    assert f": {labels[0]} (" in line
    (line,) = said(capsys, "--no-normalize", "--invert", "--json", path)
    want = fastdigit.predict_proba(255 - prepare(path, (28, 28, 1))[None])[0]
    got = np.array(json.loads(line)["probabilities"], np.float32)
    np.testing.assert_array_equal(got, want)
    (line,) = said(capsys, "--resize", "fit", "--invert", "--json", path)
    np.testing.assert_array_equal(np.array(json.loads(line)["probabilities"], np.float32), want)
    (line,) = said(capsys, "--normalize", "--resize", "fit", path, status=2)
    assert "chooses size and colour itself" in line
    # A network of other things in 28x28 pixels gets what there is; unless told to look for a digit.
    shape = (28, 28, 1)
    model = write(tmp_path / "ink.fdm", shape, Dense(mean_of(shape)), classes=["ink"])
    (line,) = said(capsys, "--model", model, path)
    plain = prepare(path, shape).mean() / 255
    assert abs(float(line.split(": ")[1]) - plain) < 1e-5 and plain > 0.5
    (line,) = said(capsys, "--model", model, "--normalize", path)
    normalized = fastdigit.normalize(path).mean() / 255
    assert abs(float(line.split(": ")[1]) - normalized) < 1e-5


def test_what_is_no_network_of_pictures(
    pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, before an image is read."""
    cases = {
        "takes vectors of 7 numbers": write(tmp_path / "a.fdm", (7,), Dense(np.ones((7, 2)))),
        "pictures have 1, 3 or 4 channels": write(
            tmp_path / "b.fdm", (5, 5, 8), Dense(np.ones((200, 2)))
        ),
        "does not say what the bytes of a picture mean": write(
            tmp_path / "c.fdm", (5, 5, 3), Dense(np.ones((75, 2))), unit=False
        ),
        "returns shape (6, 5, 3)": write(
            tmp_path / "d.fdm", (5, 5, 3), Pad(((1, 0), (0, 0), (0, 0)))
        ),
    }
    for message, model in cases.items():
        (line,) = said(capsys, "--model", model, "missing.png", status=2)
        assert line.startswith("fastdigit predict: ") and message in line
    model = write(tmp_path / "e.fdm", (5, 5, 3), Dense(np.ones((75, 2))))
    (line,) = said(capsys, "--model", model, "--normalize", pictures[0], status=2)
    assert "makes images of 28x28" in line
    (line,) = said(capsys, "--model", model, "--threshold", 0.5, pictures[0], status=2)
    assert "threshold is for networks of one output" in line
    (tmp_path / "text").write_text("no picture")
    lines = said(capsys, "--model", model, tmp_path / "text", tmp_path / "gone", status=1)
    assert len(lines) == 2 and "no PNG" in lines[0] and "No such file" in lines[1]
