"""``fastdigit.read``: every digit of a picture, in reading order, with boxes and probabilities."""

from __future__ import annotations

import itertools
import re
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastdigit
from fastdigit.datasets import load_mnist_test
from fastdigit.errors import InputError
from fastdigit.reader import Field, Reading, read_many
from fastdigit.reader.candidates import Candidates
from fastdigit.reader.checks import luhn, mod11
from fastdigit.reader.search import ALONE_LEFT_OUT, LEAST, LEFT_OUT, Path, best_paths
from tests.support import need
from tests.support.fields import KINDS, make

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

IMAGES, LABELS = load_mnist_test()


def written(text: str, seed: int = 0, gap: int = 24) -> NDArray[np.uint8]:
    """A line of test digits, dark on light, about 60 pixels high; spaces are wide gaps."""
    random = np.random.default_rng(seed)
    parts: list[NDArray[np.uint8]] = [np.zeros((100, 40), np.uint8)]
    for letter in text:
        if letter == " ":
            parts.append(np.zeros((100, 110), np.uint8))
            continue
        # The test digits that everyone reads are at the beginning of each label.
        number = int(random.choice(np.flatnonzero(int(letter) == LABELS)[:20]))
        large = np.kron(IMAGES[number], np.ones((3, 3), np.uint8))
        inked = np.flatnonzero((large > 80).any(0))
        parts.append(np.pad(large[:, inked[0] : inked[-1] + 1], ((8, 8), (0, gap))))
    parts.append(np.zeros((100, 40), np.uint8))
    return (240 - np.concatenate(parts, axis=1) * 0.85).astype(np.uint8)


def boxes_of(reading: Reading) -> list[tuple[int, int, int, int]]:
    return [digit.box for field in reading.fields for digit in field.digits]


# ---- What it reads ----


@pytest.mark.parametrize("kind", KINDS)
def test_fields_of_each_kind_are_read(kind: str) -> None:
    """benchmarks/read.py says how many; here, so many that a part that broke would show."""
    need("PIL.Image")
    made = list(make(kind, 12, IMAGES, LABELS, seed=3))
    right = sum(fastdigit.read(image).text == text for image, text in made)
    assert right >= {"tight": 7, "touching": 6, "overlapping": 3}.get(kind, 10)


def test_a_page_is_read_line_by_line_and_field_by_field() -> None:
    first, second = written("314 15"), written("9265", 1)
    page = np.full((260, max(first.shape[1], second.shape[1]) + 30), 240, np.uint8)
    page[20:120, : first.shape[1]] = first
    page[140:240, 30 : 30 + second.shape[1]] = second
    reading = fastdigit.read(page)
    assert reading.text == "314 15\n9265"
    assert [[field.text for field in line] for line in reading.lines] == [["314", "15"], ["9265"]]
    assert [field.text for field in reading.fields] == ["314", "15", "9265"]


def test_boxes_are_around_the_digits() -> None:
    image = written("4711")
    reading = fastdigit.read(image)
    (field,) = reading.fields
    assert field.text == "4711" and [digit.label for digit in field.digits] == [4, 7, 1, 1]
    for digit in field.digits:
        top, bottom, left, right = digit.box
        assert image[top:bottom, left:right].min() < 60
        assert 30 <= bottom - top <= 75
    assert boxes_of(reading) == sorted(boxes_of(reading), key=lambda box: box[2])
    edges = np.array(boxes_of(reading))
    assert field.box == (
        *(edges[:, 0].min(), edges[:, 1].max(), edges[:, 2].min(), edges[:, 3].max()),
    )
    dark = np.argwhere(image < 100)
    around = np.array([dark[:, 0].min(), dark[:, 0].max() + 1, dark[:, 1].min(), dark[:, 1].max()])
    assert np.abs(np.array(field.box) - around).max() <= 4


