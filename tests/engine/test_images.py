"""Pictures of digits become images like MNIST's: properties, and accuracy on re-rendered digits."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import fastdigit
from fastdigit.datasets import load_mnist_test
from fastdigit.errors import InputError
from fastdigit.images import MAX_PIXELS, decode, normalize
from tests.support import need

DIGITS, LABELS = load_mnist_test()

some_digit = st.integers(0, 999).map(lambda i: DIGITS[i])


def difference(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def enlarged(digit: np.ndarray, side: int) -> np.ndarray:
    """The digit as Pillow renders it at another size: not the resampling under test."""
    Image = need("PIL.Image")
    return np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC))


def placed(digit: np.ndarray, height: int, width: int, top: int, left: int) -> np.ndarray:
    canvas = np.zeros((height, width), np.uint8)
    canvas[top : top + 28, left : left + 28] = digit
    return canvas


# ---- Properties ----


@settings(deadline=None)
@given(some_digit)
def test_the_result_is_as_mnist_says(digit: np.ndarray) -> None:
    out = normalize(enlarged(digit, 90))
    assert out.dtype == np.uint8 and out.shape == (28, 28)
    assert out.max() == 255
    ys, xs = np.nonzero(out)
    assert max(np.ptp(ys), np.ptp(xs)) + 1 <= 20
    for axis, inked in ((1, ys), (0, xs)):
        centre = out.sum(axis, dtype=float) @ np.arange(28) / out.sum(dtype=float)
        # In the middle to half a pixel (and what rounding to bytes moves), unless the box would
        # leave the image.
        assert abs(centre - 14) <= 0.51 or 0 in inked or 27 in inked


@settings(deadline=None)
@given(some_digit, st.integers(28, 120))
def test_inversion_changes_nothing(digit: np.ndarray, side: int) -> None:
    image = enlarged(digit, side)
    assert difference(normalize(image), normalize(255 - image)) <= 1


@settings(deadline=None)
@given(some_digit, st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_a_shift_changes_nothing(digit: np.ndarray, a: int, b: int, c: int, d: int) -> None:
    shifted = placed(digit, 28 + a + b, 28 + c + d, a, c)
    assert difference(normalize(shifted), normalize(placed(digit, 148, 148, 60, 60))) <= 1


@settings(deadline=None)
@given(some_digit, st.integers(2, 12))
@example(DIGITS[25], 2)  # bold: its strokes were made thinner by one step, or by two
def test_scale_changes_little(digit: np.ndarray, times: int) -> None:
    once, more = normalize(enlarged(digit, 56)), normalize(enlarged(digit, 56 * times))
    # A centre half way between two pixels may go to either, and so may the shorter side's length.
    moved = [np.roll(more, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    assert min(np.abs(once.astype(int) - other).mean() for other in moved) < 16


@settings(deadline=None)
@given(some_digit, st.floats(0.1, 1), st.floats(0, 0.9))
def test_contrast_and_brightness_change_nothing(
    digit: np.ndarray, contrast: float, brightness: float
) -> None:
    image = digit / 255
    faded = image * contrast * (1 - brightness) + brightness
    if contrast * (1 - brightness) > 0.06:
        assert difference(normalize(faded), normalize(image)) <= 1


@settings(deadline=None)
@given(some_digit)
def test_dtypes_and_channels_agree(digit: np.ndarray) -> None:
    want = normalize(digit)
    opaque = np.full_like(digit, 255)
    clear = np.zeros_like(digit)
    for same in (
        digit[..., None],
        np.stack([digit] * 3, axis=-1),
        np.stack([digit, opaque], axis=-1),
        np.stack([digit, digit, digit, opaque], axis=-1),
        np.stack([opaque, opaque, opaque, digit], axis=-1),  # white ink on nothing
        np.stack([clear, digit], axis=-1),  # black ink on nothing
        digit.astype(np.uint16) * 257,
        digit / 255,
        (digit / 255).astype(np.float32),
        np.asfortranarray(digit),
        digit[::-1][::-1],
    ):
        assert difference(normalize(same), want) <= 1
    assert difference(normalize(digit > 127), normalize((digit > 127).astype(np.uint8) * 255)) <= 1


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([0, 1, 2, 3, 4]),
    st.integers(0, 2**32 - 1),
    st.floats(0, 1),
)
def test_any_image_is_a_digit_or_an_error(
    height: int, width: int, channels: int, seed: int, density: float
) -> None:
    rng = np.random.default_rng(seed)
    shape = (height, width, channels) if channels else (height, width)
    image = rng.integers(0, 256, shape, np.uint8) * (rng.random(shape) < density)
    try:
        out = normalize(image.astype(np.uint8))
    except InputError as error:
        assert "stands out" in str(error) or "one digit is expected" in str(error)
    else:
        assert out.max() == 255


# ---- Accuracy ----


def accuracy(images: list[np.ndarray]) -> float:
    batch = np.stack([normalize(image) for image in images])
    return float((fastdigit.predict(batch) == LABELS[: len(images)]).mean())


@pytest.mark.parametrize("side", [20, 28, 56, 100, 280])
def test_digits_rendered_at_other_sizes_are_read_as_well(side: int) -> None:
    digits = DIGITS[:500]
    original = float((fastdigit.predict(digits) == LABELS[:500]).mean())
    got = accuracy([255 - enlarged(digit, side) for digit in digits])
    assert got >= original - 0.01, f"{got:.1%} of what was {original:.1%}"


def test_photographs_with_shadow_noise_dirt_and_colour() -> None:
    rng = np.random.default_rng(0)
    light = np.linspace(0.9, 0.55, 320)[:, None] * np.linspace(1, 0.8, 260)
    images = []
    for digit in DIGITS[:200]:
        ink = np.zeros((320, 260))
        ink[90:230, 50:190] = enlarged(digit, 140) / 255
        ink[20:23, 30:33] = 1  # a speck far from the digit
        grey = light * (1 - 0.7 * ink) + rng.normal(0, 0.02, ink.shape)
        photo = np.clip(grey[..., None] * [1, 0.95, 0.85], 0, 1)
        images.append((photo * 255).astype(np.uint8))
    assert accuracy(images) >= 0.97


def test_detached_strokes_are_kept() -> None:
    image = np.zeros((100, 100), np.uint8)
    image[20:80, 30:36] = 255
    image[20:26, 44:70] = 255  # like the bar of a 5 that does not touch
    columns = np.flatnonzero(normalize(image).any(0))
    assert np.ptp(columns) + 1 == round(20 * 40 / 60)


def test_a_large_picture_is_reduced_first() -> None:
    image = np.full((3000, 2000), 250, np.uint8)
    image[1000:2000, 500:1500] = 255 - enlarged(DIGITS[0], 1000)
    assert fastdigit.predict(normalize(image)[None]) == LABELS[0]


# ---- What is no image ----


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((28, 28), np.uint8), "no digit"),
        (np.full((1, 1), 9, np.uint8), "no digit"),
        (np.zeros((0, 5), np.uint8), "has no pixels"),
        (np.zeros(784, np.uint8), "has shape"),
        (np.zeros((3, 28, 28), np.uint8), "has shape"),
        (np.zeros((28, 28), np.int64), "dtype int64"),
        (np.zeros((28, 28), complex), "dtype complex128"),
        (np.full((28, 28), np.nan), "has NaN"),
        (np.full((28, 28), np.inf), "floats from inf"),
        (np.full((28, 28), 200.0), "divide by 255 first"),
        (np.full((28, 28), -0.1), "floats from -0.1 to -0.1"),
        (b"", "no PNG, JPEG, BMP"),
        (b"GIF89a", "no PNG, JPEG, BMP"),
        (17, "is a int"),
    ],
)
def test_what_is_refused(image: object, message: str) -> None:
    if isinstance(image, bytes):
        need("PIL")
    with pytest.raises(InputError, match=message):
        normalize(image)  # type: ignore[arg-type]


# ---- Files ----


def encoded(image: np.ndarray, kind: str, **options: object) -> bytes:
    Image = need("PIL.Image")
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


def test_files_of_all_kinds(tmp_path: Path) -> None:
    Image = need("PIL.Image")
    image = enlarged(DIGITS[0], 200)
    want = normalize(image)
    png = encoded(image, "PNG")
    assert difference(normalize(png), want) == 0
    assert difference(fastdigit.normalize(png), want) == 0
    (tmp_path / "seven.png").write_bytes(png)
    assert difference(normalize(tmp_path / "seven.png"), want) == 0
    assert difference(normalize(str(tmp_path / "seven.png")), want) == 0

    rgba = np.stack([np.zeros_like(image)] * 3 + [image], axis=-1)
    assert difference(normalize(encoded(rgba, "PNG")), want) <= 2
    assert difference(normalize(encoded(image.astype(np.uint16) * 257, "PNG")), want) == 0
    assert np.abs(normalize(encoded(image, "JPEG")).astype(int) - want).mean() < 2
    file = io.BytesIO()
    Image.fromarray(image).convert("P").save(file, "PNG")
    assert difference(normalize(file.getvalue()), want) <= 1
    file = io.BytesIO()
    Image.fromarray(image > 127).save(file, "PNG")  # one bit a pixel
    assert difference(normalize(file.getvalue()), normalize(image > 127)) == 0


@pytest.mark.parametrize("kind", ["AVIF", "HEIF", "WEBP", "TIFF", "BMP", "GIF"])
def test_digits_in_files_of(kind: str) -> None:
    if kind == "HEIF":
        need("pi_heif")
    elif kind in ("AVIF", "WEBP") and not need("PIL.features").check(kind.lower()):
        pytest.skip(f"Pillow was built without {kind}")
    image = enlarged(DIGITS[0], 200)
    # pi-heif has no encoder: pillow-heif has written it.
    heif = Path(__file__).parent / "fixtures" / "digit.heic"
    data = heif.read_bytes() if kind == "HEIF" else encoded(image, kind)
    assert np.abs(normalize(data).astype(int) - normalize(image)).mean() < 2


def test_exif_turns_the_picture_upright() -> None:
    Image = need("PIL.Image")
    image = enlarged(DIGITS[0], 200)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned right by a quarter
    turned = encoded(np.rot90(image), "JPEG", exif=exif)
    assert np.abs(normalize(turned).astype(int) - normalize(image)).mean() < 2


def png_header(width: int, height: int) -> bytes:
    """A PNG file that says it has that many pixels, in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [8000, 60_000, 2**31 - 1])
