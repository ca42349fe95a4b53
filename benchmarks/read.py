"""How many whole fields :func:`fastdigit.read` reads, by kind of field, and its time.

    python benchmarks/read.py [--images IDX --labels IDX] [--sheet PNG] [--count N] [KIND ...]

The kinds are those of tests/support/fields.py. Tune on MNIST's training digits (``--images``,
``--labels``: uncompressed IDX files); without these, the test digits of the package are taken.
Tesseract (the command) and RapidOCR (the package rapidocr-onnxruntime) are measured beside it where
they are installed, or one of them with ``--only NAME``. ``--sheet`` draws what ours misread.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import fastdigit
from benchmarks import digits as mnist
from tests.support.fields import HARD, KINDS, make

# What a reader says: the digits, and how sure it is of all of them, if it tells.
Reader = Callable[[Any], tuple[str, float | None]]
SURE = 0.9
# Fields of a sheet.
SHOWN = 24


def ours() -> Reader:
    def run(image: Any) -> tuple[str, float | None]:
        reading = fastdigit.read(image)
        fields = reading.fields
        # Of nothing read, there is no probability.
        probability = float(np.prod([field.probability for field in fields])) if fields else None
        return reading.text, probability

    return run


def tesseract() -> Reader | None:
    command = shutil.which("tesseract")
    if command is None:
        return None
    from PIL import Image

    only = "tessedit_char_whitelist=0123456789"
    # One line of text is expected, and digits alone: the best that its documentation offers.
    arguments = [command, "stdin", "stdout", "--psm", "7", "-c", only]

    def run(image: Any) -> tuple[str, float | None]:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        done = subprocess.run(
            arguments,
            input=file.getvalue(),
            capture_output=True,
            check=True,
            env={"OMP_THREAD_LIMIT": "1"},
        )
        return done.stdout.decode().strip(), None

    return run


def rapidocr() -> Reader | None:
    try:
        from rapidocr_onnxruntime import RapidOCR
    except ImportError:
        return None
    engine = RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)

    def run(image: Any) -> tuple[str, float | None]:
        # The field is one line: detection would only lose digits.
        found, _ = engine(np.repeat(image[..., None], 3, 2), use_det=False, use_cls=False)
        text = "".join(part[0] for part in found or [])
        return "".join(filter(str.isdigit, text)), None

    return run


READERS: dict[str, Callable[[], Reader | None]] = {
    "fastdigit": ours,
    "tesseract": tesseract,
    "rapidocr": rapidocr,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kinds", nargs="*", default=list(KINDS), metavar="KIND")
    mnist.add_options(parser)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=list(READERS))
    options = parser.parse_args()
    digits, labels = mnist.load(options)
    fields = {
        kind: list(make(kind, options.count, digits, labels, options.seed))
        for kind in options.kinds
    }
    for name in [options.only] if options.only else list(READERS):
        reader = READERS[name]()
        if reader is None:
            print(f"{name}: not installed")
            continue
        print(f"{name:12} {'right':>7} {'wrong at ' + str(SURE):>13} {'ms a field':>11}")
        means = []
        misread: list[tuple[float, Any, str]] = []
        for kind, made in fields.items():
            right, seconds = 0, []
            sure = wrong = 0
            for image, text in made:
                start = time.perf_counter()
                read, probability = reader(image)
                seconds.append(time.perf_counter() - start)
                good = read == text
                right += good
                if probability is not None and probability >= SURE:
                    sure += 1
                    wrong += not good
                if not good:
                    said = f"read {read} at {probability:.2f}" if read else "read nothing"
                    caption = f"{kind}: {text}, {said}"
                    misread.append((probability or 0.0, image, caption))
            if kind not in HARD:
                means.append(right / len(made))
            told = f"{100 * wrong / sure:11.1f} %" if sure else f"{'-':>13}"
            print(
                f"{kind:12} {100 * right / len(made):5.1f} % {told} "
                f"{1e3 * np.median(seconds):11.1f}"
            )
        if means:
            print(
                f"{'mean':12} {100 * np.mean(means):5.1f} % of those without {' and '.join(HARD)}"
            )
        if options.sheet and name == "fastdigit":
            misread.sort(key=lambda one: -one[0])
            pictures = [(image, caption) for _, image, caption in misread[:SHOWN]]
            mnist.draw_sheet(options.sheet, pictures, (330, 70), 3)


if __name__ == "__main__":
    main()