def test_probabilities_are_probabilities() -> None:
    (field,) = fastdigit.read(written("80235")).fields
    assert 0.5 < field.probability <= 1
    shares = [share for _, share in field.alternatives]
    assert shares == sorted(shares, reverse=True)
    assert field.probability + sum(shares) <= 1 + 1e-9
    assert field.text not in [text for text, _ in field.alternatives]
    for digit in field.digits:
        assert 0.5 < digit.probability <= 1
        assert digit.label not in [label for label, _ in digit.alternatives]
        assert digit.probability + sum(share for _, share in digit.alternatives) <= 1 + 1e-6


@pytest.mark.parametrize(
    "image",
    [
        np.full((50, 80), 200, np.uint8),
        np.zeros((1, 1), np.uint8),
        np.full((3, 900), 255, np.uint8),
        np.random.default_rng(1).integers(200, 240, (90, 200), dtype=np.uint8),
    ],
    ids=["blank", "one pixel", "a strip", "noise"],
)
def test_without_digits_nothing_is_read(image: NDArray[np.uint8]) -> None:
    reading = fastdigit.read(image)
    assert reading.text == "" and reading.lines == () and reading.fields == ()


def test_weak_ink_is_found_in_noise_and_noise_alone_is_nothing() -> None:
    random = np.random.default_rng(4)
    field = written("4711")
    pencil = 200 - (240.0 - field) * 0.35
    noisy = (pencil + random.normal(0, 24, field.shape)).clip(0, 255).astype(np.uint8)
    assert fastdigit.read(noisy).text == "4711"
    for size, strength in itertools.product([(60, 90), (100, 320), (41, 88)], [6, 24, 40]):
        paper = (180 + random.normal(0, strength, size)).clip(0, 255).astype(np.uint8)
        assert fastdigit.read(paper).text == ""


def test_dashes_and_letters_are_left_out() -> None:
    from PIL import Image, ImageDraw, ImageFont

    line = written("20", gap=60)
    page = Image.fromarray(np.concatenate([line, written("46", 2)], axis=1))
    draw = ImageDraw.Draw(page)
    middle = line.shape[1] - 60
    draw.rectangle((middle, 46, middle + 30, 52), fill=30)
    assert fastdigit.read(np.asarray(page)).text.replace(" ", "") == "2046"
    page = Image.new("L", (520, 110), 240)
    ImageDraw.Draw(page).text((20, 20), "Kwagt", 30, ImageFont.load_default(70))
    word = fastdigit.read(np.asarray(page))
    # Strokes of letters are those of a 1; of the whole, it is not sure.
    assert len(word.text) < 5 and all(field.probability < 0.8 for field in word.fields)
    assert fastdigit.read(np.asarray(page), reject_below=0.8).text == ""
    assert fastdigit.read(line, reject_below=0.8).text == "20"


