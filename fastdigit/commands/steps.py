"""``fastdigit predict --save-steps DIR``: a drawing of how a digit was found in a picture."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastdigit.errors import NotOneDigitError
    from fastdigit.images import Steps

__all__ = ["save_refusal", "save_steps"]

SIDE: Final = 224
MARGIN: Final = 8
TITLE: Final = 18
# Of a line of text.
LETTERS: Final = 34
RED: Final = (220, 40, 40)
GREY: Final = (90, 90, 90)


def save_steps(path: Path, steps: Steps, probabilities: NDArray[np.float32]) -> None:
    """Write a PNG file: the picture with the digit's box, ink, digit, what the network sees, and
    the probabilities."""
    panels = (
        ("picture, and the digit's box", steps.grey),
        ("ink", steps.ink),
        (f"digit ({steps.lines} lines removed)", steps.digit),
        ("what the network sees", steps.image / 255),
    )
    sheet, draw = _sheet(panels)
    scale = SIDE / max(steps.grey.shape)
    top, bottom, left, right = (round(n * scale) for n in steps.box_in_grey)
    first, start = MARGIN + TITLE, MARGIN
    draw.rectangle((start + left, first + top, start + right, first + bottom), outline=RED)
    _bars(draw, MARGIN + len(panels) * (SIDE + MARGIN), probabilities)
    _save(sheet, path)


def save_refusal(path: Path, error: NotOneDigitError) -> None:
    """Write a PNG file of a picture that shows no digit, or several: the picture, the ink that was
    found, if any was, and the reason."""
    panels = [
        (title, values)
        for title, values in (("picture", error.grey), ("ink", error.ink))
        if values is not None
    ]
    sheet, draw = _sheet(panels)
    reason = "\n".join(textwrap.wrap(str(error), LETTERS))
    draw.multiline_text((MARGIN + len(panels) * (SIDE + MARGIN), MARGIN + TITLE), reason, RED)
    _save(sheet, path)


def _sheet(panels: Sequence[tuple[str, NDArray[Any]]]) -> tuple[Any, Any]:
    """Titles and values, 0 to 1, side by side with room for one more; and what draws on it."""
    from PIL import Image, ImageDraw

    size = (len(panels) + 1) * (SIDE + MARGIN) + MARGIN, SIDE + TITLE + 2 * MARGIN
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for number, (title, values) in enumerate(panels):
        left, top = MARGIN + number * (SIDE + MARGIN), MARGIN + TITLE
        draw.text((left, MARGIN), title, GREY)
        scale = SIDE / max(values.shape)
        height, width = (max(1, round(n * scale)) for n in values.shape)
        pixels = np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
        sheet.paste(Image.fromarray(pixels).resize((width, height)), (left, top))
    return sheet, draw


def _save(sheet: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, "PNG")


def _bars(draw: Any, left: int, probabilities: NDArray[np.float32]) -> None:
    draw.text((left, MARGIN), "probabilities", GREY)
    height = SIDE // len(probabilities)
    for label, value in enumerate(probabilities.tolist()):
        top = MARGIN + TITLE + label * height
        draw.text((left, top + height // 4), f"{label}  {value:.1%}", GREY)
        end = left + 64 + round((SIDE - 64) * value)
        draw.rectangle((left + 64, top + 3, end, top + height - 3), fill=GREY)
