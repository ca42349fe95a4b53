"""Reads a sheet of exam results: numbers of students, and points of each exercise, in ruled cells.

    python read_exam_sheet.py

It draws a sheet (exam.png), reads each cell, and adds up. Numbers of students end in a check digit
(mod 11), so a misread digit does not give another student's number.
"""

from __future__ import annotations

from handwriting import Writer, paper
from PIL import Image, ImageDraw

import fastdigit

ROWS = (
    ("2041735", "12", "7", "15", "4"),
    ("2068892", "9", "11", "3", "10"),
    ("2057109", "18", "20", "16", "14"),
    ("2013344", "6", "0", "8", "5"),
)
LEFT, TOP, ROW = 20, 20, 44
COLUMNS = (190, 70, 70, 70, 70)  # widths
LINE = 2  # a cell is read inside of its lines
SURE = 0.9

Box = tuple[int, int, int, int]


def cell(row: int, column: int) -> Box:
    """(top, bottom, left, right) of a cell, with its lines."""
    left = LEFT + sum(COLUMNS[:column])
    return TOP + row * ROW, TOP + (row + 1) * ROW + 1, left, left + COLUMNS[column] + 1


def with_check_digit(number: str) -> str:
    """A number with its last digit put right (weights 2 to 7 from the right, mod 11)."""
    total = sum(int(d) * (2 + n % 6) for n, d in enumerate(reversed(number[:-1])))
    digit = (11 - total % 11) % 11
    if digit == 10:
        raise ValueError(f"{number} cannot have a check digit")
    return number[:-1] + str(digit)


def draw(writer: Writer) -> Image.Image:
    sheet = paper(2 * LEFT + sum(COLUMNS), 2 * TOP + len(ROWS) * ROW)
    pen = ImageDraw.Draw(sheet)
    for row, (number, *points) in enumerate(ROWS):
        for column, text in enumerate((with_check_digit(number), *points)):
            top, bottom, left, right = cell(row, column)
            pen.rectangle((left, top, right - 1, bottom - 1), outline=90)
            writer.write(sheet, text, left + 12, top + 8)
    return sheet


def value(path: str, where: Box, **options: object) -> tuple[str, float]:
    """Text and probability of a cell; ("", 0) if nothing fits."""
    top, bottom, left, right = where
    inside = (top + LINE, bottom - LINE, left + LINE, right - LINE)
    fields = fastdigit.read(path, region=inside, **options).fields
    return (fields[0].text, fields[0].probability) if len(fields) == 1 else ("", 0.0)


def main() -> None:
    path = "exam.png"
    draw(Writer()).save(path)
    for row in range(len(ROWS)):
        number, probability = value(path, cell(row, 0), length=7, check="mod11")
        points, probabilities = zip(
            *(value(path, cell(row, n), pattern=r"1?\d|20") for n in range(1, len(COLUMNS))),
            strict=True,
        )
        least = min(probability, *probabilities)
        total = sum(int(text or 0) for text in points)
        shown = "  ".join(f"{text or '?':>2}" for text in points)
        note = "" if least >= SURE else f"  look at it ({least:.0%})"
        print(f"{number or '?':7}  {shown}  = {total:2}{note}")


if __name__ == "__main__":
    main()
