"""What is no digit but looks as if it were made of strokes: what a reader meets beside digits.

Letters come from :mod:`export.pictures.drawn` and :mod:`export.pictures.printed`. Here: several
digits, pieces of one, digits that lie on their side or are crossed out, punctuation, remains of
lines and frames, scribbles. Pieces that are a digit by themselves (half of an 8 is a 3, the
leg of a 9 a 1) are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["crossed_out", "lines", "lying", "mark", "pair", "piece", "scribble"]

#: Halves that a reader would take for a digit.
DIGIT_LIKE: Final = {
    "left": (1, 6), "right": (1, 3, 4, 7, 8, 9), "top": (0, 1, 2, 3, 8, 9),
    "bottom": (1, 4, 6, 7, 8, 9),
}  # fmt: skip
#: Digits that lie on their side and look upright.
SAME_LYING: Final = (0,)


def _boxed(ink: Floats) -> Floats:
    rows, columns = np.flatnonzero((ink > 0.3).any(1)), np.flatnonzero((ink > 0.3).any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def pair(inks: list[Floats], random: np.random.Generator) -> Floats:
    """Several digits side by side: apart, touching or overlapping, not quite on one line."""
    parts = [_boxed(ink) for ink in inks]
    height = max(part.shape[0] for part in parts) + 12
    page = np.zeros((height, sum(part.shape[1] for part in parts) + 40))
    x = 0
    for part in parts:
        y = int(random.integers(0, height - part.shape[0] + 1))
        end = x + part.shape[1]
        page[y : y + part.shape[0], x:end] = np.maximum(page[y : y + part.shape[0], x:end], part)
        x = max(x + part.shape[1] // 3, end + int(random.integers(-14, 9)))
    return np.pad(page, 4)


def piece(ink: Floats, digit: int, random: np.random.Generator) -> Floats | None:
    """A half of a digit, more or less; None where that is a digit too."""
    part = _boxed(ink)
    height, width = part.shape
    share = random.uniform(0.35, 0.6)
    side = str(random.choice(sorted(DIGIT_LIKE)))
    if digit in DIGIT_LIKE[side]:
        return None
    rows, columns = round(height * share), round(width * share)
    kept = {
        "left": np.s_[:, :columns],
        "right": np.s_[:, width - columns :],
        "top": np.s_[:rows],
        "bottom": np.s_[height - rows :],
    }[side]
    half = part[kept]
    return np.pad(half, 6) if (half > 0.5).sum() > 30 else None


def lying(ink: Floats, digit: int, random: np.random.Generator) -> Floats | None:
    """A digit on its side."""
    if digit in SAME_LYING:
        return None
    return np.rot90(ink, 1 if random.random() < 0.5 else 3)


def crossed_out(ink: Floats, random: np.random.Generator) -> Floats:
    """A digit under strokes that go to and fro."""
    part = np.pad(_boxed(ink), 8)
    height, width = part.shape
    turns = int(random.integers(2, 6))
    x = np.where(np.arange(turns + 1) % 2, random.uniform(0.75, 1.0), random.uniform(0, 0.25))
    y = np.linspace(random.uniform(0.05, 0.3), random.uniform(0.7, 0.95), turns + 1)
    return np.maximum(part, _stroke(part.shape, x * width, y * height, random))


def scribble(random: np.random.Generator) -> Floats:
    """A pen that wanders."""
    n = int(random.integers(7, 16))
    x, y = random.uniform(12, 84, n), random.uniform(12, 84, n)
    return _stroke((96, 96), x, y, random)


def _stroke(shape: tuple[int, ...], x: Floats, y: Floats, random: np.random.Generator) -> Floats:
    from PIL import Image, ImageDraw

    page = Image.new("L", (shape[1], shape[0]))
    points = [(float(a), float(b)) for a, b in zip(x, y, strict=True)]
    width = int(random.integers(3, 10))
    ImageDraw.Draw(page).line(points, fill=255, width=width, joint="curve")
    return np.asarray(page) / 255.0


def lines(random: np.random.Generator) -> Floats:
    """What is left of a form: frames, corners, crossings, rules, dashes; no upright line alone."""
    from PIL import Image, ImageDraw

    page = Image.new("L", (96, 96))
    pencil = ImageDraw.Draw(page)
    width = int(random.integers(2, 9))
    left, right = sorted(random.uniform(10, 86, 2))
    top, bottom = sorted(random.uniform(10, 86, 2))
    right, bottom = max(right, left + 25), max(bottom, top + 25)
    if (right - left) < 0.8 * (bottom - top):  # a narrow frame is a 0
        bottom = top + (right - left) / 0.8
    wide, high = (left, right), (top, bottom)
    kind = int(random.integers(7))

    def across(y: float, span: tuple[float, float] = wide) -> None:
        pencil.line((span[0], y, span[1], y + random.uniform(-4, 4)), fill=255, width=width)

    def upright(x: float, span: tuple[float, float] = high) -> None:
        pencil.line((x, span[0], x + random.uniform(-4, 4), span[1]), fill=255, width=width)

    if kind == 0:
        pencil.rectangle((left, top, right, bottom), outline=255, width=width)
    elif kind == 1:
        across(bottom)  # a corner above on the right is a 7
        upright(left if random.random() < 0.5 else right)
    elif kind == 2:
        across((top + bottom) / 2)
        upright((left + right) / 2)
    elif kind == 3:
        across(top)
        across(bottom)
    elif kind == 4:
        upright(left)
        upright(right)
    elif kind == 5:
        across(bottom)
        upright(left)
        upright(right)
    else:
        across((top + bottom) / 2)
    return np.asarray(page) / 255.0


def mark(random: np.random.Generator) -> Floats:
    """A dot, a comma, dashes, a colon, a bracket of dots, a blot."""
    from PIL import Image, ImageDraw

    page = Image.new("L", (96, 96))
    pencil = ImageDraw.Draw(page)

    def dot(x: float, y: float, size: float) -> None:
        wide, high = size * random.uniform(0.7, 1.3), size * random.uniform(0.7, 1.3)
        pencil.ellipse((x - wide, y - high, x + wide, y + high), fill=255)

    kind = int(random.integers(5))
    if kind == 0:
        dot(48, 48, random.uniform(4, 24))
    elif kind == 1:
        dot(48, 40, 9)
        pencil.polygon([(56, 40), (44, 62), (40, 60), (48, 44)], fill=255)
    elif kind == 2:
        for y in (28, 68):
            dot(48, y, random.uniform(5, 12))
    elif kind == 3:
        for x in (20, 48, 76):
            dot(x, 48, random.uniform(5, 10))
    else:
        for _ in range(int(random.integers(3, 8))):
            dot(*random.uniform(30, 66, 2), random.uniform(4, 16))
    return np.asarray(page) / 255.0
