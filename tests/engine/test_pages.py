"""Files of several pages: what is read of each is what was put in."""

from __future__ import annotations

import io
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdigit
from fastdigit.errors import InputError, MissingExtraError
from fastdigit.images import decode, pages, prepare
from fastdigit.images.pages import PDF_DPI, PDF_SIDE, open_pages
from tests.support import need

Image = need("PIL.Image")

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (40, 60), np.uint8)
COLOUR = RANDOM.integers(0, 256, (30, 50, 3), np.uint8)
RED = np.full((20, 40, 3), (255, 0, 0), np.uint8)


def file_of(kind: str, *pictures: np.ndarray, **options: Any) -> bytes:
    first, *others = map(Image.fromarray, pictures)
    file = io.BytesIO()
    if others:
        options |= {"save_all": True, "append_images": others}
    first.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
def test_all_pages_of_a_tiff(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "scan.tif"
    path.write_bytes(file_of("TIFF", GREY, COLOUR, GREY[:10], compression=compression))
    found = list(pages(path))
    assert [(page.number, page.count) for page in found] == [(1, 3), (2, 3), (3, 3)]
    for page, want in zip(found, (GREY, COLOUR, GREY[:10]), strict=True):
        np.testing.assert_array_equal(page.pixels, want)


def test_pages_are_upright() -> None:
    """As their orientation says: 6 is shown turned to the right."""
    found = pages(file_of("TIFF", GREY, COLOUR, tiffinfo={274: 6}))
    for page, want in zip(found, (GREY, COLOUR), strict=True):
        np.testing.assert_array_equal(page.pixels, np.rot90(want, -1))


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_all_pictures_of_an_animation(kind: str) -> None:
    """Whole ones, though a file may hold only what changes."""
    drawn = [np.repeat(GREY[..., None], 3, 2) // 64 * 64 for _ in range(3)]
    drawn[1][5:9] = 255
    drawn[2][:, 20:24] = 0
    found = list(pages(file_of(kind, *drawn, lossless=True)))
    assert [(page.number, page.count) for page in found] == [(1, 3), (2, 3), (3, 3)]
    for page, want in zip(found, drawn, strict=True):
        got = page.pixels if page.pixels.ndim == 3 else page.pixels[..., None]
        np.testing.assert_array_equal(got[..., :3] + np.zeros_like(want), want)


def digit_on(paper: np.ndarray, column: int) -> np.ndarray:
    drawn = paper.copy()
    drawn[8:32, column : column + 4] = 0
    return drawn


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP"])
def test_no_page_is_chosen_in_silence(kind: str, tmp_path: Path) -> None:
    """Of files of several pages, by any function that takes one picture."""
    paper = np.full((40, 60), 255, np.uint8)
    paper[20:24, 10:50] = 0
    drawn = [digit_on(paper, 12), digit_on(paper, 44)]
    path = tmp_path / f"scan.{kind.lower()}"
    path.write_bytes(file_of(kind, *drawn, lossless=True))
    calls: list[Any] = [
        decode,
        fastdigit.normalize,
        fastdigit.read,
        lambda source, **page: fastdigit.explain(source, **page).image,
        lambda source, **page: prepare(source, (40, 60, 1), **page),
    ]
    for call in calls:
        for source in (path, path.read_bytes()):
            with pytest.raises(InputError, match="has 2 pages: choose one, page=1 to page=2"):
                call(source)
            with pytest.raises(InputError, match="page=3, and the file has 2"):
                call(source, page=3)
            with pytest.raises(InputError, match="page=0, expected"):
                call(source, page=0)
    for number, want in enumerate(drawn, 1):
        np.testing.assert_array_equal(
            fastdigit.normalize(path, page=number), fastdigit.normalize(want)
        )
    with pytest.raises(InputError, match="page=1 is for files"):
        fastdigit.normalize(drawn[0], page=1)


def test_of_other_files_the_main_picture() -> None:
    """A PNG file that moves has a picture for those who show one; photographs have previews."""
    for kind in ("PNG", "MPO"):
        moving = file_of(kind, RED, 255 - RED)
        (page,) = pages(moving)
        assert (page.number, page.count) == (1, 1)
        np.testing.assert_array_equal(page.pixels, decode(moving, reduce=False))
        assert abs(page.pixels.astype(float) - RED).max() < 20
    assert prepare(moving, (28, 28, 1)).shape == (28, 28, 1)


def test_pictures_are_read_in_their_whole_size() -> None:
    """Boxes of digits are in pixels of the file."""
    large = file_of("JPEG", np.zeros((2100, 3000), np.uint8))
    assert decode(large).shape < (2100, 3000)
    assert decode(large, reduce=False).shape == (2100, 3000)
    (page,) = pages(large)
    assert page.pixels.shape == (2100, 3000)


def test_every_page_has_a_limit() -> None:
    found = pages(file_of("TIFF", GREY[:10], GREY), max_pixels=GREY.size - 1)
    assert next(found).count == 2
    with pytest.raises(InputError, match="60x40 pixels, at most 2399"):
        next(found)


def test_a_damaged_page_comes_after_whole_ones() -> None:
    noise = RANDOM.integers(0, 256, (200, 200), np.uint8)
    found = pages(file_of("TIFF", GREY, noise)[:-1000])
    np.testing.assert_array_equal(next(found).pixels, GREY)
    with pytest.raises(InputError, match="the image file is damaged"):
        next(found)


def directories(tiff: bytes) -> list[int]:
    """Where the directories of the pages begin (TIFF 6.0, section 2)."""
    found = []
    (at,) = struct.unpack_from("<I", tiff, 4)
    while at:
        found.append(at)
        (entries,) = struct.unpack_from("<H", tiff, at)
        (at,) = struct.unpack_from("<I", tiff, at + 2 + 12 * entries)
    return found


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("how", ["pixels", "width", "directory", "beyond the end"])
def test_a_damaged_page_hides_no_other(how: str) -> None:
    noise = RANDOM.integers(0, 256, (200, 200), np.uint8)
    data = bytearray(file_of("TIFF", GREY, noise, GREY[:10], compression="tiff_adobe_deflate"))
    first, second, _ = directories(bytes(data))
    behind = [3]
    if how == "pixels":
        data[first + 400 : second - 400] = bytes(second - first - 800)
    elif how == "width":  # its tag, 256, is the first
        struct.pack_into("<H", data, second + 2, 65000)
    else:  # what is behind cannot be found
        behind = []
        if how == "directory":
            del data[second + 20 :]
        else:
            entries = struct.unpack_from("<H", data, first)[0]
            struct.pack_into("<I", data, first + 2 + 12 * entries, len(data) + 1000)
    opened = open_pages(bytes(data))
    np.testing.assert_array_equal(opened.pixels(1), GREY)
    with pytest.raises(InputError, match="damaged"):
        opened.pixels(2)
    assert opened.count == 2 + len(behind)
    for number in behind:
        np.testing.assert_array_equal(opened.pixels(number), GREY[:10])
    np.testing.assert_array_equal(opened.pixels(1), GREY)
    opened.close()


@pytest.mark.parametrize("full", [1, 255])
def test_floats_of_a_tiff_are_scaled(full: int) -> None:
    file = io.BytesIO()
    Image.fromarray((GREY * (full / 255)).astype(np.float32)).save(file, "TIFF")
    np.testing.assert_array_equal(decode(file.getvalue()), GREY)
    np.testing.assert_array_equal(prepare(file.getvalue(), (40, 60, 1))[..., 0], GREY)


@pytest.mark.parametrize(
    ("value", "message"),
    [(-0.5, "from -0.5 to 1"), (300, "from 0 to 300"), (np.nan, "nan"), (np.inf, "inf")],
)
def test_floats_of_a_tiff_that_mean_nothing_known_are_refused(value: float, message: str) -> None:
    floats = np.array([[0, 1, value]], np.float32)
    file = io.BytesIO()
    Image.fromarray(floats).save(file, "TIFF")
    for call in (decode, lambda data: prepare(data, (28, 28, 1))):
        with pytest.raises(InputError, match=f"floats .*{message}.*expected 0..1 or 0..255"):
            call(file.getvalue())


def test_pixels_beyond_the_limit_of_pillow_are_told_by_ours() -> None:
    head = b"P5 20000 20000 255\n"
    with pytest.raises(InputError, match="too many pixels, at most 5000 are accepted") as refused:
        decode(head, max_pixels=5000)
    assert "bomb" not in str(refused.value)


def test_pages_of_a_pdf(tmp_path: Path) -> None:
    need("pypdfium2")
    path = tmp_path / "scan.pdf"
    # 200 points wide, then 2400: at the most pixels an inch, and with the longest side.
    path.write_bytes(file_of("PDF", np.full((40, 200), 255, np.uint8), resolution=72))
    (page,) = pages(path)
    assert page.pixels.shape[:2] == tuple(np.ceil(np.array([40, 200]) * PDF_DPI / 72))
    assert page.pixels.min() == 255
    path.write_bytes(file_of("PDF", RED.repeat(60, 1), RED, resolution=72))
    first, second = pages(path)
    assert [first.number, second.number, first.count, second.count] == [1, 2, 2, 2]
    assert first.pixels.shape[1] == PDF_SIDE
    for page in (first, second):
        middle = page.pixels[page.pixels.shape[0] // 2, page.pixels.shape[1] // 2]
        assert middle[0] > 240 and middle[1:].max() < 16, "RGB, in this order"


def test_a_pdf_that_is_none() -> None:
    need("pypdfium2")
    for wrong in (b"%PDF-1.7\n", b"%PDF-" + bytes(2000), file_of("PDF", GREY)[:300]):
        with pytest.raises(InputError, match="PDF file is damaged or has a password"):
            list(pages(wrong))


def test_pdf_files_in_threads() -> None:
    """PDFium takes one thread at a time, which is seen to."""
    need("pypdfium2")
    files = [file_of("PDF", GREY + n, RED) for n in range(8)]
    want = [[page.pixels for page in pages(file)] for file in files]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda file: [page.pixels for page in pages(file)], files))
    for one, other in zip(want, got, strict=True):
        for before, now in zip(one, other, strict=True):
            np.testing.assert_array_equal(before, now)


def test_without_pypdfium2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    with pytest.raises(MissingExtraError, match=r'pip install "fastdigit\[pdf\]"'):
        list(pages(b"%PDF-1.7"))
    assert len(list(pages(file_of("PNG", GREY)))) == 1
