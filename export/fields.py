"""Fields of handwritten digits, as on forms, cheques and answer sheets, made of single ones.

Each pixel of a field knows which digit it belongs to, so that what a reader cuts out can be told
from what it should have cut out. Digits stand apart, close, touching or overlapping, in boxes,
combs and frames or on a line, slanted, bold, thin, uneven; with letters and dashes between them;
scanned or photographed.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["NOTHING", "OTHER", "Field", "field"]

#: Owner of pixels of the paper and of ruled lines; label of letters and dashes.
NOTHING: Final = -1
OTHER: Final = 10

# Fonts that come with Matplotlib.
FAMILIES: Final = ("DejaVu Sans", "DejaVu Serif", "STIXGeneral", "cmr10", "cmss10", "cmtt10")
# What no one takes for a digit.
LETTERS: Final = "ABCDEFGHJKLMNPQRTUVWXYabcdefghjkmnpqrtuvwxy&%#@?+=*/€$"
LETTER_SIZE: Final = 44
# Ink above is a pixel's own; of digits in their boxes; and of neighbours.
OWN, SOLID = 0.2, 0.3

#: How digits stand, and how often.
SPACINGS: Final = {
    "wide": 0.20,
    "close": 0.20,
    "touching": 0.22,
    "overlapping": 0.16,
    "boxes": 0.14,
    "comb": 0.08,
}
#: From one digit to the next, in thirds of a pixel of MNIST; negative: they share ink.
GAPS: Final = {"wide": (8, 32), "close": (2, 7), "touching": (-3, 1), "overlapping": (-11, -3)}


@dataclass(frozen=True, eq=False)
class Field:
    """A picture of some digits.

    Attributes
    ----------
    grey
        uint8 (height, width): dark ink on light paper.
    owner
        int16 (height, width): of each pixel the number of its digit, or NOTHING.
    labels
        Of each digit, from left to right; OTHER for what is none.
    """

    grey: NDArray[np.uint8]
    owner: NDArray[np.int16]
    labels: tuple[int, ...]


def field(
    images: NDArray[np.uint8],
    labels: NDArray[np.integer],
    random: np.random.Generator,
    spacings: Mapping[str, float] = SPACINGS,
) -> Field:
    """Make a field of 2 to 7 of the digits.

    Parameters
    ----------
    images
        uint8 (N, 28, 28), white on black.
    labels
        (N,)
    random
        Where the randomness comes from; the result is a function of its state.
    spacings
        How digits stand, and how often.
    """
    while True:
        made = _Maker(random, spacings).make(images, labels)
        if made is not None:
            return made


class _Maker:
    def __init__(self, random: np.random.Generator, spacings: Mapping[str, float]) -> None:
        self.random = random
        self.scale = random.uniform(1.0, 3.2)
        self.unit = self.scale / 3
        self.shear = random.normal(0, 0.12) + (random.random() < 0.2) * 0.3
        self.bold = int(random.choice([0, 0, 0, 1, 2, 3]))
        if self.scale < 1.7:
            self.bold = min(self.bold, 1)
        self.spacing = str(random.choice(list(spacings), p=list(spacings.values())))
        self.uneven = random.random() < 0.25
        # Beside numbers stand words.
        self.letters = 0.85 if random.random() < 0.12 else 0.07

    def make(self, images: NDArray[np.uint8], labels: NDArray[np.integer]) -> Field | None:
        random, unit = self.random, self.unit
        inks: list[Floats] = []
        kinds: list[int] = []
        for pick in random.integers(0, len(images), random.integers(2, 8)):
            one = self._one(images[pick], int(labels[pick]))
            if one is not None:
                inks.append(one[0])
                kinds.append(one[1])
        if not inks:
            return None
        rise = int((14 if self.uneven else random.choice([2, 4, 7])) * unit)
        frames = self._raised(inks, rise)
        cell = frames[0].shape[0]
        margin = int(random.integers(6, 30) * max(unit, 0.4)) + 2
        boxed = self.spacing in ("boxes", "comb")
        pitch = max(f.shape[1] for f in frames) + int(random.integers(8, 30) * unit) + 3
        lefts = self._lefts(frames, margin, pitch)
        width = (
            2 * margin + pitch * len(frames) + 8
            if boxed
            else max(x + f.shape[1] for x, f in zip(lefts, frames, strict=True)) + margin
        )
        ink = np.zeros((cell + 2 * margin, width))
        owner = np.full(ink.shape, NOTHING, np.int16)
        for number, (x, frame) in enumerate(zip(lefts, frames, strict=True)):
            below = ink[margin : margin + cell, x : x + frame.shape[1]]
            own = owner[margin : margin + cell, x : x + frame.shape[1]]
            frame = frame[:, : below.shape[1]]
            own[(frame > below) & (frame > OWN)] = number
            np.maximum(below, frame, out=below)
        ink *= random.uniform(0.7, 1)
        lines = self._lines(ink.shape, margin, cell, rise, pitch, len(frames))
        owner[lines > ink] = NOTHING
        grey, owner = self._taken(np.maximum(ink, lines), owner)
        return Field(grey, owner, tuple(kinds))

    def _one(self, image: NDArray[np.uint8], label: int) -> tuple[Floats, int] | None:
        """The ink of a digit, or of what is none instead, in its box; and its label."""
        random, scale = self.random, self.scale
        chance = random.random()
        if chance < self.letters:
            letters = _letters()
            source = letters[random.integers(len(letters))]
            scale *= 20 / LETTER_SIZE * random.uniform(0.8, 1.2)
            label = OTHER
        elif chance < self.letters + 0.03:
            source = np.pad(np.ones((random.integers(3, 6), random.integers(3, 14))), 3)
            label = OTHER
        else:
            source = image / 255.0
            scale *= random.uniform(0.75, 1.25) if self.uneven else random.uniform(0.95, 1.05)
        shear = self.shear + random.normal(0, 0.04)
        ink = _enlarged(source, scale, shear, random.normal(0, 0.04))
        from scipy import ndimage

        if self.bold == 1:
            ink = ndimage.grey_dilation(ink, footprint=ndimage.generate_binary_structure(2, 1))
        elif self.bold:
            ink = ndimage.grey_dilation(ink, size=(self.bold, self.bold))
        solid = ink > SOLID
        rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
        if len(rows) < 3:
            return None
        return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], label

    def _raised(self, inks: list[Floats], rise: int) -> list[Floats]:
        """All in frames of one height, each a little up or down."""
        cell = max(ink.shape[0] for ink in inks) + 2 * rise + 2
        frames = []
        for ink in inks:
            top = (cell - len(ink)) // 2 + int(self.random.integers(-rise, rise + 1))
            top = min(max(top, 0), cell - len(ink))
            frame = np.zeros((cell, ink.shape[1]))
            frame[top : top + len(ink)] = ink
            frames.append(frame)
        return frames

    def _lefts(self, frames: list[Floats], margin: int, pitch: int) -> list[int]:
        random, unit = self.random, self.unit
        lefts: list[int] = []
        x = margin
        for number, frame in enumerate(frames):
            if self.spacing in ("boxes", "comb"):
                aside = int(random.integers(-6, 7) * unit)
                middle = margin + number * pitch + (pitch - frame.shape[1]) // 2
                lefts.append(max(0, middle + aside))
                continue
            if number:
                low, high = GAPS[self.spacing] if random.random() >= 0.15 else (2, 20)
                gap = random.uniform(low, high) * unit
                # Digits that lean over each other may stand closer than their boxes.
                if self.spacing != "wide" or random.random() < 0.5:
                    gap -= _room(frames[number - 1], frame)
                x = max(x + round(gap), lefts[-1] + 2)
            lefts.append(x)
            x += frame.shape[1]
        return lefts

    def _lines(
        self, shape: tuple[int, ...], margin: int, cell: int, rise: int, pitch: int, count: int
    ) -> Floats:
        """Ruled lines: a baseline, a frame, boxes, or a comb."""
        random, unit = self.random, self.unit
        lines = np.zeros(shape)
        thick = max(1, round(random.uniform(1, 3.2) * max(unit, 0.5)))
        dark = random.uniform(0.5, 0.95)
        if self.spacing not in ("boxes", "comb"):
            if random.random() < 0.2:
                y = margin + cell - rise - int(random.integers(0, int(5 * unit) + 1))
                y = min(max(y, 0), shape[0] - thick - 1)
                lines[y : y + thick, 4:-4] = dark
            if random.random() < 0.12:
                edge = int(random.integers(1, max(2, margin // 2)))
                lines[edge : edge + thick, edge:-edge] = dark
                lines[-edge - thick : -edge, edge:-edge] = dark
                lines[edge:-edge, edge : edge + thick] = dark
                lines[edge:-edge, -edge - thick : -edge] = dark
            return lines
        first = max(0, margin - int(6 * unit) - 1)
        last = min(shape[0], margin + cell + int(6 * unit) + 1)
        for number in range(count + 1):
            x = max(0, margin + number * pitch - thick // 2)
            whole = self.spacing == "boxes" or number in (0, count)
            lines[first if whole else last - int(22 * unit) : last, x : x + thick] = dark
        lines[last - thick : last, margin : margin + count * pitch] = dark
        if self.spacing == "boxes":
            lines[first : first + thick, margin : margin + count * pitch] = dark
        return lines

    def _taken(
        self, ink: Floats, owner: NDArray[np.int16]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
        """As a scanner or a camera takes it: pencil, uneven light, blur, noise, specks."""
        from scipy import ndimage

        random, unit = self.random, self.unit
        if random.random() < 0.25:
            ink = ndimage.gaussian_filter(ink, random.uniform(0.3, 0.9) * max(unit, 0.5))
            ink = ink * random.uniform(0.4, 0.9) * (0.8 + 0.2 * random.random(ink.shape))
        paper = np.full(ink.shape, random.uniform(0.6, 0.97))
        black = random.uniform(0.02, 0.25)
        if random.random() < 0.2:
            height, width = ink.shape
            ys, xs = np.mgrid[:height, :width]
            turned = random.uniform(0, 2 * np.pi)
            fall = np.cos(turned) * xs / width + np.sin(turned) * ys / height
            paper = np.clip(0.78 - 0.3 * fall, 0.3, 0.95)
            angle = random.uniform(-3, 3)
            ink = np.clip(ndimage.rotate(ink, angle, reshape=False, order=1), 0, 1)
            owner = ndimage.rotate(owner, angle, reshape=False, order=0, cval=NOTHING)
            ink = ndimage.gaussian_filter(ink, random.uniform(0.3, 1.4) * max(unit, 0.4))
        grey = paper * (1 - ink) + black * ink * paper
        grey = grey + random.normal(0, random.choice([0.01, 0.01, 0.03, 0.08]), grey.shape)
        if random.random() < 0.1:
            specks = ndimage.binary_dilation(random.random(grey.shape) < 0.0008)
            grey = np.where(specks, 0.25, grey)
        return np.clip(np.rint(255 * grey), 0, 255).astype(np.uint8), owner


def _enlarged(source: Floats, scale: float, shear: float, angle: float) -> Floats:
    from scipy import ndimage

    high, wide = source.shape
    shape = int(high * scale * 1.5) + 4, int((wide + abs(shear) * high) * scale * 1.6) + 4
    cosine, sine = np.cos(angle), np.sin(angle)
    back = np.array([[cosine, -sine], [sine, cosine]]) @ np.array([[1, 0], [shear, 1]]) / scale
    middle = (np.array(source.shape) - 1) / 2
    offset = middle - back @ ((np.array(shape) - 1) / 2)
    order = 1 if scale < 1.2 else 3
    large = ndimage.affine_transform(source, back, offset, output_shape=shape, order=order)
    # Strokes of a pen have edges; enlarged pixels do not.
    edged: Floats = np.clip((np.clip(large, 0, 1) - 0.5) * 1.8 + 0.5, 0, 1)
    return edged


def _room(left: Floats, right: Floats) -> int:
    """By how many columns ``right`` may move to the left until ink meets ink."""
    before, behind = left > SOLID, right > SOLID
    both = before.any(1) & behind.any(1)
    if not both.any():
        return 0
    free = before[:, ::-1].argmax(1) + behind.argmax(1)
    return int(free[both].min())


@functools.cache
def _letters() -> list[Floats]:
    from matplotlib import font_manager
    from PIL import Image, ImageDraw, ImageFont

    files = {
        font.fname: None
        for font in font_manager.fontManager.ttflist
        if any(name in font.name for name in FAMILIES) and "Display" not in font.name
    }
    found = []
    for file in sorted(files, key=lambda path: path.rpartition("/")[2])[:14]:
        font = ImageFont.truetype(file, LETTER_SIZE)
        for letter in LETTERS:
            page = Image.new("L", (70, 70))
            ImageDraw.Draw(page).text((8, 5), letter, 255, font=font)
            ink = np.asarray(page) / 255.0
            if ink.max() > 0.5:
                ys, xs = np.nonzero(ink > SOLID)
                found.append(ink[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1])
    return found
