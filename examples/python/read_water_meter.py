"""Reads a water meter: the digits in its window, of which the last three are litres.

    python read_water_meter.py [PICTURE TOP,BOTTOM,LEFT,RIGHT]

The numbers say where the window is, in pixels. Without a picture, it draws a meter (meter.png).
The networks learned handwriting: of printed digits, a 1 with a flag is often taken for a 7. A wheel
between two digits is neither; look at what is not sure.
"""

from __future__ import annotations

import sys

from PIL import Image, ImageDraw, ImageFont

import fastdigit

WHEELS, LITRES = 8, 3
WINDOW = (110, 160, 46, 354)  # top, bottom, left, right
READING = "00384256"


def draw(text: str) -> Image.Image:
    """A round dial with its make and a number, and wheels behind a window."""
    meter = Image.new("RGB", (400, 300), (70, 74, 80))
    pen = ImageDraw.Draw(meter)
    pen.ellipse((10, -40, 390, 340), (226, 228, 230), (120, 120, 120), 6)
    pen.text((200, 60), "AQUA 3000  Qn 2.5", (40, 40, 40), ImageFont.load_default(18), "mm")
    pen.text((372, 136), "m3", (40, 40, 40), ImageFont.load_default(16), "mm")
    top, bottom, left, right = WINDOW
    pen.rectangle((left, top, right - 1, bottom - 1), (24, 24, 26))
    wheel = (right - left) / WHEELS
    for place, digit in enumerate(text):
        middle = left + round((place + 0.5) * wheel), (top + bottom) // 2
        colour = (240, 240, 240) if place < WHEELS - LITRES else (250, 120, 110)
        pen.text(middle, digit, colour, ImageFont.load_default(34), "mm")
    return meter


def main() -> int:
    if len(sys.argv) > 2:
        path = sys.argv[1]
        top, bottom, left, right = map(int, sys.argv[2].split(","))
    else:
        path = "meter.png"
        top, bottom, left, right = WINDOW
        draw(READING).save(path)
    found = fastdigit.read(path, length=WHEELS, region=(top, bottom, left, right)).fields
    if len(found) != 1:
        print(f"{path}: no {WHEELS} digits in one row there")
        return 1
    (field,) = found
    whole, litres = field.text[:-LITRES], field.text[-LITRES:]
    print(f"{path}: {int(whole)}.{litres} m3 ({field.probability:.1%})")
    for place, digit in enumerate(field.digits, 1):
        if digit.probability < 0.9:
            print(f"  look at wheel {place}: {digit.label}, {digit.probability:.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
