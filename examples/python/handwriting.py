"""Numbers in other people's handwriting, for the examples that read pictures.

The digits are MNIST's test digits, which come with fastdigit.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from fastdigit.datasets import load_mnist_test


class Writer:
    """Writes numbers on pictures, never the same digit twice.

    Parameters
    ----------
    seed
        The same seed gives the same handwriting.
    """

    def __init__(self, seed: int = 0) -> None:
        images, labels = load_mnist_test()
        order = np.random.default_rng(seed).permutation(len(labels))
        self._waiting = {str(n): list(images[order[labels[order] == n]]) for n in range(10)}

    def write(
        self, page: Image.Image, text: str, left: int, top: int, size: int = 28, step: int = 0
    ) -> None:
        """Write digits side by side.

        Parameters
        ----------
        page
            A grey picture, darker where there is ink.
        text
            Digits.
        left, top
            Where the first begins, in pixels.
        size
            Of the square that each is in; a digit is five sevenths as high.
        step
            From one to the next; 0 for three quarters of the size.
        """
        for place, digit in enumerate(text):
            ink = Image.fromarray(self._waiting[digit].pop()).resize((size, size))
            at = left + place * (step or round(0.75 * size)), top
            page.paste(0, at, ink)


def paper(width: int, height: int, seed: int = 0) -> Image.Image:
    """Grey paper with some noise, as a scanner gives it."""
    noise = np.random.default_rng(seed).normal(0, 3, (height, width))
    return Image.fromarray(np.clip(235 + noise, 0, 255).astype(np.uint8))
