"""Ink becomes a picture as people have them, and the picture what a network sees.

Ink is float64, 0 to 1, of any shape: a pen's or a printer's, of MNIST's digits or drawn. What
happens to it here is what happens to ink: strokes swell or fade, break, blur; lines are left in the
cell; a scanner makes pixels of it, a file compresses them.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

import fastdigit
from fastdigit.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["enlarged", "is_found", "photographed", "seen", "swollen", "worn"]

#: Rows of the picture, from a small scan to a large one.
SIDES = (14, 72)
#: Least cosine between a normalized picture and the ink that it was made of.
ALIKE = 0.72


def enlarged(digit: NDArray[np.uint8], side: int = 84) -> Floats:
    """A digit of MNIST with the edges of a pen."""
    from PIL import Image

    big = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    return np.clip((np.asarray(big) / 255 - 0.5) * 2.5 + 0.5, 0, 1)


def swollen(ink: Floats, pixels: int) -> Floats:
    """Strokes that many pixels wider on each side; narrower if negative."""
    from PIL import Image, ImageFilter

    page = Image.fromarray(np.uint8(np.rint(255 * ink)))
    for step in range(abs(pixels)):
        # Squares and crosses in turn are nearly round.
        if step % 2:
            page = page.filter(ImageFilter.MaxFilter(3) if pixels > 0 else ImageFilter.MinFilter(3))
        else:
            values = np.asarray(page)
            around = np.pad(values, 1)
            shifted = [around[1:-1, :-2], around[1:-1, 2:], around[:-2, 1:-1], around[2:, 1:-1]]
            best = np.maximum if pixels > 0 else np.minimum
            for other in shifted:
                values = best(values, other)
            page = Image.fromarray(values)
    return np.asarray(page) / 255.0


def worn(ink: Floats, random: np.random.Generator) -> Floats:
    """Strokes that swell, fade, break or blur, most of them one of these."""
    from PIL import Image, ImageFilter

    kind = random.random()
    if kind < 0.45:
        ink = swollen(ink, int(random.integers(1, 7)))
    elif kind < 0.6:
        thin = swollen(ink, -int(random.integers(1, 4)))
        ink = thin if thin.sum() > 0.25 * ink.sum() else ink
    elif kind < 0.75:
        height, width = ink.shape
        y, x = np.indices(ink.shape)
        angle, shift = random.uniform(0, np.pi), random.uniform(-0.25, 0.25)
        away = (x / width - 0.5) * np.cos(angle) + (y / height - 0.5) * np.sin(angle) - shift
        ink = ink * (np.abs(away) > random.uniform(0.006, 0.02))
    if random.random() < 0.4:
        page = Image.fromarray(np.uint8(np.rint(255 * ink)))
        radius = random.uniform(0.5, 3.5)
        ink = np.asarray(page.filter(ImageFilter.GaussianBlur(radius))) / 255.0
        ink = ink / max(ink.max(), 0.2)
    return ink


def photographed(ink: Floats, random: np.random.Generator) -> NDArray[np.uint8]:
    """A grey picture: cropped, of some size, light or dark ink, with noise or compression."""
    from PIL import Image

    rows, columns = np.flatnonzero((ink > 0.3).any(1)), np.flatnonzero((ink > 0.3).any(0))
    if not len(rows):
        return np.zeros((28, 28), np.uint8)
    margin = int(random.choice([0, 2, 8, 20]))
    ink = np.pad(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], margin)
    side = float(np.exp(random.uniform(*np.log(SIDES))))
    scale = side / max(ink.shape)
    size = (max(4, round(ink.shape[1] * scale)), max(4, round(ink.shape[0] * scale)))
    page = Image.fromarray(np.uint8(np.rint(255 * ink))).resize(size, Image.Resampling.BOX)
    values: Any = np.asarray(page) / 255.0
    if random.random() < 0.15:
        values = (values > 0.5) * 1.0
    black, white = random.uniform(0, 70), random.uniform(185, 255)
    values = white + (black - white) * values
    if random.random() < 0.5:
        values = values + random.normal(0, random.uniform(1, 14), values.shape)
    pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    if random.random() < 0.3:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=int(random.integers(15, 70)))
        pixels = np.asarray(Image.open(file))
    return 255 - pixels if random.random() < 0.3 else pixels


def seen(picture: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """What the network sees of a picture, 28x28; None where no single digit can be found."""
    try:
        image = fastdigit.normalize(picture)
    except InputError:
        return None
    if image.dtype != np.uint8:
        image = np.uint8(np.rint(255 * image))
    return image.reshape(28, 28)


def is_found(image: NDArray[np.uint8], ink: Floats) -> bool:
    """Whether a normalized picture shows the ink that it was made of, and not a part or a stain."""
    from PIL import Image, ImageFilter

    page = Image.fromarray(np.uint8(np.rint(255 * np.pad(ink, 10))))
    page.thumbnail((56, 56), Image.Resampling.BOX)
    clean = seen(np.asarray(page))
    if clean is None:
        return False
    soft = ImageFilter.GaussianBlur(1)
    a, b = (
        np.asarray(Image.fromarray(part).filter(soft), np.float64).ravel()
        for part in (image, clean)
    )
    return bool(a @ b >= ALIKE * np.linalg.norm(a) * np.linalg.norm(b))
