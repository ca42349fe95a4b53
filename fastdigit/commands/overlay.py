"""``fastdigit read --overlay DIR``: a page with what was read drawn over it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastdigit.reader import Reading

__all__ = ["save_overlay"]

DIGIT: Final = (214, 39, 40)
FIELD: Final = (31, 119, 180)
#: Of a label, in heights of its digit; and its least height in pixels.
LABEL: Final = 0.45
LEAST: Final = 10
#: Pixels of a page's longer side for each pixel that lines are wide.
SIDE_OF_LINE: Final = 700


def save_overlay(path: Path, pixels: NDArray[Any], reading: Reading) -> None:
    """Write a PNG file: the page with the box of each field, and box and label of each digit.

    Parameters
    ----------
    path
        Of the file; its folder is made.
    pixels
        The page, as :func:`fastdigit.images.decode` returns it.
    reading
        What was read there.
    """
    from PIL import Image, ImageDraw, ImageFont

    page = Image.fromarray(pixels).convert("RGBA")
    page = Image.alpha_composite(Image.new("RGBA", page.size, "white"), page).convert("RGB")
    draw = ImageDraw.Draw(page)
    width = 1 + max(page.size) // SIDE_OF_LINE
    for field in reading.fields:
        top, bottom, left, right = field.box
        # Around the boxes of its digits.
        edge = 2 * width
        outline = (left - edge, top - edge, right - 1 + edge, bottom - 1 + edge)
        draw.rectangle(outline, outline=FIELD, width=width)
        size = max(LEAST, round(LABEL * (bottom - top)))
        font = ImageFont.load_default(size)
        # Above the field, or below it where there is no room.
        above = top - edge - size - width
        at = above if above >= 0 else bottom + edge + width
        for digit in field.digits:
            top, bottom, left, right = digit.box
            draw.rectangle((left, top, right - 1, bottom - 1), outline=DIGIT, width=width)
            draw.text(((left + right) / 2, at), str(digit.label), DIGIT, font, anchor="ma")
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path, "PNG")
