"""Reads a sudoku that is filled in by hand, and solves it.

    python read_sudoku.py [PICTURE]

The grid is as large as the picture. Without a picture, it draws one (sudoku.png) and reads that.
"""

from __future__ import annotations

import sys

import numpy as np
from handwriting import Writer, paper
from PIL import Image, ImageDraw

import fastdigit

SIDE, CELL = 9, 40
LINE = 2  # half of a line's width, and a little
GIVEN = """\
53..7....
6..195...
.98....6.
8...6...3
4..8.3..1
7...2...6
.6....28.
...419..5
....8..79"""


def draw(writer: Writer) -> Image.Image:
    """The puzzle as somebody wrote it down."""
    page = paper(SIDE * CELL, SIDE * CELL)
    pen = ImageDraw.Draw(page)
    for n in range(SIDE + 1):
        at, width = min(n * CELL, SIDE * CELL - 1), 1 if n % 3 else 3
        pen.line((at, 0, at, SIDE * CELL), 70, width)
        pen.line((0, at, SIDE * CELL, at), 70, width)
    for row, line in enumerate(GIVEN.splitlines()):
        for column, digit in enumerate(line):
            if digit != ".":
                writer.write(page, digit, column * CELL + 6, row * CELL + 6)
    return page


def grid_of(picture: Image.Image) -> list[list[int]]:
    """The digits in their cells, each read inside of its lines; 0 where there is none."""
    pixels = np.asarray(picture.convert("RGB"))
    height, width, _ = pixels.shape
    grid = [[0] * SIDE for _ in range(SIDE)]
    for row in range(SIDE):
        for column in range(SIDE):
            top, bottom = (n * height // SIDE for n in (row, row + 1))
            left, right = (n * width // SIDE for n in (column, column + 1))
            inside = (top + LINE, bottom - LINE, left + LINE, right - LINE)
            fields = fastdigit.read(pixels, region=inside, pattern="[1-9]").fields
            best = max(fields, key=lambda field: field.probability, default=None)
            if best is not None and best.probability > 0.5:
                grid[row][column] = int(best.text)
    return grid


def possible(grid: list[list[int]], row: int, column: int) -> set[int]:
    """What may stand in a cell beside all others."""
    top, left = row // 3 * 3, column // 3 * 3
    square = [(top + n // 3, left + n % 3) for n in range(SIDE)]
    beside = [(row, n) for n in range(SIDE)] + [(n, column) for n in range(SIDE)] + square
    return set(range(1, 10)) - {grid[r][c] for r, c in beside if (r, c) != (row, column)}


def solve(grid: list[list[int]]) -> bool:
    """Fill in what is missing; False if there is no way."""
    cells = [(row, column) for row in range(SIDE) for column in range(SIDE)]
    if any(grid[r][c] and grid[r][c] not in possible(grid, r, c) for r, c in cells):
        return False
    return fill(grid, [(r, c) for r, c in cells if not grid[r][c]])


def fill(grid: list[list[int]], free: list[tuple[int, int]]) -> bool:
    if not free:
        return True
    row, column = min(free, key=lambda cell: len(possible(grid, *cell)))
    rest = [cell for cell in free if cell != (row, column)]
    for digit in sorted(possible(grid, row, column)):
        grid[row][column] = digit
        if fill(grid, rest):
            return True
    grid[row][column] = 0
    return False


def show(grid: list[list[int]]) -> None:
    for line in grid:
        print(" ".join(str(digit or ".") for digit in line))


def main() -> int:
    path = "sudoku.png"
    if len(sys.argv) > 1:
        path = sys.argv[1]
    else:
        draw(Writer(1)).save(path)
    with Image.open(path) as picture:
        grid = grid_of(picture)
    show(grid)
    print()
    if not solve(grid):
        print("There is no solution: a digit was misread, or the picture is not cut at the grid.")
        return 1
    show(grid)
    return 0


if __name__ == "__main__":
    sys.exit(main())
