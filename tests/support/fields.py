"""Fields of handwritten digits, as on forms, cheques and answer sheets, made by code from 28x28
digits: thirteen kinds.

``make(kind, count, images, labels, seed)`` is deterministic. Digits are about 60 pixels high, dark
on light paper, 3 to 8 a field. `benchmarks/read.py` scores :func:`fastdigit.read` on them; training
knows none of this (:mod:`export.fields` makes its own).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tests.support import need

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["HARD", "KINDS", "make"]

KINDS: Final = (
    *("spaced", "tight", "touching", "overlapping", "slanted", "baseline", "boxes"),
    *("comb", "frame", "noisy", "photo", "pencil", "uneven"),
)
#: Those whose digits share ink.
HARD: Final = ("touching", "overlapping")

SCALE: Final = 3
MARGIN: Final = 24
LINE: Final = 2
SLANT: Final = 0.35
INKED: Final = 0.3
#: Columns between digits, from and below; with True, from where ink would meet ink.
GAPS: Final = {
    "spaced": (14, 32, False),
    "slanted": (8, 16, True),
    "tight": (2, 6, True),
    "touching": (-2, 0, True),
    "overlapping": (-9, -4, True),
}
ELSE: Final = (8, 24, False)


def make(
    kind: str,
    count: int,
    images: NDArray[np.uint8],
    labels: NDArray[Any],
    seed: int = 0,
    length: tuple[int, int] = (3, 8),
) -> Iterator[tuple[NDArray[np.uint8], str]]:
    """Fields, uint8 (height, width), and what they say."""
    random = np.random.default_rng([seed, KINDS.index(kind)])
    for _ in range(count):
        chosen = random.integers(0, len(images), random.integers(length[0], length[1] + 1))
        text = "".join(str(int(labels[number])) for number in chosen)
        yield _Field(kind, random).drawn([images[number] for number in chosen]), text


class _Field:
    def __init__(self, kind: str, random: np.random.Generator) -> None:
        self.kind, self.random = kind, random
        self.boxed = kind in ("boxes", "comb")
        self.rise = 14 if kind == "uneven" else 4

    def drawn(self, digits: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        random, rise = self.random, self.rise
        inks = [self._ink(digit) for digit in digits]
        cell = max(len(ink) for ink in inks) + 2 * rise + 2
        frames = []
        for ink in inks:
            top = (cell - len(ink)) // 2 + int(random.integers(-rise, rise + 1))
            frame = np.zeros((cell, ink.shape[1]))
            frame[top : top + len(ink)] = ink
            frames.append(frame)
        pitch = max(frame.shape[1] for frame in frames) + 22
        lefts = self._lefts(frames, pitch)
        end = MARGIN + pitch * len(frames) if self.boxed else lefts[-1] + frames[-1].shape[1]
        page = np.zeros((cell + 2 * MARGIN, end + MARGIN))
        for left, frame in zip(lefts, frames, strict=True):
            below = page[MARGIN : MARGIN + cell, left : left + frame.shape[1]]
            np.maximum(below, frame[:, : below.shape[1]], out=below)
        page *= random.uniform(0.75, 1)
        self._rule(page, cell, pitch, len(frames))
        return self._taken(page)

    def _ink(self, digit: NDArray[np.uint8]) -> Floats:
        Image = need("PIL.Image")
        scale = SCALE * (self.random.uniform(0.75, 1.25) if self.kind == "uneven" else 1)
        side = round(28 * scale)
        large = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
        if self.kind == "slanted":
            wide = 2 * side
            middle = Image.new("L", (wide, side))
            middle.paste(large, (side // 2, 0))
            slant = (1, SLANT, -SLANT * side / 2, 0, 1, 0)
            how = Image.Transform.AFFINE, slant, Image.Resampling.BILINEAR
            large = middle.transform((wide, side), *how)
        # A pen's strokes have edges; enlarged pixels do not.
        ink = np.clip((np.asarray(large) / 255 - 0.5) * 1.8 + 0.5, 0, 1)
        rows, columns = np.flatnonzero((ink > INKED).any(1)), np.flatnonzero((ink > INKED).any(0))
        return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

    def _lefts(self, frames: list[Floats], pitch: int) -> list[int]:
        if self.boxed:
            aside = self.random.integers(-5, 6, len(frames))
            return [
                MARGIN + number * pitch + (pitch - frame.shape[1]) // 2 + int(by)
                for number, (frame, by) in enumerate(zip(frames, aside, strict=True))
            ]
        low, high, close = GAPS.get(self.kind, ELSE)
        lefts = [MARGIN]
        for before, behind in itertools.pairwise(frames):
            gap = int(self.random.integers(low, high)) - (_room(before, behind) if close else 0)
            lefts.append(lefts[-1] + before.shape[1] + gap)
        first = min(lefts)
        return [left - first + MARGIN for left in lefts]

    def _rule(self, page: Floats, cell: int, pitch: int, count: int) -> None:
        lines = np.zeros_like(page)
        if self.kind == "baseline":
            row = MARGIN + cell - self.rise - int(self.random.integers(0, 4))
            lines[row : row + LINE, 6:-6] = 0.7
        elif self.kind == "frame":
            lines[8:-8, 8:-8] = 0.8
            lines[8 + LINE : -8 - LINE, 8 + LINE : -8 - LINE] = 0
        elif self.boxed:
            first, last = MARGIN - 6, MARGIN + cell + 6
            for number in range(count + 1):
                at = MARGIN + number * pitch
                whole = self.kind == "boxes" or number in (0, count)
                lines[first if whole else last - 22 : last, at - 1 : at - 1 + LINE] = 0.8
            lines[last - LINE : last, MARGIN : MARGIN + count * pitch] = 0.8
            if self.kind == "boxes":
                lines[first : first + LINE, MARGIN : MARGIN + count * pitch] = 0.8
        np.maximum(page, lines, out=page)

    def _taken(self, ink: Floats) -> NDArray[np.uint8]:
        random = self.random
        paper: Floats = np.full(ink.shape, 0.94)
        noise = 0.01
        if self.kind == "pencil":
            ink = _blurred(ink, 0.6) * random.uniform(0.35, 0.5)
            ink *= 0.75 + 0.25 * random.random(ink.shape)
        elif self.kind == "photo":
            rows, columns = np.mgrid[: ink.shape[0], : ink.shape[1]]
            across, down = random.uniform(0, 2 * np.pi, 2)
            fall = np.cos(across) * columns / ink.shape[1] + np.sin(down) * rows / ink.shape[0]
            paper = np.clip(0.78 - 0.3 * fall, 0.3, 0.95)
            ink = _blurred(_rotated(ink, random.uniform(-3, 3)), 1.2)
            noise = 0.03
        elif self.kind == "noisy":
            noise = 0.08
        grey = paper * (1 - 0.9 * ink) + random.normal(0, noise, ink.shape)
        if self.kind == "noisy":
            specks = np.pad(random.random(grey.shape) < 0.0008, 1)
            rows = specks[:-2] | specks[1:-1] | specks[2:]
            crosses = rows[:, 1:-1] | specks[1:-1, :-2] | specks[1:-1, 2:]
            grey = np.where(crosses, 0.25, grey)
        return np.clip(np.rint(255 * grey), 0, 255).astype(np.uint8)


def _room(left: Floats, right: Floats) -> int:
    """By how many columns ``right`` may move over ``left`` until their ink meets."""
    before, behind = left > INKED, right > INKED
    both = before.any(1) & behind.any(1)
    if not both.any():
        return 0
    return int((before[:, ::-1].argmax(1) + behind.argmax(1))[both].min())


def _blurred(ink: Floats, sigma: float) -> Floats:
    filters = need("PIL.ImageFilter")
    image = need("PIL.Image").fromarray(np.rint(255 * ink).astype(np.uint8))
    return np.asarray(image.filter(filters.GaussianBlur(sigma))) / 255


def _rotated(ink: Floats, degrees: float) -> Floats:
    Image = need("PIL.Image")
    image = Image.fromarray(np.rint(255 * ink).astype(np.uint8))
    return np.asarray(image.rotate(degrees, Image.Resampling.BILINEAR)) / 255