def test_decompression_bombs_are_refused(side: int) -> None:
    need("PIL")
    with pytest.raises(InputError, match="pixels"):
        decode(png_header(side, side))
    assert MAX_PIXELS < 8000 * 8000


def test_the_limit_of_pixels_can_be_set() -> None:
    data = encoded(enlarged(DIGITS[0], 100), "PNG")
    assert decode(data, max_pixels=10_000).shape == (100, 100)
    with pytest.raises(InputError, match="100x100 pixels, at most 9999"):
        decode(data, max_pixels=9_999)


@settings(deadline=None)
@given(st.data())
def test_damaged_files_are_errors_or_images(data: st.DataObject) -> None:
    good = bytearray(encoded(enlarged(DIGITS[3], 60), data.draw(st.sampled_from(["PNG", "JPEG"]))))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(good)))
    try:
        image = decode(bytes(good[:cut]), max_pixels=1_000_000)
    except InputError:
        return
    assert image.dtype == np.uint8


def test_rounding_does_not_decide_what_is_ink() -> None:
    """A pixel of 51, a fifth of 255, whose grey as RGB may come out a little smaller."""
    image = np.zeros((40, 40), np.uint8)
    image[10:30, 15:25] = 255
    image[10:30, 25:30] = 51
    want = normalize(image)
    assert difference(normalize(np.stack([image] * 3, axis=-1)), want) <= 1
    assert difference(normalize(255 - image), want) <= 1
