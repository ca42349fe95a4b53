"""Whether the probabilities of :func:`fastdigit.read` come true: of fields, and of their digits.

    python benchmarks/read_probabilities.py --images IDX --labels IDX --writers NPZ [--count N]
        [--mixed N] [--seed N]

Fields are of the kinds of tests/support/fields.py, ``--count`` of each, and ``--mixed`` of those of
export/fields.py, with letters, dashes and rests of lines between the digits. Only digits of the
writers are taken that ``--writers`` holds out, as of trainings; so this may be used to tune.

It prints how many fields and digits are right, by what was said of them; what ``reject_below``
leaves and how much of that is wrong; and by which factors the constants of fastdigit/reader/ways.py
would have to be multiplied so that probabilities come truer: no text changes by them.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import fastdigit
from benchmarks import digits as mnist
from export.fields import OTHER, field
from export.split import read_writers
from fastdigit.images.ink import checked, grey_of, reduced
from fastdigit.reader.judge import judged
from fastdigit.reader.proposals import propose
from fastdigit.reader.reading import PAGE_SIDE
from fastdigit.reader.ways import Ways, ways_of
from tests.support.fields import KINDS, make

EDGES = (0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.97, 0.99, 1.01)
LIMITS = (0.5, 0.8, 0.9, 0.97, 0.99)
FACTORS = np.linspace(0.4, 2, 33)
# The constants of ways.py, by what they are for.
CASES = {"pieces": "1 / TEMPERATURE", "whole": "OF_WHOLE", "cut": "OF_CUT"}

# What was said, and whether it is right.
Told = list[tuple[float, bool]]


def fields(
    images: Any, labels: Any, count: int, mixed: int, seed: int
) -> Iterator[tuple[Any, str, bool]]:
    """A picture, its digits, and whether it is one field in one line."""
    for kind in KINDS:
        for image, text in make(kind, count, images, labels, seed):
            yield image, text, True
    random = np.random.default_rng([seed, 7])
    for _ in range(mixed):
        made = field(images, labels, random)
        text = "".join(str(label) for label in made.labels if label != OTHER)
        yield made.grey, text, False


def digits_of(reading: Any, text: str) -> Told:
    """Of each digit what was said, and whether it stands there: counted from both ends."""
    read = "".join(reading.text.split())
    before = sum(1 for _ in _alike(read, text))
    behind = sum(1 for _ in _alike(read[::-1], text[::-1]))
    behind = min(behind, min(len(read), len(text)) - before)
    found = [digit for one in reading.fields for digit in one.digits]
    return [
        (
            digit.probability,
            read[n] == text[n] if len(read) == len(text) else n < before or n >= len(read) - behind,
        )
        for n, digit in enumerate(found)
    ]


def _alike(first: str, second: str) -> Iterator[str]:
    for one, other in zip(first, second, strict=False):
        if one != other:
            return
        yield one


def ways_in(image: Any) -> list[Ways]:
    """How each field of a picture may be read, as :func:`fastdigit.read` does it."""
    found = []
    for line in propose(grey_of(reduced(checked(image), PAGE_SIDE))):
        for proposals in line:
            if len(proposals.candidates):
                probabilities, _ = judged(proposals.candidates, proposals.height)
                found.append(ways_of(proposals, probabilities))
    return found


def case_of(ways: Ways) -> str:
    if ways.steps is None:
        return "pieces"
    return "cut" if ways.cut else "whole"


def print_reliability(name: str, told: Told) -> None:
    said, right = (np.array(values, float) for values in zip(*told, strict=True))
    print(f"{name}: {len(said)}, right {100 * right.mean():.1f} %, loss {loss(said, right):.4f}")
    print(f"{'said':>12} {'how many':>9} {'said, %':>8} {'right, %':>9}")
    for low, high in itertools.pairwise(EDGES):
        own = (said >= low) & (said < high)
        if own.any():
            means = f"{100 * said[own].mean():8.1f} {100 * right[own].mean():9.1f}"
            print(f"{low:5.2f}..{min(high, 1):5.2f} {own.sum():9} {means}")


def print_coverage(told: Told) -> None:
    said, right = (np.array(values, float) for values in zip(*told, strict=True))
    print("reject_below  read, %  of these wrong, %")
    for limit in LIMITS:
        own = said >= limit
        wrong = 100 * (1 - right[own].mean()) if own.any() else float("nan")
        print(f"{limit:12} {100 * own.mean():8.1f} {wrong:18.2f}")


def loss(said: Any, right: Any) -> float:
    """The mean of the negative logarithm of what was said of what came true."""
    said = np.clip(said, 1e-6, 1 - 1e-6)
    return float(-np.mean(np.where(right > 0, np.log(said), np.log(1 - said))))


def print_factors(seen: dict[str, list[tuple[Any, bool]]]) -> None:
    for case, told in seen.items():
        if not told:
            continue
        right = np.array([good for _, good in told], float)
        losses = []
        for factor in FACTORS:
            # The powers of shares are those of scores that are multiplied.
            tops = [1 / ((shares / shares[0]) ** factor).sum() for shares, _ in told]
            losses.append(loss(np.array(tops), right))
        best, now = int(np.argmin(losses)), int(np.argmin(abs(FACTORS - 1)))
        print(
            f"{CASES[case]:>16} x {FACTORS[best]:.2f}: loss {losses[now]:.4f} -> "
            f"{losses[best]:.4f}, of {len(told)} fields"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    mnist.add_options(parser)
    parser.add_argument("--writers", type=Path, required=True, metavar="NPZ")
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--mixed", type=int, default=250)
    parser.add_argument("--seed", type=int, default=33)
    options = parser.parse_args()
    images, labels = mnist.load(options)
    held = read_writers(options.writers, len(images))
    of_fields: Told = []
    of_digits: Told = []
    seen: dict[str, list[tuple[Any, bool]]] = {case: [] for case in CASES}
    made = fields(images[held], labels[held], options.count, options.mixed, options.seed)
    for image, text, one_field in made:
        reading = fastdigit.read(image)
        if reading.fields:
            read = reading.text if one_field else "".join(reading.text.split())
            every = float(np.prod([one.probability for one in reading.fields]))
            of_fields.append((every, read == text))
            of_digits += digits_of(reading, text)
        written = [ways for ways in ways_in(image) if ways.found[0].text]
        if len(written) == 1:
            (ways,) = written
            shares = np.array([way.share for way in ways.found])
            seen[case_of(ways)].append((shares, ways.found[0].text == text))
    print_reliability("fields", of_fields)
    print_coverage(of_fields)
    print_reliability("digits", of_digits)
    print_factors(seen)


if __name__ == "__main__":
    main()
