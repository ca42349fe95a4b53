"""How many digits :func:`fastdigit.normalize` and the shipped network read, by kind of picture.

    python benchmarks/pictures.py [--images IDX --labels IDX] [--sheet PNG] [--count N] [KIND ...]

The kinds are those of tests/support/pictures.py. Tune on MNIST's training digits (``--images``,
``--labels``: uncompressed IDX files); without these, the test digits of the package are taken.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import fastdigit
from benchmarks import digits as mnist
from fastdigit.errors import InputError
from tests.support.pictures import KINDS, make

# Pictures of a sheet.
SHOWN = 24


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kinds", nargs="*", default=list(KINDS), metavar="KIND")
    mnist.add_options(parser)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=60)
    options = parser.parse_args()
    digits, labels = mnist.load(options)
    chosen = slice(options.first, options.first + options.count)
    misread: list[tuple[float, Any, str]] = []
    print(f"{'kind':24} {'right':>7} {'refused':>8} {'wrong at 0.9':>13} {'ms':>7}")
    for kind in options.kinds:
        right = refused = sure = wrong = 0
        seconds = 0.0
        for picture, label in zip(make(kind, digits[chosen], 1), labels[chosen], strict=True):
            start = time.process_time()
            try:
                image = fastdigit.normalize(picture)
            except InputError:
                refused += 1
                misread.append((0.0, picture, f"{kind}: {label}, refused"))
                continue
            finally:
                seconds += time.process_time() - start
            probabilities = fastdigit.predict_proba(image[None])[0]
            good = int(probabilities.argmax()) == label
            right += good
            if not good:
                sureness = float(probabilities.max())
                caption = f"{kind}: {label}, read {probabilities.argmax()} at {sureness:.2f}"
                misread.append((sureness, picture, caption))
            if probabilities.max() >= 0.9:
                sure += 1
                wrong += not good
        count = len(labels[chosen])
        print(
            f"{kind:24} {right / count:7.1%} {refused / count:8.1%} {wrong / max(1, sure):13.1%} "
            f"{1e3 * seconds / count:7.2f}",
            flush=True,
        )
    if options.sheet:
        misread.sort(key=lambda one: -one[0])
        pictures = [(picture, caption) for _, picture, caption in misread[:SHOWN]]
        mnist.draw_sheet(options.sheet, pictures, (170, 112), 6)


if __name__ == "__main__":
    main()
