"""A picture of one digit, made to look like those of MNIST, step by step.

The network for digits was trained on MNIST, whose images were all prepared the same way: "The
original black and white (bilevel) images from NIST were size normalized to fit in a 20x20 pixel box
while preserving their aspect ratio. The resulting images contain grey levels as a result of the
anti-aliasing technique used by the normalization algorithm. The images were centered in a 28x28
image by computing the center of mass of the pixels, and translating the image so as to position
this point at the center of the 28x28 field" (Y. LeCun, C. Cortes, C. J. C. Burges, the MNIST
database; the same in LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to
Document Recognition", Proceedings of the IEEE 86(11), 1998, section III.A). :func:`normalize` does
that to a picture, after finding out which of its pixels are ink.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fastdigit.errors import NotOneDigitError
from fastdigit.images import _pixels
from fastdigit.images.around import without_marks_around
from fastdigit.images.components import digit_of, marks_of
from fastdigit.images.ink import INK, checked, grey_of, ink_of, reduced
from fastdigit.images.lines import without_lines
from fastdigit.images.reading import check_no_page, decode
from fastdigit.images.strokes import in_range

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastdigit.images.arrays import Floats

__all__ = ["Steps", "explain", "normalize"]

SIDE: Final = 28
BOX: Final = 20
# A picture is averaged down until neither side is longer.
WORKING_SIDE: Final = 256
# A digit of fewer pixels is looked at again, more closely.
TOO_SMALL: Final = 64


@dataclass(frozen=True, eq=False)
class Steps:
    """What :func:`normalize` made of a picture, step by step.

    Attributes
    ----------
    grey
        One value a pixel, of the part of the picture that was looked at, reduced.
    ink
        How much ink there is in each pixel, 0 to 1.
    digit
        The same without lines, dirt and neighbours.
    lines
        How many lines, rings and pieces of frames were removed.
    box
        (top, bottom, left, right) of the digit, in pixels of the picture.
    box_in_grey
        The same in those of ``grey``, ``ink`` and ``digit``.
    stroke_width
        In pixels, when the digit fills a box of 20x20. MNIST has 1.4 to 4.6; what is far from that
        is made thicker or thinner.
    image
        uint8 (28, 28): what the network sees.
    """

    grey: Floats
    ink: Floats
    digit: Floats
    lines: int
    box: tuple[int, int, int, int]
    box_in_grey: tuple[int, int, int, int]
    stroke_width: float
    image: NDArray[np.uint8]


def normalize(
    image: NDArray[Any] | bytes | str | os.PathLike[str], *, page: int | None = None
) -> NDArray[np.uint8]:
    """Make a picture of one digit look like those of MNIST.

    Parameters
    ----------
    image
        Pixels as an array: (height, width), or with a last axis of 1 (grey), 2 (grey, alpha),
        3 (RGB) or 4 (RGBA); uint8, uint16, bool, or floats in 0..1. Or an image file: its bytes, or
        its path; see :func:`fastdigit.images.decode`.
    page
        Of a TIFF file of several pages, or an animation (GIF, WebP, AVIF), from 1. None: there is
        one; of several, none is chosen in silence.

    Returns
    -------
    ndarray
        uint8 of shape (28, 28): the digit white on black, in a box of 20x20, with its centre of
        mass in the middle.

    Raises
    ------
    InputError
        The array has another shape, dtype or range; the file is not a picture, or has several
        pages and none is chosen.
    NotOneDigitError
        There is no digit: nothing stands out from the paper; or there are several. It is an
        InputError that has ``grey`` and ``ink`` of :class:`Steps`, to look at.
    MissingExtraError
        A file is to be read and Pillow is not installed.
    OSError
        The file cannot be read.

    Notes
    -----
    Each step can be looked at: see :func:`explain`. Ink is what is narrower than strokes can be and
    differs from the paper around it, in brightness or, where that is the same, in colour; so
    shadows, the table beside the paper and uneven light do no harm. Straight lines that go on
    beyond the digit, or are thinner than its strokes, are removed except where strokes cross them.
    So are rings around the digit, lines below it, and pieces of frames, if they do not touch it.
    What the border cuts off is taken for a neighbour's, and small marks for dirt. Strokes that are
    thinner or bolder than MNIST's are brought into its range.

    It finds a digit, and does not know whether it is one: a letter becomes an image as well.
    """
    return explain(image, page=page).image


def explain(
    image: NDArray[Any] | bytes | str | os.PathLike[str], *, page: int | None = None
) -> Steps:
    """Return what :func:`normalize` makes of a picture, step by step.

    Parameters and errors are those of :func:`normalize`.
    """
    check_no_page(image, page)
    pixels = checked(image if isinstance(image, np.ndarray) else decode(image, page=page))
    steps = _steps(pixels, (0, 0))
    top, bottom, left, right = steps.box
    size = max(bottom - top, right - left)
    height, width, _ = pixels.shape
    block = -(-max(height, width) // WORKING_SIDE)
    if block > 1 and size < TOO_SMALL * block:
        margin = size // 2 + block
        first, start = max(0, top - margin), max(0, left - margin)
        part = pixels[first : bottom + margin, start : right + margin]
        steps = _steps(part, (first, start))
    return steps


def _steps(pixels: NDArray[Any], at: tuple[int, int]) -> Steps:
    """The steps on a part of the picture that begins there."""
    grey = grey_of(reduced(pixels, WORKING_SIDE))
    ink = None
    try:
        ink = ink_of(grey)
        digit, lines = _digit_of(ink)
    except NotOneDigitError as error:
        error.grey, error.ink = grey, ink
        raise
    within = _pixels.box(digit, INK)
    assert within is not None, "marks are made of ink"
    top, bottom, left, right = within
    image, width = _placed(digit, within)
    block = -(-max(pixels.shape[:2]) // WORKING_SIDE)
    box = (
        at[0] + top * block,
        at[0] + min(bottom * block, pixels.shape[0]),
        at[1] + left * block,
        at[1] + min(right * block, pixels.shape[1]),
    )
    return Steps(grey, ink, digit, lines, box, within, width, image)


def _digit_of(ink: Floats) -> tuple[Floats, int]:
    """The digit's ink, and how many lines, rings and pieces of frames were removed."""
    clean, lines = without_lines(ink)
    marks = marks_of(clean)
    if len(marks.ink) > 1:
        clean, marks, around = without_marks_around(clean, marks)
        lines += around
    return digit_of(clean, marks), lines


def _placed(digit: Floats, within: tuple[int, int, int, int]) -> tuple[NDArray[np.uint8], float]:
    """In a box of 20x20 in 28x28, by whole pixels, so that nothing is blurred again; and the width
    that its strokes had."""
    small = _pixels.fitted(digit, within, BOX)
    width = _pixels.mean_width(small)
    changed = in_range(digit, within, width, BOX)
    if changed is not None:
        small = _pixels.fitted(changed, (0, changed.shape[0], 0, changed.shape[1]), BOX)
    return _pixels.placed(small, SIDE), width
