"""The digits that benchmarks make pictures of, and sheets of the pictures that were misread."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastdigit.datasets import load_mnist_test

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["add_options", "draw_sheet", "load"]

GAP, CAPTION = 8, 14


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which digits, and where to draw what was misread."""
    parser.add_argument("--images", type=Path, help="uncompressed IDX file")
    parser.add_argument("--labels", type=Path, help="uncompressed IDX file")
    parser.add_argument(
        "--sheet", type=Path, metavar="PNG", help="draw the misread ones, those read surest first"
    )


def load(options: argparse.Namespace) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images, uint8 (N, 28, 28), and labels, uint8 (N,): MNIST's test digits unless told."""
    if (options.images is None) != (options.labels is None):
        raise SystemExit("--images and --labels go together")
    if options.images is None:
        return load_mnist_test()
    images = np.frombuffer(options.images.read_bytes(), np.uint8, offset=16).reshape(-1, 28, 28)
    return images, np.frombuffer(options.labels.read_bytes(), np.uint8, offset=8)


def draw_sheet(
    path: Path, pictures: Iterable[tuple[NDArray[Any], str]], cell: tuple[int, int], columns: int
) -> None:
    """Draw pictures in rows, each fitted into ``cell`` (width, height) over its caption."""
    from PIL import Image, ImageDraw

    pictures = list(pictures)
    width, height = cell[0] + GAP, cell[1] + CAPTION + GAP
    rows = -(-len(pictures) // columns)
    sheet = Image.new("L", (columns * width + GAP, rows * height + GAP), 128)
    draw = ImageDraw.Draw(sheet)
    for number, (pixels, caption) in enumerate(pictures):
        x, y = GAP + number % columns * width, GAP + number // columns * height
        picture = Image.fromarray(pixels).convert("L")
        # Small pictures are enlarged without smoothing, so that their pixels can be seen.
        scale = min(cell[0] / picture.width, cell[1] / picture.height)
        resample = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
        size = (round(picture.width * scale) or 1, round(picture.height * scale) or 1)
        sheet.paste(picture.resize(size, resample), (x, y))
        draw.text((x, y + cell[1] + 1), caption, fill=255)
    # Few greys suffice, and make a file that one wants to keep.
    sheet.quantize(8).save(path, optimize=True)
