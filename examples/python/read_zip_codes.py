"""Reads the ZIP codes of envelopes: fields of five digits, wherever they are.

    python read_zip_codes.py [PICTURE ...]

Without pictures, it draws three envelopes (zip-0.png to zip-2.png) and reads those.
"""

from __future__ import annotations

import sys

from handwriting import Writer, paper
from PIL import Image, ImageDraw, ImageFont

import fastdigit

SURE = 0.9
ENVELOPES = (("11", "20742"), ("1600", "98101"), ("350", "60614"))


def draw(number: str, code: str, writer: Writer) -> Image.Image:
    """An envelope: a name, a street with its number, a ZIP code."""
    page = paper(420, 220)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(20)
    pen.text((150, 40), "Ms A. Miller", 60, font)
    pen.text((150, 80), "Main Street", 60, font)
    writer.write(page, number, 280, 76)
    writer.write(page, code, 150, 130, size=36)
    return page


def zip_codes(path: str) -> list[str]:
    """Those that are sure: words may be taken for five digits, too, but hardly for sure."""
    fields = fastdigit.read(path, pattern=r"\d{5}", reject_below=SURE).fields
    return [field.text for field in fields]


def main() -> None:
    paths = sys.argv[1:]
    if not paths:
        writer = Writer()
        for place, (number, code) in enumerate(ENVELOPES):
            draw(number, code, writer).save(f"zip-{place}.png")
            paths.append(f"zip-{place}.png")
    for path in paths:
        print(f"{path}: {', '.join(zip_codes(path)) or 'no ZIP code that is sure'}")


if __name__ == "__main__":
    main()
