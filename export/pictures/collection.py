"""The collection of pictures: which kinds, how many, for training and for validation.

    python -m export.pictures OUT.npz [--writers FILE] [--fonts DIR] [--count N] [--validation]

It is a function of the digits, the fonts, the count and the seed: picture `k` is drawn from a
generator seeded with (seed, k). Every picture has gone through :func:`fastdigit.normalize`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from export.pictures import drawn, others, paper, printed
from export.recipes import RECIPES
from export.split import held_out, read_writers
from fastdigit.datasets import load_mnist
from fastdigit.errors import FastDigitError, pip_install

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["KINDS", "NO_DIGIT", "Maker", "main", "read"]

#: Label of what is no digit.
NO_DIGIT: Final = 10

#: Fonts' letters and signs that nobody takes for a digit.
SIGNS: Final = "ACEFHKLMNPRTUVWXacdefhjkmnprtuvwx&%#@+=*€$"
#: Letters that are kept for validation, drawn and printed.
SIGNS_HELD_OUT: Final = "KRMehpw%@"
#: Kinds of which any part is as good as the whole.
FORMLESS: Final = ("scribble", "lines", "mark")
#: Tries until a picture has what :func:`fastdigit.normalize` takes for one digit.
TRIES: Final = 50


@dataclass(eq=False)
class Maker:
    """Draws pictures of each kind.

    Parameters
    ----------
    digits, labels
        MNIST's, of the writers of this part.
    fonts
        Files of each family of this part.
    validation
        Styles and letters that training does not see, in place of those that it sees.
    """

    digits: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    fonts: list[list[Path]]
    validation: bool = False

    def picture(self, kind: str, random: np.random.Generator) -> tuple[NDArray[np.uint8], int]:
        """A picture as the network sees it, and its label."""
        for _ in range(TRIES):
            made = KINDS[kind](self, random)
            if made is None:
                continue
            ink, label = made
            image = paper.seen(paper.photographed(ink, random))
            if image is not None and (kind in FORMLESS or paper.is_found(image, ink)):
                return image, label
        raise FastDigitError(f"no picture of kind {kind!r} could be normalized in {TRIES} tries")

    def digit(self, random: np.random.Generator) -> tuple[Floats, int]:
        """One of MNIST, large."""
        k = int(random.integers(len(self.digits)))
        return paper.enlarged(self.digits[k]), int(self.labels[k])

    def letter(self, random: np.random.Generator, signs: str) -> str:
        usable = [sign for sign in signs if (sign in SIGNS_HELD_OUT) == self.validation]
        return str(random.choice(usable))

    def from_font(self, random: np.random.Generator, text: str) -> Floats | None:
        # The last two families of validation have nothing but segments.
        families = self.fonts[:-2] if self.validation else self.fonts
        family = families[int(random.integers(len(families)))]
        return printed.character(family[int(random.integers(len(family)))], text)


Made = tuple["Floats", int] | None


def _worn(maker: Maker, random: np.random.Generator) -> Made:
    ink, label = maker.digit(random)
    return paper.worn(ink, random), label


def _drawn(maker: Maker, random: np.random.Generator) -> Made:
    label = int(random.integers(10))
    styles = drawn.DIGITS[label]
    style = styles[-1] if maker.validation else styles[int(random.integers(len(styles) - 1))]
    narrow = label == 1 and "100,100" not in style and "95,100" not in style
    ink = drawn.draw(style, random, drawn.NARROW if narrow else drawn.ASPECT)
    return (paper.worn(ink, random) if random.random() < 0.2 else ink), label


def _printed(maker: Maker, random: np.random.Generator) -> Made:
    label = int(random.integers(10))
    ink = maker.from_font(random, str(label))
    if ink is None:
        return None
    return (paper.worn(ink, random) if random.random() < 0.2 else ink), label


def _segments(maker: Maker, random: np.random.Generator) -> Made:
    label = int(random.integers(10))
    if not maker.validation:
        return printed.segments(label, random), label
    family = maker.fonts[-1 - int(random.integers(2))]
    ink = printed.character(family[int(random.integers(len(family)))], str(label))
    return None if ink is None else (ink, label)


def _letter_drawn(maker: Maker, random: np.random.Generator) -> Made:
    sign = maker.letter(random, "".join(key for key in drawn.LETTERS if len(key) == 1))
    style = drawn.LETTERS[sign]
    if not maker.validation and random.random() < 0.06:
        style = drawn.LETTERS["alpha" if random.random() < 0.5 else "check"]
    return drawn.draw(style, random, drawn.WIDE), NO_DIGIT


def _letter_printed(maker: Maker, random: np.random.Generator) -> Made:
    ink = maker.from_font(random, maker.letter(random, SIGNS))
    return None if ink is None else (ink, NO_DIGIT)


def _pair(maker: Maker, random: np.random.Generator) -> Made:
    count = 3 if random.random() < 0.12 else 2
    if random.random() < 0.2:
        inks = [maker.from_font(random, str(random.integers(10))) for _ in range(count)]
        inks = [ink for ink in inks if ink is not None]
    else:
        inks = [maker.digit(random)[0] for _ in range(count)]
    return others.pair(inks, random), NO_DIGIT  # type: ignore[arg-type]


def _piece(maker: Maker, random: np.random.Generator) -> Made:
    ink = others.piece(*maker.digit(random), random)
    return None if ink is None else (ink, NO_DIGIT)


def _lying(maker: Maker, random: np.random.Generator) -> Made:
    ink = others.lying(*maker.digit(random), random)
    return None if ink is None else (ink, NO_DIGIT)


def _crossed_out(maker: Maker, random: np.random.Generator) -> Made:
    return others.crossed_out(maker.digit(random)[0], random), NO_DIGIT


def _scribble(maker: Maker, random: np.random.Generator) -> Made:
    return others.scribble(random), NO_DIGIT


def _lines(maker: Maker, random: np.random.Generator) -> Made:
    return others.lines(random), NO_DIGIT


def _mark(maker: Maker, random: np.random.Generator) -> Made:
    return others.mark(random), NO_DIGIT


#: How each kind is made: ink, and its label; None where another draw is needed.
KINDS: Final[dict[str, Callable[[Maker, np.random.Generator], Made]]] = {
    "worn": _worn,
    "drawn": _drawn,
    "printed": _printed,
    "segments": _segments,
    "letter-drawn": _letter_drawn,
    "letter-printed": _letter_printed,
    "pair": _pair,
    "piece": _piece,
    "lying": _lying,
    "crossed-out": _crossed_out,
    "scribble": _scribble,
    "lines": _lines,
    "mark": _mark,
}
#: Their shares in training, in the same order; validation has the same number of each.
SHARES: Final = (0.2, 0.22, 0.13, 0.04, 0.06, 0.08, 0.1, 0.06, 0.04, 0.02, 0.015, 0.02, 0.015)


#: What a process draws with; sent to it once.
_maker: Maker


def _start(maker: Maker) -> None:
    global _maker
    _maker = maker


def _part(
    kinds: NDArray[np.int64], numbers: range, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    names = list(KINDS)
    images = np.empty((len(numbers), 28, 28), np.uint8)
    labels = np.empty(len(numbers), np.uint8)
    for place, k in enumerate(numbers):
        random = np.random.default_rng([seed, k])
        images[place], labels[place] = _maker.picture(names[kinds[k]], random)
    return images, labels


def collect(
    maker: Maker, count: int, seed: int, processes: int = 2
) -> dict[str, NDArray[np.uint8]]:
    """Draw `count` pictures: their images, labels and kinds (numbers of :data:`KINDS`)."""
    names = list(KINDS)
    if maker.validation:
        kinds = np.arange(count) % len(names)
    else:
        edges = np.cumsum(SHARES) / sum(SHARES)
        kinds = np.searchsorted(edges, (np.arange(count) + 0.5) / count)
    step = max(1, min(1000, count // processes))
    parts = [range(first, min(first + step, count)) for first in range(0, count, step)]
    with ProcessPoolExecutor(processes, initializer=_start, initargs=(maker,)) as pool:
        n = len(parts)
        done = list(pool.map(_part, [kinds] * n, parts, [seed] * n))
    return {
        "images": np.concatenate([images for images, _ in done]),
        "labels": np.concatenate([labels for _, labels in done]),
        "kinds": kinds.astype(np.uint8),
    }


def read(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images and labels of a collection.

    Raises
    ------
    FastDigitError
        The file can't be read or is none.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            images, labels = file["images"], file["labels"]
    except (OSError, ValueError, KeyError) as error:
        raise FastDigitError(f"can't read pictures from {path}: {error}") from error
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        raise FastDigitError(
            f"{path} has images of {images.dtype} {images.shape} and labels of shape "
            f"{labels.shape}, expected uint8 (N, 28, 28) and a label for each"
        )
    if labels.max(initial=0) > NO_DIGIT:
        raise FastDigitError(f"{path} has a label {labels.max()}, expected 0 .. {NO_DIGIT}")
    return images, labels


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m export.pictures",
        description="Draw pictures of digits, and of what is none, for training or validation.",
    )
    add = parser.add_argument
    add("output", type=Path, metavar="OUT.npz")
    add("--count", type=int, default=120_000, help="pictures; default: 120000")
    add("--seed", type=int, default=1)
    add("--validation", action="store_true", help="of writers, styles, fonts that are held out")
    add("--fonts", type=Path, default=Path("/usr/share/fonts"), help="default: /usr/share/fonts")
    add("--writers", type=Path, help="npz that says who wrote what, as export.train takes it")
    add("--data", type=Path, help="directory with the IDX files, or mnist.npz; default: find them")
    add("--processes", type=int, default=2)
    options = parser.parse_args(arguments)
    try:
        (images, labels), _ = load_mnist(options.data)
        writers = read_writers(options.writers, len(images)) if options.writers else None
        mask = held_out(RECIPES["digits"], len(images), writers)
        chosen = mask if options.validation else ~mask
        families = printed.HELD_OUT if options.validation else printed.TRAINING
        fonts = printed.find_fonts(options.fonts, families)
        maker = Maker(images[chosen], labels[chosen], fonts, options.validation)
        seed = options.seed + 1_000_000 * options.validation
        made = collect(maker, options.count, seed, options.processes)
        np.savez(options.output, **made)
    except (FastDigitError, OSError, ValueError) as error:
        print(f"export.pictures: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        print(f"export.pictures: {error}; it needs: {pip_install('export')}", file=sys.stderr)
        return 1
    print(f"{options.output}: {len(made['images']):,} pictures")
    return 0
