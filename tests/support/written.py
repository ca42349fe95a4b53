"""Numbers written with MNIST's test digits, for tests of what reads them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastdigit.datasets import load_mnist_test

__all__ = ["written"]

STEP, LINE, SPACE, MARGIN = 22, 60, 60, 24


def written(text: str, *, first: int = 0) -> NDArray[np.uint8]:
    """A page with digits in fields and lines, black on white, as `text` has them.

    Parameters
    ----------
    text
        Digits; fields are separated by spaces, lines by newlines.
    first
        Digits of the test set that are passed over: other writers.
    """
    images, labels = load_mnist_test()
    images, labels = images[first:], labels[first:]
    lines: Sequence[str] = text.split("\n")
    width = max(sum(SPACE if c == " " else STEP for c in line) for line in lines)
    page = np.full((len(lines) * LINE + 2 * MARGIN, width + 2 * MARGIN + 28), 255, np.uint8)
    seen = dict.fromkeys("0123456789", 0)
    for row, line in enumerate(lines):
        x, y = MARGIN, MARGIN + row * LINE
        for character in line:
            if character == " ":
                x += SPACE
                continue
            # The next one that shows it.
            digit = images[np.flatnonzero(labels == int(character))[seen[character]]]
            seen[character] += 1
            part = page[y : y + 28, x : x + 28]
            np.minimum(part, 255 - digit, out=part)
            x += STEP
    return page
