"""Draws the pictures of read.md: ``python docs/images/reading.py`` writes read-*.png.

The pages are those of the examples, in MNIST's handwriting; what is drawn over them is what
``fastdigit read --overlay`` draws.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import fastdigit
from fastdigit.commands.overlay import save_overlay

HERE = Path(__file__).parent
PAPER = 215  # grey values above are paper and noise
sys.path.insert(0, str(HERE.parents[1] / "examples" / "python"))


def main() -> None:
    import read_exam_sheet
    import read_zip_codes
    from handwriting import Writer

    envelope = read_zip_codes.draw(*read_zip_codes.ENVELOPES[1], Writer())
    sheet = read_exam_sheet.draw(Writer())
    for name, page in (("envelope", envelope), ("exam", sheet)):
        path = HERE / f"read-{name}.png"
        pixels = np.asarray(page)
        reading = fastdigit.read(pixels)
        # Without the paper's noise and with fewer colours, a file has a fraction of the size.
        save_overlay(path, np.where(pixels > PAPER, 235, pixels).astype(np.uint8), reading)
        with Image.open(path) as drawn:
            small = drawn.quantize(16, dither=Image.Dither.NONE)
        small.save(path, optimize=True)


if __name__ == "__main__":
    main()
