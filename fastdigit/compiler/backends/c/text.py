"""Numbers, strings and loops as C."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastdigit.compiler.ir import Pool
from fastdigit.errors import UnsupportedError

__all__ = ["identifiers", "image", "initializer", "loops", "number", "shown", "string", "window"]


def image(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Three axes: a vector is one pixel."""
    return (1,) * (3 - len(shape)) + tuple(shape)


def loops(shape: tuple[int, ...]) -> list[str]:
    """Over the rows, columns and channels of an image."""
    return [
        f"for (int {name} = 0; {name} < {size}; {name}++)"
        for name, size in zip("rco", shape, strict=True)
    ]


def window(pool: Pool) -> list[str]:
    """Loops over the pixels (r, c) of the window that belongs to output (i, j)."""
    (down, right), (height, width) = pool.stride, pool.size
    return [
        f"for (int r = i * {down} - {pool.pad[0]}, p = 0; p < {height}; r++, p++)",
        f"for (int c = j * {right} - {pool.pad[1]}, q = 0; q < {width}; c++, q++) {{",
    ]


def identifiers(names: Sequence[str]) -> list[str]:
    """Names as the ends of identifiers, also of such in capitals: no two are the same."""
    made: list[str] = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "value"
        choices = (plain, *(f"{plain}_{number}" for number in range(2, len(names) + 2)))
        known = {other.upper() for other in made}
        made.append(next(choice for choice in choices if choice.upper() not in known))
    return made


def initializer(array: np.ndarray[Any, Any], depth: int) -> Iterator[str]:
    indent = "    " * min(depth, 4)
    if array.ndim > 1:
        for index, part in enumerate(array):
            yield f"{indent}{{"
            yield from initializer(part, depth + 1)
            yield f"{indent}}}{',' if index + 1 < len(array) else ''}"
        return
    numbers = [number(item) for item in array]
    for start in range(0, len(numbers), 8):
        yield indent + ", ".join(numbers[start : start + 8]) + ","


def number(value: Any) -> str:
    """A C literal that reads back as exactly this number."""
    if isinstance(value, np.integer):
        return str(int(value))
    number = float(np.float32(value))
    if not math.isfinite(number):
        raise UnsupportedError(f"a weight is {number}, which C has no literal for")
    text = f"{number:.9g}"
    return text + ("f" if re.search(r"[.e]", text) else ".0f")


def string(text: str) -> str:
    """A C string literal; whatever is not plain ASCII is written in octal."""
    plain = [
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}"
        for byte in str(text).encode()
    ]
    return '"' + "".join(plain) + '"'


def shown(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