def test_polarity_size_and_colour_do_not_matter() -> None:
    image = written("73052")
    large = image.repeat(2, 0).repeat(2, 1)
    coloured = np.stack([image, image // 2 + 100, np.full_like(image, 230)], axis=-1)
    for other in (255 - image, large, coloured, image / 255.0, image.astype(np.uint16) * 257):
        assert fastdigit.read(other).text == "73052"


def test_a_file_and_its_bytes_are_read(tmp_path: Any) -> None:
    from PIL import Image

    image = written("1234")
    path = tmp_path / "field.png"
    Image.fromarray(image).save(path)
    expected = fastdigit.read(image)
    assert expected.text == "1234"
    assert fastdigit.read(path) == expected
    assert fastdigit.read(str(path)) == expected
    assert fastdigit.read(path.read_bytes()) == expected


def test_readings_do_not_depend_on_threads() -> None:
    images = [written(text, number) for number, text in enumerate(["111", "407", "5 62", "98"] * 3)]
    expected = [fastdigit.read(image) for image in images]
    assert [reading.text for reading in expected] == ["111", "407", "5 62", "98"] * 3
    found: dict[int, Reading] = {}

    def work(number: int) -> None:
        found[number] = fastdigit.read(images[number])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(len(images))] == expected
    assert read_many(iter(images), threads=2) == expected
    chosen = read_many(images[:2], threads=2, length=3)
    assert chosen == [fastdigit.read(image, length=3) for image in images[:2]]
    assert read_many([]) == []


def test_images_of_a_generator_are_taken_as_they_are_read() -> None:
    taken = 0
    read_then: list[int] = []

    def images() -> Iterator[NDArray[np.uint8]]:
        nonlocal taken
        for _ in range(30):
            taken += 1
            yield written("5")

    def counted(text: str) -> bool:
        read_then.append(taken)
        return True

    assert [reading.text for reading in read_many(images(), threads=2, check=counted)] == ["5"] * 30
    assert min(read_then) < 10


def test_of_many_images_the_first_bad_one_is_told() -> None:
    bad = np.zeros((4, 4), np.int32)
    for threads in (1, 2):
        with pytest.raises(InputError, match="dtype int32"):
            read_many([written("1"), bad, written("2")], threads=threads)


# ---- Options ----


def test_a_region_is_read_and_boxes_are_of_the_whole_image() -> None:
    image = written("12 34")
    (first, second) = fastdigit.read(image).fields
    top, bottom, left, right = second.box
    region = (top - 10, bottom + 10, left - 15, right + 15)
    (found,) = fastdigit.read(image, region=region).fields
    assert found.text == "34"
    assert np.abs(np.array(found.box) - second.box).max() <= 2
    assert first.text == "12"


def test_length_pattern_and_check_choose_among_readings() -> None:
    image = written("4921")
    (field,) = fastdigit.read(image).fields
    assert field.text == "4921"
    (same,) = fastdigit.read(image, length=4).fields
    assert same.digits == field.digits and same.probability == field.probability
    assert all(len(text) == 4 for text, _ in same.alternatives)
    assert fastdigit.read(image, pattern=r"\d{4}").text == "4921"
    assert fastdigit.read(image, pattern=re.compile("49.*")).text == "4921"
    (other,) = fastdigit.read(image, pattern=r"7\d{3}").fields
    assert other.text[0] == "7" and other.text[1:] == "921"
    assert other.probability < 0.1
    (valid,) = fastdigit.read(image, length=4, check="luhn").fields
    assert luhn(valid.text) and sum(a != b for a, b in zip(valid.text, "4921", strict=True)) == 1
    (second,) = fastdigit.read(image, length=4, check=lambda text: text != "4921").fields
    assert sum(a != b for a, b in zip(second.text, "4921", strict=True)) == 1


def test_of_a_field_that_cannot_fit_there_is_no_reading() -> None:
    assert fastdigit.read(written("12"), length=9).text == ""
    assert fastdigit.read(written("12"), check=lambda text: False).text == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "length=0, expected a number of digits"),
        ({"length": 2.5}, "length=2.5, expected"),
        ({"length": True}, "length=True, expected"),
        ({"pattern": "("}, "is no regular expression"),
        ({"pattern": 5}, "is no regular expression"),
        ({"pattern": b"1"}, "is no regular expression"),
        ({"pattern": ""}, "the pattern is empty"),
        ({"pattern": re.compile("")}, "the pattern is empty"),
        ({"check": ""}, "check='', expected"),
        ({"check": []}, "check=[], expected"),
        ({"check": "iban"}, "check='iban', expected 'luhn', 'mod11' or a function"),
        ({"reject_below": 1.5}, "reject_below=1.5, expected a number in 0..1"),
        ({"reject_below": float("nan")}, "reject_below=nan"),
        ({"reject_below": "x"}, "reject_below='x', expected a number in 0..1"),
        ({"reject_below": True}, "reject_below=True"),
        ({"page": 0}, "page=0, expected a number of a page"),
        ({"page": 1}, "page=1 is for files"),
        ({"region": (0, 10, 0)}, "expected four integers"),
        ({"region": (0, 1e9, 0, 5)}, "expected four integers"),
        ({"region": (0, 500, 0, 5)}, "is not inside an image of 100 x"),
        ({"region": (50, 50, 0, 5)}, "is not inside"),
        ({"region": (-1, 50, 0, 5)}, "is not inside"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        fastdigit.read(written("12"), **options)


def test_numbers_of_numpy_are_numbers() -> None:
    image = written("12")
    assert fastdigit.read(image, length=np.int64(2), reject_below=np.float32(0.1)).text == "12"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((0, 4), np.uint8), "has no pixels: its shape is (0, 4)"),
        (np.zeros((0, 0)), "has no pixels: its shape is (0, 0)"),
        (np.zeros((4, 4), np.int64), "dtype int64"),
        (np.full((4, 4), 200.0), "floats from 200 to 200, expected 0..1; divide by 255 first?"),
        (
            np.full((4, 4), 200, np.uint16),
            "no value above 200: if 255 is white",
        ),
        (np.full((4, 4), -1.0), "floats from -1 to -1, expected 0..1"),
        (np.full((4, 4), np.inf), "floats from inf to inf, expected 0..1"),
        (np.array([[0.5, np.nan]]), "has NaN among its floats, expected 0..1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arrays_that_are_no_picture_are_refused(bad: Any, message: str) -> None:
    for call in (fastdigit.read, fastdigit.normalize):
        with pytest.raises(InputError, match=re.escape(message)):
            call(bad)


def test_of_several_pages_one_is_chosen_and_never_in_silence(tmp_path: Any) -> None:
    from PIL import Image

    first, second = (Image.fromarray(written(text)) for text in ("12", "345"))
    path = tmp_path / "two.tif"
    first.save(path, save_all=True, append_images=[second])
    with pytest.raises(InputError, match="2 pages: choose one, page=1 to page=2"):
        fastdigit.read(path)
    assert fastdigit.read(path, page=1).text == "12"
    assert fastdigit.read(path.read_bytes(), page=2).text == "345"
    with pytest.raises(InputError, match="page=3, and the file has 2"):
        fastdigit.read(path, page=3)
    first.save(tmp_path / "one.tif")
    assert fastdigit.read(tmp_path / "one.tif").text == "12"


def test_pages_of_pdf_files_are_read(tmp_path: Any) -> None:
    need("pypdfium2")
    from PIL import Image

    first, second = (Image.fromarray(written(text)) for text in ("12", "345"))
    first.save(tmp_path / "one.pdf")
    first.save(tmp_path / "two.pdf", save_all=True, append_images=[second])
    assert fastdigit.read(tmp_path / "one.pdf").text == "12"
    assert fastdigit.read(tmp_path / "two.pdf", page=2).text == "345"
    with pytest.raises(InputError, match="2 pages"):
        fastdigit.read(tmp_path / "two.pdf")


@pytest.mark.parametrize(
    "one",
    [
        "file.png",
        b"bytes",
        np.zeros((20, 30), np.uint8),
        np.zeros((20, 30, 3), np.uint8),
    ],
    ids=["path", "bytes", "grey", "colour"],
)
def test_one_image_is_not_many(one: Any) -> None:
    with pytest.raises(InputError, match="this is one image: read_many takes a list"):
        read_many(one)
    with pytest.raises(InputError, match="the images are int"):
        read_many(7)  # type: ignore[arg-type]
    assert read_many(np.full((2, 30, 40), 255, np.uint8)) == [Reading(())] * 2


# ---- Parts ----


@pytest.mark.parametrize(
    ("number", "valid"),
    [("79927398713", True), ("79927398710", False), ("4539578763621486", True), ("0", False)],
)
def test_luhn(number: str, valid: bool) -> None:
    assert luhn(number) == valid


def test_mod11_is_that_of_the_isbn_where_weights_agree() -> None:
    # 1 to 6 digits before the check digit have weights 2 to 7, as ISBN-10 has for its last ones.
    for body in ("306", "99", "123456"):
        weighted = sum(int(digit) * (len(body) + 1 - at) for at, digit in enumerate(body))
        check = -weighted % 11
        if check < 10:
            assert mod11(body + str(check))
        assert not mod11(body + str((check + 1) % 11 % 10)) or check == 10
    assert not mod11("7") and not mod11("")


Graph = tuple[Candidates, "NDArray[np.float64]", list[float]]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Pieces, the candidates over them, and what a network might say: three labels of each."""
    pieces = draw(st.integers(1, 4))
    spans = [
        (start, end, draw(st.sampled_from([0, 2])))
        for end in range(1, pieces + 1)
        for start in range(end)
        if draw(st.booleans())
    ]
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    probabilities = np.zeros((len(spans), 11))
    for row in probabilities:
        row[[*random.choice(10, 3, replace=False), 10]] = random.dirichlet(np.full(4, 0.5))
    lengths = random.uniform(0, 1, pieces).tolist()
    rows = [(start, end, 0, 1, 0, 1, cut, 0) for start, end, cut in spans]
    table = np.array(rows, np.int32).reshape(len(rows), 8)
    return Candidates(table, []), probabilities, lengths


def every_reading(graph: Graph) -> dict[str, float]:
    """The best score of each text, by trying all."""
    candidates, probabilities, lengths = list(graph[0]), *graph[1:]

    def left_out(start: int, end: int) -> float:
        """The least loss of leaving out pieces, one by one or as what stands by itself."""
        losses = [left_out(start, end - 1) + LEFT_OUT * lengths[end - 1]] if end > start else [0.0]
        losses += [
            left_out(start, one.start) + ALONE_LEFT_OUT
            for one in candidates
            if one.end == end > start and one.start >= start and not one.cut
        ]
        return min(losses)

    best: dict[str, float] = {}
    numbers = range(len(candidates))
    for count in range(len(lengths) + 1):
        for chosen in itertools.combinations(numbers, count):
            run = [candidates[number] for number in chosen]
            if any(a.end > b.start for a, b in itertools.pairwise(run)):
                continue
            edges = [0, *(edge for one in run for edge in (one.start, one.end)), len(lengths)]
            lost = sum(left_out(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True))
            likely = [np.flatnonzero(probabilities[n, :10] >= LEAST) for n in chosen]
            for labels in itertools.product(*likely):
                gains = [
                    np.log(probabilities[n, label] / max(probabilities[n, 10], 1e-7))
                    for n, label in zip(chosen, labels, strict=True)
                ]
                text = "".join(map(str, labels))
                best[text] = max(best.get(text, -np.inf), sum(gains) - lost)
    return best


@settings(deadline=None, max_examples=100)
@given(graphs(), st.sampled_from([None, 1, 2]))
def test_the_search_finds_what_trying_everything_finds(graph: Graph, length: int | None) -> None:
    expected = sorted(
        (score for text, score in every_reading(graph).items() if length in (None, len(text))),
        reverse=True,
    )
    # Of so many different texts none is dropped on the way.
    found = best_paths(*graph, 10_000, length)
    assert all(isinstance(path, Path) for path in found)
    assert len({path.text for path in found}) == len(found)
    np.testing.assert_allclose([path.score for path in found], expected, atol=1e-9)
    few = best_paths(*graph, 3, length)
    assert [path.score for path in few] == [path.score for path in found[: len(few)]]
    assert len(few) == min(3, len(found))


def test_text_has_spaces_between_fields_and_newlines_between_lines() -> None:
    field = Field("7", 0.9, (0, 1, 0, 1), (), ())
    assert Reading(((field,), (field, field))).text == "7\n7 7"


@pytest.mark.parametrize("inset", range(-5, 4))
def test_cells_of_a_form_are_read_wherever_they_are_cut_out(inset: int) -> None:
    """On the frame, inside or outside it: a frame at the edge is not the paper."""
    need("PIL.Image")
    right = count = 0
    for image, text in make("boxes", 4, IMAGES, LABELS, 5, (4, 4)):
        inked = image < 120
        rows = np.flatnonzero(inked.mean(1) > 0.6)
        columns = np.flatnonzero(inked.mean(0) > 0.55)
        lefts = columns[np.diff(columns, prepend=-10) > 10]
        for left, right_edge, label in zip(lefts, lefts[1:], text, strict=False):
            region = (
                *(rows[0] + inset, rows[-1] + 1 - inset),
                *(left + inset, right_edge + 2 - inset),
            )
            count += 1
            right += fastdigit.read(image, region=region).text == label
    assert count == 16 and right >= 15
