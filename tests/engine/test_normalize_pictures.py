"""Digits are found in pictures as people have them: light, lines, colours, strokes, neighbours."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fastdigit
from fastdigit.cli import main
from fastdigit.datasets import load_mnist_test
from fastdigit.errors import InputError, NotOneDigitError
from tests.support import ROOT, need
from tests.support.pictures import KINDS, make

need("PIL")

DIGITS, LABELS = load_mnist_test()
COUNT = 12

#: Of COUNT, for kinds of which not all are read.
FEWER = {"lamp": 9, "fog": 8, "dark-table": 10, "inverted-stripe": 10}


def read(pixels: np.ndarray) -> int:
    try:
        return int(fastdigit.predict(fastdigit.normalize(pixels)[None])[0])
    except InputError:
        return -1


@pytest.mark.parametrize("kind", KINDS)
def test_digits_are_found_in(kind: str) -> None:
    count = 4 if kind == "photograph" else COUNT
    got = [read(pixels) for pixels in make(kind, DIGITS[:count])]
    right = sum(a == b for a, b in zip(got, LABELS.tolist(), strict=False))
    assert right >= FEWER.get(kind, count - 1), f"{right} of {count}: {got}"


def on_paper(*digits: int, across: bool = True) -> np.ndarray:
    """Digits in a row or in a column, dark on white."""
    glyphs = [DIGITS[number].repeat(4, 0).repeat(4, 1) for number in digits]
    return 255 - np.pad(np.concatenate(glyphs, axis=1 if across else 0), 20)


def close_together(*digits: int, wide: int) -> np.ndarray:
    """Digits in a row, two pixels apart."""
    columns = [DIGITS[number][:, DIGITS[number].any(axis=0)] for number in digits]
    large = [digit.repeat(2, 0).repeat(2, 1) for digit in columns]
    row = np.concatenate([np.pad(digit, ((0, 0), (0, 2))) for digit in large], axis=1)
    return 255 - np.pad(row, ((20, 20), (16, wide - 16 - row.shape[1])))


@pytest.mark.parametrize(
    ("pixels", "count"),
    [
        (on_paper(0, 1), 2),
        (on_paper(0, 1, 4), 3),
        (np.concatenate([on_paper(0, 1, 4), on_paper(7, 3, 1)]), 6),
        (on_paper(0, 1, 3, across=False), 3),
        # Gaps of two pixels, where marks are told apart on cells of four.
        (close_together(0, 1, 4, 7, 2, wide=500), 5),
    ],
)
def test_several_digits_are_counted_and_refused(pixels: np.ndarray, count: int) -> None:
    with pytest.raises(InputError, match=rf"several digits \({count} marks") as refused:
        fastdigit.normalize(pixels)
    for what in ("fastdigit.read,", "the command fastdigit read", "POST /read"):
        assert what in str(refused.value)


def ellipse(
    paper: np.ndarray, high: float, wide: float, width: float, gap: float = 0.0
) -> np.ndarray:
    """With a dark ellipse in the middle, open at the right by that part of a turn."""
    y, x = np.indices(paper.shape) - (np.array(paper.shape)[:, None, None] - 1) / 2
    away = np.hypot(y / high, x / wide)
    inside = np.hypot(y / (high - width), x / (wide - width)) >= 1
    closed = np.abs(np.arctan2(y, x)) >= np.pi * gap
    return np.where((away <= 1) & inside & closed, 30, paper).astype(np.uint8)


def sure(pictures: list[np.ndarray], least: float = 0.9) -> list[int]:
    """What each shows; -1 where that is not as probable."""
    batch = np.stack([fastdigit.normalize(pixels) for pixels in pictures])
    return fastdigit.predict(batch, reject_below=least).tolist()


# 7, 2, 1, 0, 4, 5, 9, 6, 3, 8.
ONE_OF_EACH = (0, 1, 2, 3, 4, 15, 16, 21, 18, 61)


@pytest.mark.parametrize(
    ("high", "wide", "width", "gap"),
    [
        (76, 76, 3, 0),
        (90, 90, 14, 0),
        (70, 84, 6, 0),
        (84, 66, 6, 0),
        (76, 76, 6, 0.1),
        (104, 104, 4, 0),  # the picture cuts it off on all sides
    ],
)
def test_a_ring_around_a_digit_is_taken_out(high: int, wide: int, width: int, gap: float) -> None:
    pictures = [
        ellipse(np.pad(on_paper(number), 24, mode="edge"), high, wide, width, gap)
        for number in ONE_OF_EACH
    ]
    assert sure(pictures) == LABELS[list(ONE_OF_EACH)].tolist()
    # Two digits in a ring are still two.
    with pytest.raises(InputError, match="several digits"):
        fastdigit.normalize(ellipse(np.pad(on_paper(0, 4), 80, constant_values=255), 140, 140, 5))


@pytest.mark.parametrize("mark", ["nothing", "dot", "slash"])
def test_a_zero_is_no_ring(mark: str) -> None:
    """Be there a dot in it, or a slash that is joined to it or not."""
    zero = ellipse(np.full((120, 100), 255, np.uint8), 48, 34, 8)
    y, x = np.indices(zero.shape) - np.array([59.5, 49.5])[:, None, None]
    if mark == "dot":
        zero[np.hypot(y, x) < 10] = 30
    for reach in (20, 26, 40) if mark == "slash" else (0,):
        picture = zero.copy()
        if mark == "slash":
            picture[(np.abs(y + 1.2 * x) < 5) & (np.hypot(y, x) < reach)] = 30
        steps = fastdigit.explain(picture)
        assert steps.lines == 0 and steps.digit.max() > 0.9
        assert np.abs(np.array(steps.box) - (12, 108, 16, 84)).max() <= 1


def test_lines_below_a_digit_are_taken_out() -> None:
    """As wide as it, a little aslant, or two; thin or as bold as strokes."""
    for width, lines, rise in [(3, 1, 0), (10, 1, 0), (5, 2, 0), (5, 1, 0.05)]:
        pictures = []
        for number in ONE_OF_EACH:
            picture = np.pad(on_paper(number), ((0, 30), (0, 0)), constant_values=255)
            inked = np.argwhere(picture < 128)
            (_, left), (low, right) = inked.min(axis=0), inked.max(axis=0)
            y, x = np.indices(picture.shape)
            within = (x > (left + right) / 2 - 35) & (x < (left + right) / 2 + 35)
            for line in range(lines):
                top = low + 18 + 2 * width * line + rise * (x - (left + right) / 2)
                picture[within & (y >= top) & (y < top + width)] = 30
            pictures.append(picture)
        assert sure(pictures) == LABELS[list(ONE_OF_EACH)].tolist(), (width, lines, rise)


def test_the_base_of_a_broken_two_is_no_line_below_it() -> None:
    two = np.full((120, 100), 255, np.uint8)
    two[20:28, 25:70] = two[20:60, 62:70] = 0
    two[52:60, 25:70] = two[52:94, 25:33] = 0
    two[94:102, 25:70] = 0
    two[91:94] = 255  # of strokes that are 8 pixels wide
    steps = fastdigit.explain(two)
    assert steps.lines == 0
    assert np.abs(np.array(steps.box) - (20, 102, 25, 70)).max() <= 1


def test_pieces_of_a_frame_are_no_digits() -> None:
    pictures = []
    for number in ONE_OF_EACH:
        picture = np.pad(on_paper(number), 4, mode="edge")
        picture[12:148, 12:15] = picture[12:15, 12:80] = 40
        picture[145:148, 12:148] = picture[60:148, 145:148] = 40
        pictures.append(picture)
    assert sure(pictures, 0.5) == LABELS[list(ONE_OF_EACH)].tolist()


LIGHTS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "even": lambda x, y: np.ones_like(x),
    "from one side": lambda x, y: 1 - 0.4 * x,
    "from a corner": lambda x, y: 1 - 0.25 * x - 0.25 * y,
    "vignette": lambda x, y: 1 - 0.5 * ((x - 0.4) ** 2 + (y - 0.5) ** 2),
}


@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize("shape", [(200, 160), (100, 100), (64, 64)])
@pytest.mark.parametrize("noise", [1.5, 4, 8])
def test_empty_paper_is_refused(light: str, shape: tuple[int, int], noise: float) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        y, x = np.indices(shape) / max(shape)
        paper = 210 * LIGHTS[light](x, y) + rng.normal(0, noise, shape)
        with pytest.raises(InputError, match="nothing stands out"):
            fastdigit.normalize(np.clip(paper, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("light", LIGHTS)
def test_faint_ink_is_not_taken_for_empty_paper(light: str) -> None:
    rng = np.random.default_rng(0)
    y, x = np.indices((140, 140)) / 140
    ink = np.pad(DIGITS[0].repeat(4, 0).repeat(4, 1), 14) / 255
    paper = 210 * LIGHTS[light](x, y) * (1 - 0.2 * ink) + rng.normal(0, 4, ink.shape)
    assert read(np.clip(paper, 0, 255).astype(np.uint8)) == LABELS[0]


def test_a_line_that_crosses_a_stroke_leaves_it_whole() -> None:
    picture = np.full((100, 100), 255, np.uint8)
    picture[15:85, 46:54] = 0
    picture[60:62] = 60
    steps = fastdigit.explain(picture)
    assert steps.lines == 1
    assert (steps.digit[15:85, 46:54] > 0.7).all() and steps.digit[60:62, :40].max() == 0
    top, bottom, left, right = steps.box
    assert (top, bottom) == (15, 85) and abs(left - 46) <= 1 and abs(right - 54) <= 1


def test_the_boldest_of_parallel_lines_is_the_digit() -> None:
    """If nothing is left without all of them; lines that go through the same rows are no less
    different for it."""
    picture = np.full((100, 100), 255, np.uint8)
    picture[:, 46:54] = 0
    for left in (10, 25, 75, 90):
        picture[:, left : left + 2] = 0
    steps = fastdigit.explain(picture)
    assert steps.lines == 4
    assert np.abs(np.array(steps.box) - (0, 100, 46, 54)).max() <= 1


@pytest.mark.parametrize("side", [16, 28, 100])
def test_a_one_that_fills_the_picture_is_no_line(side: int) -> None:
    picture = np.full((side, side // 2), 255, np.uint8)
    middle, width = side // 4, max(2, side // 10)
    picture[:, middle - width // 2 : middle - width // 2 + width] = 0
    assert read(picture) == 1


def test_ink_of_12_bits_in_16_is_seen() -> None:
    Image = need("PIL.Image")
    import io

    words = DIGITS[0].astype(np.uint16).repeat(4, 0).repeat(4, 1) * 4 + 1000
    file = io.BytesIO()
    Image.fromarray(words).save(file, "PNG")
    assert fastdigit.predict(fastdigit.normalize(file.getvalue())[None])[0] == LABELS[0]


def test_the_box_is_in_pixels_of_the_picture() -> None:
    picture = np.full((1200, 900), 240, np.uint8)
    picture[500:560, 300:310] = 10
    steps = fastdigit.explain(picture)
    assert np.abs(np.array(steps.box) - (500, 560, 300, 310)).max() <= 2


def test_steps_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image = need("PIL.Image")
    path = tmp_path / "seven.png"
    Image.fromarray(on_paper(0)).save(path)
    assert main(["predict", str(path), "--save-steps", str(tmp_path / "steps")]) == 0
    assert " 7 " in capsys.readouterr().out
    drawn = np.asarray(Image.open(tmp_path / "steps" / "001-seven.png.png"))
    assert drawn.shape[1] > 5 * drawn.shape[0] / 2 and (drawn == (220, 40, 40)).all(2).any()
    assert main(["predict", "--no-normalize", str(path), "--save-steps", str(tmp_path)]) == 2
    assert "--normalize does" in capsys.readouterr().err


def test_refused_pictures_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the ink that was found; the error has both."""
    Image = need("PIL.Image")
    two, none = tmp_path / "two.png", tmp_path / "none.png"
    Image.fromarray(on_paper(0, 4)).save(two)
    Image.fromarray(np.full((90, 90), 220, np.uint8)).save(none)
    assert main(["predict", str(two), str(none), "--save-steps", str(tmp_path / "steps")]) == 1
    assert "several digits" in capsys.readouterr().err
    widths = []
    for name in ("001-two.png.png", "002-none.png.png"):
        drawn = np.asarray(Image.open(tmp_path / "steps" / name))
        assert (drawn[..., 0] > drawn[..., 1] + 60.0).any()  # the reason, in red
        widths.append(drawn.shape[1])
    assert widths[0] > widths[1]
    with pytest.raises(NotOneDigitError, match="several digits") as refused:
        fastdigit.explain(two)
    assert refused.value.grey is not None and refused.value.ink is not None
    assert refused.value.grey.shape == refused.value.ink.shape
    assert refused.value.ink.max() > 0.9
    with pytest.raises(NotOneDigitError, match="nothing stands out") as refused:
        fastdigit.explain(none)
    assert refused.value.grey is not None and refused.value.ink is None
    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)


def test_the_benchmark_runs() -> None:
    command = [sys.executable, "benchmarks/pictures.py", "--count", "2", "black-on-white", "frame"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == ["black-on-white", "frame"]
